/**
 * Functions that are servers: `http.createServer(app).listen(3000)`. While the Function's code loads, the first
 * `listen` of an HTTP server is taken instead of carried out: the server believes that it listens, and each request is
 * handed to it. Later ones listen really.
 */
import { Server } from "node:http";

const lateListenMs = 1000;

export class ListenCapture {
  /** @type {Server | undefined} */
  #server;
  /** @type {(() => void) | undefined} */
  #taken;

  constructor() {
    const capture = this;
    Server.prototype.listen = function (/** @type {any[]} */ ...options) {
      capture.#take(this, options);
      return this;
    };
  }

  /** @param {Server} server @param {any[]} options */
  #take(server, options) {
    this.end();
    this.#server = server;
    const callback = options.findLast((option) => typeof option === "function");
    if (callback !== undefined) server.once("listening", callback);
    const asked = Number(options[0]?.port ?? options[0]);
    const port = asked > 0 ? asked : 3000;
    Object.defineProperties(server, {
      listening: { value: true, configurable: true, writable: true },
      address: { value: () => ({ address: "127.0.0.1", family: "IPv4", port }), configurable: true, writable: true },
    });
    process.nextTick(() => server.emit("listening"));
    this.#taken?.();
  }

  /** The server that asked to listen; waits a second for it when the code listens only after an await. */
  async late() {
    if (this.#server === undefined) {
      await /** @type {Promise<void>} */ (
        new Promise((resolve) => {
          const timer = setTimeout(resolve, lateListenMs);
          this.#taken = () => {
            clearTimeout(timer);
            resolve();
          };
        })
      );
    }
    return this.#server;
  }

  /** From now on servers listen really. */
  end() {
    // Server.prototype has none of its own: it inherits net.Server's.
    Reflect.deleteProperty(Server.prototype, "listen");
  }
}

/**
 * @param {Server} server
 * @returns {((request: unknown, response: unknown) => void) & { server: Server }} with the server, whose listeners may want upgrades
 */
export function serverHandler(server) {
  if (server.listenerCount("request") === 0 && server.listenerCount("upgrade") === 0) {
    throw new TypeError("The server that listens has no request listener.");
  }
  const handler = (/** @type {unknown} */ request, /** @type {unknown} */ response) => void server.emit("request", request, response);
  return Object.assign(handler, { server });
}
