/** HTTP as guests speak it: whole answers at any pace, and none that is not one. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { duplexPair, PassThrough, Readable, type Duplex } from "node:stream";
import { describe, it } from "node:test";
import { sourceOf } from "./testbed.ts";
import { Wire, type WireBreak, type WireRequest } from "./wire.ts";

const get: WireRequest = { method: "GET", url: "/", headers: ["host", "a"], body: null };

function open(headBytesMax = 1000): { wire: Wire; guest: Duplex; broken: Promise<WireBreak> } {
  const [host, guest] = duplexPair();
  const { promise, resolve } = Promise.withResolvers<WireBreak>();
  return { wire: new Wire(host, headBytesMax, resolve), guest, broken: promise };
}

/** Sends a request; what comes of it. */
function send(wire: Wire, request: WireRequest) {
  const head = Promise.withResolvers<readonly [number, readonly string[]]>();
  const [end, done, abandoned] = [Promise.withResolvers<string>(), Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const chunks: Buffer[] = [];
  const exchange = {
    head: head.promise,
    text: end.promise,
    done: done.promise,
    abandoned: abandoned.promise,
    chunks,
    takes: true,
    ended: false,
    idle: [] as boolean[],
  };
  wire.send(request, {
    head: (status, headers) => head.resolve([status, headers]),
    data(chunk) {
      chunks.push(chunk);
      return exchange.takes;
    },
    end() {
      exchange.ended = true;
      end.resolve(Buffer.concat(chunks).toString());
    },
    done: done.resolve,
    idle: (isWhole) => exchange.idle.push(isWhole),
    abandoned: abandoned.resolve,
  });
  return exchange;
}

/** What comes of an answer that arrives in pieces of `size` bytes. */
async function answerOf(text: string, size: number, request = get): Promise<readonly unknown[]> {
  const { wire, guest, broken } = open();
  const exchange = send(wire, request);
  const bytes = Buffer.from(text, "latin1");
  for (let at = 0; at < bytes.length; at += size) guest.write(bytes.subarray(at, at + size));
  guest.end();
  const { why } = await broken;
  return exchange.ended ? [...(await exchange.head), await exchange.text] : [why];
}

describe("the wire", { timeout: 20_000 }, () => {
  const valid: readonly [string, readonly unknown[]][] = [
    ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", [200, ["content-length", "5"], "hello"]],
    ["HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", [200, ["content-length", "0"], ""]],
    ["HTTP/1.1 404\r\nX-A: \t b c \r\ncontent-length: 1\r\n\r\nx", [404, ["x-a", "b c", "content-length", "1"], "x"]],
    ["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n", [200, [], "hello0123456789"]],
    ["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nTrailer: 1\r\nB: 2\r\n\r\n", [200, [], "x"]],
    ["HTTP/1.1 103 Early\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", [200, ["content-length", "1"], "x"]],
    [
      "HTTP/1.1 200 OK\r\nconnection: close, x-hop\r\nx-hop: 1\r\nkeep-alive: 1\r\nx-b: 2\r\n\r\nuntil the end",
      [200, ["x-b", "2"], "until the end"],
    ],
    ["HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n", [204, ["x-a", "1"], ""]],
    ["HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n", [304, ["content-length", "100"], ""]],
  ];
  const invalid = [
    "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 99 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 101 Switching\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx a: 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx-a : 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx-a: 1\nx-b: 2\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx-a: 1\r\n folded: 2\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx-a: a\0b\r\n\r\n",
    `HTTP/1.1 200 OK\r\nx-a: ${"a".repeat(2000)}\r\n\r\n`,
    "HTTP/1.1 103 E\r\n\r\n".repeat(20),
  ];
  for (const size of [1, 2, 3, 10, 100_000]) {
    it(`understands answers in pieces of ${size} bytes`, async () => {
      for (const [text, expected] of valid) assert.deepEqual(await answerOf(text, size), expected, text);
      for (const text of invalid) assert.deepEqual(await answerOf(text, size), ["invalid"], text);
    });
  }

  it("breaks on chunks that lie and on answers cut short", async () => {
    const head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for (const body of ["g\r\n", "\r\n", "1\r\nxx\r\n", "1;ext\r\nx\r\n", "fffffffffffff\r\n", "1\nx\r\n"]) {
      assert.deepEqual(await answerOf(head + body, 1), ["invalid"], body);
    }
    assert.deepEqual(await answerOf("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", 3), ["closed"]);
    assert.deepEqual(await answerOf(`${head}5\r\nhello\r\n`, 3), ["closed"]);
    assert.deepEqual(await answerOf("HTTP/1.1 200 OK\r\n", 3), ["closed"]);
  });

  it("breaks when more comes than the answer, and before any request", async () => {
    const { wire, guest, broken } = open();
    const exchange = send(wire, get);
    guest.write("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n");
    assert.equal(await exchange.text, "x");
    assert.equal((await broken).why, "invalid");
    const fresh = open();
    fresh.guest.write("H");
    assert.equal((await fresh.broken).why, "invalid");
  });

  it("hears that nothing is pending only after the answer, and whether it came with it", async () => {
    const { wire, guest, broken } = open();
    const answer = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx";
    for (const [pieces, expected] of [
      [[`${answer}\0`], [true]],
      [[answer, "\0"], [false]],
      [[answer.slice(0, 20), `${answer.slice(20)}\0`], [false]],
    ] as const) {
      const exchange = send(wire, get);
      for (const piece of pieces) {
        assert.deepEqual(exchange.idle, []);
        guest.write(piece);
        await new Promise(setImmediate);
      }
      await exchange.done;
      assert.deepEqual(exchange.idle, expected);
    }
    const early = send(wire, get);
    guest.write(`\0${answer}`);
    assert.equal((await broken).why, "invalid");
    assert.deepEqual(early.idle, []);
    const twice = open();
    const exchange = send(twice.wire, get);
    twice.guest.write(`${answer}\0\0`);
    assert.equal((await twice.broken).why, "invalid");
    assert.deepEqual(exchange.idle, [true]);
  });

  it("talks to Node's server: bodies both ways, with and without length, HEAD, early answers", async () => {
    const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
      if (request.url === "/early") return void response.end("early");
      request.pipe(response);
    });
    const { wire, guest } = open();
    server.emit("connection", guest);
    const content = Buffer.alloc(300_000, "content ");
    for (const length of [[], ["content-length", String(content.length)]]) {
      const exchange = send(wire, {
        ...get,
        method: "POST",
        headers: [...get.headers, ...length],
        body: sourceOf(Readable.from([content.subarray(0, 7), content.subarray(7)])),
      });
      assert.equal(await exchange.text, content.toString());
      await exchange.done;
    }
    for (let round = 0; round < 3; round++) {
      const body = new PassThrough();
      const exchange = send(wire, { ...get, method: "POST", url: "/early", body: sourceOf(body) });
      body.write("some");
      assert.equal(await exchange.text, "early");
      body.end("more");
      await exchange.done;
    }
    assert.equal(await send(wire, { ...get, method: "HEAD", url: "/early" }).text, "");
  });

  it("tells when the client's body ends too soon or is too long", async () => {
    for (const act of ["short", "long", "destroy"] as const) {
      const { wire } = open();
      const body = new PassThrough();
      const exchange = send(wire, { ...get, method: "POST", headers: ["content-length", "10"], body: sourceOf(body) });
      if (act === "short") body.end("short");
      else if (act === "long") body.end("longer than ten");
      else body.destroy();
      await exchange.abandoned;
    }
  });

  it("refuses to write what would split a request", () => {
    const { wire } = open();
    for (const bad of [
      { url: "/a b" },
      { url: "/a\r\nb" },
      { method: "G ET" },
      { headers: ["a", "b\r\nc"] },
      { headers: ["a b", "c"] },
      { headers: ["content-length", "1, 2"] },
    ]) {
      assert.throws(() => send(wire, { ...get, ...bad }), { code: "BAD_REQUEST" });
    }
  });

  it("holds the guest back when nobody reads", async () => {
    const { wire, guest } = open();
    const exchange = send(wire, get);
    exchange.takes = false;
    guest.write("HTTP/1.1 200 OK\r\n\r\n");
    await exchange.head;
    let written = 0;
    while (guest.write(Buffer.alloc(16_384)) && written < 1000) written++;
    assert.ok(written < 100);
    exchange.takes = true;
    wire.resume();
    await once(guest, "drain");
  });
});
