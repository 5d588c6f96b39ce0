/** What does not fit into one answer: events that come one by one, and WebSockets, through the front door to a Function. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { lookup } from "node:dns";
import { before, it } from "node:test";
import { Agent, WebSocket } from "undici";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import type { Mayfly } from "../server.ts";

const site = {
  "api/events.js": `module.exports = async (req, res) => {
    res.setHeader("content-type", "text/event-stream");
    for (let n = 1; n <= 3; n++) {
      res.write("data: " + n + "\\n\\n");
      await new Promise((next) => setTimeout(next, 300));
    }
    res.end();
  };`,
  "package.json": JSON.stringify({ name: "socket", scripts: { start: "node server.js" } }),
  "server.js": `
    const { createHash } = require("node:crypto");
    const server = require("node:http").createServer((req, res) => res.end("http"));
    const frame = (text) => Buffer.concat([Buffer.from([0x81, Buffer.byteLength(text)]), Buffer.from(text)]);
    server.on("upgrade", (req, socket) => {
      const accept = createHash("sha1").update(req.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
      socket.write("HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Accept: " + accept + "\\r\\n\\r\\n");
      socket.write(frame("hello " + req.url));
      socket.on("data", (data) => {
        if ((data[0] & 0x0f) === 8) return socket.end(Buffer.from([0x88, 0]));
        const text = Buffer.alloc(data[1] & 0x7f);
        for (let at = 0; at < text.length; at++) text[at] = data[6 + at] ^ data[2 + (at % 4)];
        socket.write(frame("<" + text + ">"));
      });
    });
    server.listen(process.env.PORT || 3000);`,
};

let mayfly: Mayfly;
let url: URL;
before(async () => {
  mayfly = await startMayfly();
  url = new URL(await mayfly.deploy(projectDirectory({ "api/events.js": site["api/events.js"] })));
});

it("events arrive one by one, as they are written", async () => {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const asked = httpRequest({ host: "127.0.0.1", port: mayfly.port, path: "/api/events", headers: { host: url.host } });
    asked.on("response", resolve).on("error", reject).end();
  });
  const chunks: string[] = [];
  for await (const chunk of response) chunks.push(String(chunk));
  assert.deepEqual(chunks, ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"]);
  assert.equal(response.headers["content-type"], "text/event-stream");
});

it("a WebSocket reaches a server that became a Function, and HTTP is answered beside it", async () => {
  const { "package.json": packageJson, "server.js": server } = site;
  const address = await mayfly.deploy(projectDirectory({ "package.json": packageJson, "server.js": server }));
  const dispatcher = new Agent({
    // Whatever DNS says of the host.
    connect: { lookup: (_host, options, done) => lookup("127.0.0.1", options, done) },
  });
  const socket = new WebSocket(`${address.replace("http", "ws")}/chat`, { dispatcher });
  const messages: string[] = [];
  socket.addEventListener("message", (event) => messages.push(String(event.data)));
  await once(socket, "open");
  const said = async (text: string) => {
    while (messages.length === 0) await once(socket, "message");
    assert.equal(messages.shift(), text);
  };
  await said("hello /chat");
  for (const word of ["one", "two"]) {
    socket.send(word);
    await said(`<${word}>`);
  }
  assert.equal((await mayfly.fetch(address)).text, "http");
  socket.close();
  await once(socket, "close");
  await dispatcher.close();
});
