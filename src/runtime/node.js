/**
 * The guest: Node's side of the guest protocol (protocol.js). It starts generic, warms itself up, says ready, becomes
 * one Function on `load` and answers its requests, one at a time, until the host destroys it.
 * A handler that throws ends the process with code 1; what Node does with uncaught exceptions is left as it is.
 */
import { createServer, ServerResponse } from "node:http";
import { Socket } from "node:net";
// An Edge Function's scope has another global of that name.
import process from "node:process";
import { StringDecoder } from "node:string_decoder";
import { loadFailureLengthMax, purgedHeader, recordHeader } from "./protocol.js";
import { learnPurges } from "./purged-tags.js";
import { publishContext, RequestContext, runInContext } from "./request-context.js";
import { loadedPack, loadHandler } from "./handler.js";
import { RequestSocket } from "./request-socket.js";
import { publishNextCache } from "./next-cache.js";
import { mapStackTraces } from "./source-maps.js";

/** @typedef {import("node:http").IncomingMessage} IncomingMessage */
/** @typedef {import("./handler.js").Handler} Handler */
/** @typedef {import("./protocol.js").GuestMessage} GuestMessage */
/** @typedef {import("./protocol.js").HostMessage} HostMessage */

// Taken before a Function can replace them.
const { exit, hrtime } = process;

/** Requests before are the warm-up's own. */
let loaded = false;
/** @type {Handler} */
let handler = (_request, response) => void response.writeHead(503).end();
/** @type {RequestSocket | undefined} */
let requests;
/** The request connection belongs to the Function. */
let upgraded = false;

// ── control ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const control = new Socket({ fd: 3, readable: true, writable: true });
const decoder = new StringDecoder();
let unread = "";

control.on("data", (chunk) => {
  const lines = (unread + decoder.write(chunk)).split("\n");
  unread = lines.pop() ?? "";
  for (const line of lines) receive(JSON.parse(line));
});
// Without its host an instance has no reason to be.
control.on("close", () => exit(0));
control.on("error", () => exit(0));

/** @param {GuestMessage} message @param {() => void} [sent] */
function say(message, sent) {
  control.write(`${JSON.stringify(message)}\n`, sent);
}

/** @param {HostMessage} message */
function receive(message) {
  if (message.type === "load") void load(message);
  else leave();
}

/**
 * Says goodbye as to a process that got SIGTERM. Without a listener it ends at once; with one it ends by itself, when
 * nothing is left to do. The host's patience is limited.
 */
function leave() {
  if (process.listenerCount("SIGTERM") === 0) exit(0);
  control.unref();
  requests?.unref();
  // As Node does it, with the signal's number, which its types do not know.
  /** @type {NodeJS.EventEmitter} */ (process).emit("SIGTERM", "SIGTERM", 15);
}

/** @param {import("./protocol.js").LoadMessage} message */
async function load(message) {
  const begun = hrtime.bigint();
  try {
    process.chdir(message.root);
    mapStackTraces();
    Object.assign(process.env, message.env);
    process.argv[1] = `${message.root}/${message.handler}`;
    handler = await loadHandler(message);
    if ("server" in handler) passUpgrades(/** @type {import("node:http").Server} */ (handler.server));
  } catch (error) {
    console.error(error);
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    say({ type: "load-failed", message: text.slice(0, loadFailureLengthMax) }, () => exit(1));
    return;
  }
  loaded = true;
  say({ type: "loaded", ms: Number((hrtime.bigint() - begun) / 10_000n) / 100, pack: loadedPack()?.use });
}

// ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Its last piece may wait for the word that nothing is pending. */
class Response extends ServerResponse {
  /** @override @param {...any} parts */
  end(...parts) {
    const end = () => super.end(.../** @type {[]} */ (parts));
    return this.socket instanceof RequestSocket ? this.socket.holding(end) : end();
  }
}

