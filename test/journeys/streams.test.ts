/** What does not fit into one answer: events that come one by one, and WebSockets, through the front door to a Function. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { lookup } from "node:dns";
import { connect, type ClientHttp2Stream } from "node:http2";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { before, it } from "node:test";
import { connect as connectTls } from "node:tls";
import { Agent, WebSocket } from "undici";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import { eventually, type Mayfly } from "../server.ts";

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
      if (req.url === "/large") {
        const size = 4_000_000;
        socket.write(Buffer.concat([Buffer.from([0x82, 127, 0, 0, 0, 0, size >> 24, (size >> 16) & 255, (size >> 8) & 255, size & 255]), Buffer.alloc(size, 7)]));
        let heard = 0;
        return socket.on("data", (data) => { if ((heard += data.length) === 1_000_014) socket.write(frame("heard all")); });
      }
      if (req.url === "/crash") setTimeout(() => process.exit(1), 200);
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
let httpsPort = 0;
before(async () => {
  httpsPort = await freePort();
  mayfly = await startMayfly({ flags: ["--https-port", String(httpsPort)] });
  url = new URL(await mayfly.deploy(projectDirectory({ "api/events.js": site["api/events.js"] })));
});

/** A server that is a Function: WebSockets at /chat. */
function chat(): string {
  const { "package.json": packageJson, "server.js": server } = site;
  return projectDirectory({ "package.json": packageJson, "server.js": server });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

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
  const address = await mayfly.deploy(chat());
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

it("a WebSocket carries large frames both ways, and is told when its Function's time is over", async () => {
  const project = chat();
  writeFileSync(join(project, "vercel.json"), JSON.stringify({ functions: { "server.js": { maxDuration: 5 } } }));
  const site = new URL(await mayfly.deploy(project, "--name", "timed"));
  const dispatcher = new Agent({ connect: { lookup: (_, options, done) => lookup("127.0.0.1", options, done) } });
  const begin = (path: string) => {
    const socket = new WebSocket(`ws://${site.host}${path}`, { dispatcher });
    socket.binaryType = "arraybuffer";
    const heard: (string | number)[] = [];
    socket.addEventListener("message", ({ data }) => void heard.push(typeof data === "string" ? data : (data as ArrayBuffer).byteLength));
    const closed = once(socket, "close") as Promise<[{ readonly code: number }]>;
    return { socket, heard, closed };
  };
  const large = begin("/large");
  await once(large.socket, "open");
  large.socket.send(Buffer.alloc(1_000_000, 1));
  await eventually("both ends have heard all", () => (large.heard.length === 3 ? true : null));
  assert.deepEqual(large.heard, ["hello /large", 4_000_000, "heard all"]);
  // A Function that dies takes its connection along, as a server would.
  assert.equal((await begin("/crash").closed)[0].code, 1006);
  // It says nothing more, and is told when its five seconds are over.
  assert.equal((await large.closed)[0].code, 1001);
  await dispatcher.close();
});

it("WebSockets and requests share a connection of HTTP/2; what is no WebSocket opens no tunnel", async () => {
  const { hostname } = new URL(await mayfly.deploy(chat()));
  const session = connect(`https://${hostname}`, {
    createConnection: () =>
      connectTls({ host: "127.0.0.1", port: httpsPort, servername: hostname, rejectUnauthorized: false, ALPNProtocols: ["h2"] }),
  });
  await once(session, "remoteSettings");
  assert.equal(session.remoteSettings.enableConnectProtocol, true);
  const tunnel = async (host: string, path: string, protocol = "websocket") => {
    const headers = { ":method": "CONNECT", ":protocol": protocol, ":scheme": "https", ":path": path, ":authority": host };
    const stream = session.request({ ...headers, "sec-websocket-version": "13" }, { endStream: false });
    const [response] = await once(stream, "response");
    return { stream, response };
  };
  const mask = (text: string): Buffer => Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]);
  const heard = async (stream: ClientHttp2Stream, text: string) => {
    let got = "";
    while (got.length < text.length + 2) got += String(stream.read() ?? (await once(stream, "readable"), ""));
    assert.equal(got.slice(2), text);
  };
  const sockets = await Promise.all([tunnel(hostname, "/chat?1"), tunnel(hostname, "/chat?2")]);
  for (const [index, { stream, response }] of sockets.entries()) {
    assert.deepEqual([response[":status"], response["sec-websocket-accept"], response["content-length"]], [200, undefined, undefined]);
    await heard(stream, `hello /chat?${index + 1}`);
    stream.write(mask("over h2"));
    await heard(stream, "<over h2>");
  }
  const page = session.request({ ":path": "/", ":authority": hostname }).setEncoding("utf8");
  let body = "";
  for await (const chunk of page) body += String(chunk);
  assert.equal(body, "http");
  for (const { stream } of sockets) {
    stream.write(Buffer.from([0x88, 0x80, 0, 0, 0, 0]));
    await once(stream.resume(), "close");
    assert.equal(stream.rstCode, 0);
  }
  // Another protocol, and a page that answers as it always does.
  await assert.rejects(tunnel(hostname, "/chat", "connect-udp"));
  session.destroy();
  const plain = connect(`https://${url.hostname}`, {
    createConnection: () =>
      connectTls({ host: "127.0.0.1", port: httpsPort, servername: url.hostname, rejectUnauthorized: false, ALPNProtocols: ["h2"] }),
  });
  await once(plain, "remoteSettings");
  const stream = plain.request(
    { ":method": "CONNECT", ":protocol": "websocket", ":scheme": "https", ":path": "/api/events", ":authority": url.hostname },
    { endStream: false },
  );
  const [response] = await once(stream, "response");
  assert.equal(response[":status"], 400);
  plain.destroy();
});
