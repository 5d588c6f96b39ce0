/**
 * What a generic runtime does while nobody waits: it loads the built-ins that Functions use and serves itself a few
 * requests, so that the first real one meets compiled code. Nothing of it can be seen by the Function afterwards.
 */
import { randomBytes } from "node:crypto";
import { connect, createServer } from "node:net";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { loadHandler } from "./handler.js";
import { warmUpPacks } from "./module-pack.js";
import { webHandler } from "./web-handler.js";

/** @typedef {import("./handler.js").Handler} Handler */

const roundsPerHandler = 3;

const builtins = [
  "assert",
  "buffer",
  "child_process",
  "crypto",
  "dns",
  "events",
  "fs",
  "fs/promises",
  "http",
  "https",
  "net",
  "os",
  "path",
  "perf_hooks",
  "process",
  "querystring",
  "stream",
  "stream/promises",
  "string_decoder",
  "timers",
  "timers/promises",
  "tls",
  "tty",
  "url",
  "util",
  "vm",
  "worker_threads",
  "zlib",
];

/**
 * @param {import("node:http").Server} server
 * @param {(handler: Handler) => void} become
 */
export async function warmUp(server, become) {
  const require = createRequire(import.meta.url);
  for (const name of builtins) require(`node:${name}`);
  warmUpPacks();
  await import("./edge.js");
  const root = dirname(new URL(import.meta.url).pathname);
  const plain = await loadHandler({ type: "load", root, handler: "warm-up.cjs", helpers: true, awsHandler: "", env: {} });

  const web = /** @type {Handler} */ (
    webHandler({
      GET: () => Response.json({ a: 1 }),
      POST: async (/** @type {Request} */ request) => new Response(await request.text(), { headers: { "x-warm": "up" } }),
    })
  );

  // A name in the abstract namespace: no file, no port. Where there is none (macOS), warming up ends here.
  const listener = createServer((socket) => void server.emit("connection", socket));
  const path = `\0mayfly-warm-up-${randomBytes(12).toString("hex")}`;
  const listening = await new Promise((resolve) => {
    listener.once("error", () => resolve(false)).listen(path, () => resolve(true));
  });
  if (!listening) return;
  const socket = connect(path);
  /** @param {string} method @param {string} [body] */
  const exchange = (method, body = "") =>
    new Promise((resolve, reject) => {
      let answer = "";
      const onData = (/** @type {Buffer} */ chunk) => {
        answer += chunk.toString("latin1");
        if (!answer.endsWith("}") && !answer.endsWith("\r\n0\r\n\r\n")) return;
        socket.removeAllListeners();
        resolve(undefined);
      };
      socket.on("data", onData).once("error", reject).once("close", reject);
      const length = body === "" ? "" : `content-type: application/json\r\ncontent-length: ${body.length}\r\n`;
      socket.write(`${method} /?a=1 HTTP/1.1\r\nhost: localhost\r\n${length}\r\n${body}`);
    });
  for (const handler of [plain, web]) {
    become(handler);
    for (let round = 0; round < roundsPerHandler; round++) {
      await exchange("GET");
      await exchange("POST", '{"a":1}');
    }
  }
  socket.destroy();
  listener.close();
}