const server = createServer(
  // The host has limits of its own; a timer of ours would be overdue at the thaw and close the connection.
  {
    keepAliveTimeout: 0,
    requestTimeout: 0,
    headersTimeout: 0,
    requireHostHeader: false,
    maxHeaderSize: 1_048_576,
    ServerResponse: Response,
  },
  onRequest,
);
server.timeout = 0;

/** @param {IncomingMessage} request @param {ServerResponse} response */
function onRequest(request, response) {
  if (request.rawHeaders[0] === recordHeader) return void record(request, response);
  const purged = request.headers[purgedHeader];
  if (purged !== undefined) {
    learnPurges(String(purged));
    delete request.headers[purgedHeader];
  }
  const context = new RequestContext(request, response);
  // An answer after the answer: the first stands, the error is logged.
  response.on("error", (error) => console.error(error));
  response.on("close", () => sayIdle(context));
  runInContext(context, () => void answer(request, response));
}

/** The platform asks, not a client. @param {IncomingMessage} request @param {ServerResponse} response */
function record(request, response) {
  const bytes = loadedPack()?.record(Number(request.url?.slice(1)));
  response.writeHead(bytes === undefined ? 204 : 200, bytes === undefined ? {} : { "content-length": bytes.length }).end(bytes);
}

/** As soon as nothing is pending. @param {RequestContext} context */
function sayIdle(context) {
  if (!loaded) return;
  if (!context.busy) return requests?.idle();
  requests?.release();
  void context.settled().then(() => requests?.idle());
}

/**
 * Lets the listeners of a Function's own server have upgrades (WebSockets), as soon as there are any. The connection is
 * theirs from then on: it is used up when it closes, and the host retires this process.
 * @param {import("node:http").Server} own
 */
function passUpgrades(own) {
  const pass = () => {
    if (server.listenerCount("upgrade") > 0) return;
    server.on("upgrade", (request, socket, head) => {
      const context = new RequestContext(request);
      upgraded = true;
      socket.on("close", () => void context.settled().then(() => say({ type: "idle" })));
      runInContext(context, () => void own.emit("upgrade", request, socket, head));
    });
  };
  if (own.listenerCount("upgrade") > 0) pass();
  else own.on("newListener", (name) => name === "upgrade" && pass());
}

/** @param {IncomingMessage} request @param {ServerResponse} response */
async function answer(request, response) {
  try {
    await handler(request, response);
  } catch (error) {
    console.error(error);
    if (!response.writableEnded) exit(1);
  }
}

/** Serves `socket`, which stays open whatever a handler says of `connection`. @param {Socket} socket */
function serve(socket) {
  const destroySoon = socket.destroySoon.bind(socket);
  let current = /** @type {ServerResponse | undefined} */ (undefined);
  server.on("request", (_request, response) => (current = response));
  socket.destroySoon = () => {
    // A body that has no length ends with the connection; every other leaves it usable.
    if (current === undefined || !hasLength(current)) destroySoon();
  };
  server.emit("connection", socket);
}

/** @param {ServerResponse} response */
function hasLength(response) {
  const { _header: head, _hasBody: hasBody } = /** @type {{ _header?: string, _hasBody?: boolean }} */ (/** @type {unknown} */ (response));
  return hasBody === false || /\r\n(?:content-length|transfer-encoding):/i.test(head ?? "");
}

// ── begin ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

publishContext();
publishNextCache();
for (const stream of [process.stdout, process.stderr]) {
  // What was printed has left the process when it ends, and before it says that it is idle.
  const { _handle: handle } = /** @type {any} */ (stream);
  handle?.setBlocking?.(true);
}
if (process.argv.includes("--warm-up")) {
  const { warmUp } = await import("./warm-up.js");
  await warmUp(server, (dummy) => (handler = dummy));
}
requests = new RequestSocket({ fd: 4, readable: true, writable: true });
requests.on("close", () => {
  if (!upgraded) exit(0);
});
serve(requests);
process.argv.length = 1;
say({ type: "ready" });
