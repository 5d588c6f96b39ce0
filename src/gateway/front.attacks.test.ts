/**
 * What hostile or broken clients do to the front door: requests hidden in requests, slowness, silence, floods, and leaving
 * at every byte. Each ends in a right answer or a refusal, and a well-behaved client next to it notices nothing.
 */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "../clock.ts";
import { loadConfig } from "../config.ts";
import type { Exchange } from "./exchange.ts";
import { openFront } from "./front.ts";

const big = Buffer.alloc(8_000_000, "x");

/** What is sent, the statuses that come back, and the requests that were seen: method, target, body. */
type Case = readonly [name: string, bytes: string, statuses: readonly number[], seen: readonly string[]];

const get = "GET / HTTP/1.1\r\nHost: a\r\n";
const post = "POST / HTTP/1.1\r\nHost: a\r\n";
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

const corpus: readonly Case[] = [
  // where a body ends
  ["length and chunks", `${post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`, [400], []],
  ["chunks and length", `${post}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n${smuggled}`, [400], []],
  ["two lengths", `${post}Content-Length: 0\r\nContent-Length: 39\r\n\r\n${smuggled}`, [400], []],
  ["the same length twice", `${post}Content-Length: 3\r\ncontent-length: 3\r\n\r\nabc`, [400], []],
  ["lengths in a list", `${post}Content-Length: 3, 3\r\n\r\nabc`, [400], []],
  ["a signed length", `${post}Content-Length: +3\r\n\r\nabc`, [400], []],
  ["a negative length", `${post}Content-Length: -3\r\n\r\nabc`, [400], []],
  ["a length in hex", `${post}Content-Length: 0x3\r\n\r\nabc`, [400], []],
  ["a length with a space", `${post}Content-Length: 3 3\r\n\r\nabc`, [400], []],
  ["an empty length", `${post}Content-Length:\r\n\r\n`, [400], []],
  ["an endless length", `${post}Content-Length: 9999999999999999999999\r\n\r\n`, [400], []],
  ["a length with an underscore", `${post}Content_Length: 39\r\n\r\n${smuggled}`, [200, 200], ["POST / ", "GET /smuggled "]],
  ["another coding", `${post}Transfer-Encoding: gzip\r\n\r\n`, [501], []],
  ["two codings", `${post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`, [501], []],
  ["chunked twice", `${post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, [400], []],
  ["chunked and identity", `${post}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n`, [400], []],
  ["chunked with a vertical tab", `${post}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n`, [400], []],
  ["chunked in quotes", `${post}Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n`, [501], []],
  ["chunks in HTTP/1.0", `POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, [400], []],
  [
    "a coding of any case",
    `${post}tRANSFER-eNCODING:  CHUNKED \r\n\r\n3\r\nabc\r\n0\r\n\r\n${smuggled}`,
    [200, 200],
    ["POST / abc", "GET /smuggled "],
  ],
  [
    "lines said again",
    `${post}Content-Length: 3\r\n\r\nabc${post.replace("/", "/b")}Content-Length: 3\r\n\r\ndef${get}Content-Length: 0\r\n\r\n${smuggled}`,
    [200, 200, 200, 200],
    ["POST / abc", "POST /b def", "GET / ", "GET /smuggled "],
  ],
  [
    "lines said again, and one more",
    `${post}Content-Length: 3\r\n\r\nabc${post}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc`,
    [200, 400],
    ["POST / abc"],
  ],
  [
    "lines said again in another version",
    `${get}Connection: x\r\n\r\n${get.replace("1.1", "1.0")}Connection: x\r\n\r\n${smuggled}`,
    [200, 200],
    ["GET / ", "GET / "],
  ],
  // chunks
  ["upper-case and padded sizes", `${post}Transfer-Encoding: chunked\r\n\r\n0A\r\n0123456789\r\n000\r\n\r\n`, [200], ["POST / 0123456789"]],
  [
    "extensions and trailers",
    `${post}Transfer-Encoding: chunked\r\n\r\n1;a=b;c="d"\r\nx\r\n0;e\r\nX-T: 1\r\nY: 2\r\n\r\n${smuggled}`,
    [200, 200],
    ["POST / x", "GET /smuggled "],
  ],
  ["no size", `${post}Transfer-Encoding: chunked\r\n\r\n\r\n`, [400], ["POST / !"]],
  ["a size with 0x", `${post}Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n`, [400], ["POST / !"]],
  ["a negative size", `${post}Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n`, [400], ["POST / !"]],
  ["a size with a space", `${post}Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n`, [400], ["POST / !"]],
  ["a size beyond all measure", `${post}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc`, [400], ["POST / !"]],
  ["a chunk that is too long", `${post}Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n`, [400], ["POST / !"]],
  ["a size ended by LF", `${post}Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n`, [400], ["POST / !"]],
  ["a chunk ended by LF", `${post}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n`, [400], ["POST / !"]],
  ["LF in an extension", `${post}Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n`, [400], ["POST / !"]],
  ["endless extensions", `${post}Transfer-Encoding: chunked\r\n\r\n3;${"a".repeat(5000)}\r\nabc\r\n0\r\n\r\n`, [400], ["POST / !"]],
  ["endless trailers", `${post}Transfer-Encoding: chunked\r\n\r\n0\r\n${"a: b\r\n".repeat(2000)}\r\n`, [400], ["POST / !"]],
  ["a trailer that is none", `${post}Transfer-Encoding: chunked\r\n\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n`, [400], ["POST / !"]],
  ["LF in a trailer", `${post}Transfer-Encoding: chunked\r\n\r\n0\r\na: b\n\r\n\r\n`, [400], ["POST / !"]],
  // lines
  ["bare LF", "GET / HTTP/1.1\nHost: a\n\n", [400], []],
  ["bare LF after a header", `GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n`, [400], []],
  ["bare CR in a value", `${get}X: a\rTransfer-Encoding: chunked\r\n\r\n`, [400], []],
  ["CR CR LF", `${get}X: a\r\r\n\r\n`, [400], []],
  ["a folded line", `${get}X: a\r\n b\r\n\r\n`, [400], []],
  ["a folded first line", `GET / HTTP/1.1\r\n Host: a\r\n\r\n`, [400], []],
  ["a space before the colon", `GET / HTTP/1.1\r\nHost : a\r\n\r\n`, [400], []],
  ["a tab before the colon", `${post}Content-Length\t: 3\r\n\r\nabc`, [400], []],
  ["no colon", `${get}nonsense\r\n\r\n`, [400], []],
  ["no name", `${get}: x\r\n\r\n`, [400], []],
  ["NUL in a name", `${get}X\0: a\r\n\r\n`, [400], []],
  ["NUL in a value", `${get}X: a\0b\r\n\r\n`, [400], []],
  ["NUL in the target", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", [400], []],
  ["DEL in a value", `${get}X: a\x7fb\r\n\r\n`, [400], []],
  ["a name in quotes", `${get}"x": a\r\n\r\n`, [400], []],
  ["a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", [400], []],
  ["two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", [400], []],
  ["a tab for a space", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", [400], []],
  ["no version", "GET /\r\nHost: a\r\n\r\n", [400], []],
  ["HTTP/0.9", "GET /\r\n\r\n", [400], []],
  ["HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", [400], []],
  ["HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400], []],
  ["http/1.1", "GET / http/1.1\r\nHost: a\r\n\r\n", [400], []],
  ["no method", " / HTTP/1.1\r\nHost: a\r\n\r\n", [400], []],
  ["an endless method", `${"A".repeat(100)} / HTTP/1.1\r\nHost: a\r\n\r\n`, [400], []],
  ["TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400], []],
  ["nonsense", "\xff\xfe\xfd\r\n\r\n", [400], []],
  ["empty lines before", `\r\n\r\n${smuggled}`, [200], ["GET /smuggled "]],
  ["too many empty lines before", `\r\n\r\n\r\n${smuggled}`, [400], []],
  // sizes
  ["an endless target", `GET /${"a".repeat(40_000)}`, [414], []],
  ["an endless header", `${get}X: ${"a".repeat(40_000)}`, [431], []],
  ["endless headers", `${get}${"a: b\r\n".repeat(8000)}`, [431], []],
  ["too many headers", `${get}${"a: b\r\n".repeat(200)}\r\n`, [431], []],
  ["as many headers as may be", `${get}${"a: b\r\n".repeat(199)}\r\n`, [200], ["GET / "]],
  // the order of things
  [
    "pipelined",
    `${smuggled}${post}Content-Length: 3\r\n\r\nabc${smuggled}`,
    [200, 200, 200],
    ["GET /smuggled ", "POST / abc", "GET /smuggled "],
  ],
  ["nothing after close", `${get}Connection: close\r\n\r\n${smuggled}`, [200], ["GET / "]],
  ["nothing after HTTP/1.0", `GET / HTTP/1.0\r\n\r\n${smuggled}`, [200], ["GET / "]],
  ["HTTP/1.0 that asks for more", `GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n${smuggled}`, [200, 200], ["GET / ", "GET /smuggled "]],
  ["a body that GET has", `${get}Content-Length: ${smuggled.length}\r\n\r\n${smuggled}`, [200], [`GET / ${smuggled}`]],
  [
    "a body that HEAD has",
    `HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc${smuggled}`,
    [200, 200],
    ["HEAD / abc", "GET /smuggled "],
  ],
];

describe("requests hidden in requests", () => {
  for (const [way, sizes] of [
    ["whole", [Infinity]],
    ["byte by byte", [1]],
    ["in odd pieces", [7, 3, 11]],
  ] as const) {
    test(`the corpus, sent ${way}`, async () => {
      await using bed = await openBed();
      const talks = corpus
        .filter(([, bytes]) => sizes[0] === Infinity || bytes.length < 3000)
        .map(async ([name, bytes, statuses, seen]) => {
          const reply = await bed.talk(pieces(bytes, sizes), statuses.length);
          // A refused body was begun: nothing says that the client is told so before the server has had its say.
          assert.deepEqual(statusesOf(reply), statuses, `${name}: ${reply.slice(0, 300)}`);
          return seen;
        });
      const expected = (await Promise.all(talks)).flat();
      assert.deepEqual(bed.seen.toSorted(), expected.toSorted());
    });
  }

  test("no response of ours can be split", async () => {
    await using bed = await openBed({
      answer(exchange) {
        const [, name, value] = exchange.request.target.split("/").map((part) => JSON.parse(`"${decodeURIComponent(part)}"`) as string);
        assert.throws(() => exchange.head(200, [name!, value!]), TypeError);
        exchange.send(500, [], "refused");
      },
    });
    for (const [name, value] of [
      ["x", "a\\r\\nb: c"],
      ["x", "a\\nb"],
      ["x", "a\\rb"],
      ["x", "a\\u0000b"],
      ["x", "a\\u010d\\u010ab: c"],
      ["x: y\\r\\nz", "a"],
      ["x y", "a"],
      ["", "a"],
      ["Content-Length", "1"],
      ["content-length", "1e3"],
      ["content-length", "-1"],
    ]) {
      const reply = await bed.talk([`GET /${encodeURIComponent(name!)}/${encodeURIComponent(value!)} HTTP/1.1\r\n\r\n`], 1);
      assert.match(reply, /^HTTP\/1\.1 500 [^]*\r\n\r\nrefused$/, `${name}: ${value}`);
    }
  });

  test("a body that is not as long as its length breaks the connection", async () => {
    await using bed = await openBed({
      answer(exchange) {
        exchange.head(200, ["content-length", "5"]);
        exchange.write(Buffer.from("abc"));
        exchange.end(Buffer.from(exchange.request.target === "/more" ? "defgh" : "d"));
      },
    });
    for (const path of ["/more", "/less"]) {
      const reply = await bed.talk([`GET ${path} HTTP/1.1\r\n\r\n${smuggled}`], 2);
      assert.deepEqual(statusesOf(reply), [200], reply);
      assert.match(reply, /\r\n\r\nabc$/);
    }
  });

  test("noise: whatever comes, the front answers, refuses or waits, and never fails", async () => {
    await using bed = await openBed();
    let seed = 20_250_101;
    const random = (below: number) => (seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff) % below;
    const texts = corpus.map(([, bytes]) => bytes.slice(0, 600));
    const noise = ["\r", "\n", "\0", " ", ":", "\t", "0", ",", "\r\n\r\n", "\xff"];
    for (let round = 0; round < 20; round++) {
      await Promise.all(
        Array.from({ length: 25 }, async () => {
          let text = texts[random(texts.length)]!;
          for (let change = random(4); change >= 0; change--) {
            const at = random(text.length);
            text = text.slice(0, at) + noise[random(noise.length)]! + text.slice(at + random(3));
          }
          const reply = await bed.talk([text], 9, 30);
          assert.match(reply, /^(HTTP\/1\.1 (200|400|414|431|501) |$)/);
        }),
      );
    }
    assert.equal(await bed.get(), 200);
  });
});

describe("another protocol", () => {
  const ask = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";

  test("bytes pass both ways until either side ends; no request hides behind it", async () => {
    const read: string[] = [];
    let ended = 0;
    await using bed = await openBed({
      answer(exchange) {
        assert.equal(exchange.request.upgrade, "websocket");
        exchange.head(101, ["sec-websocket-accept", "x"]);
        exchange.readBody({
          onData(chunk) {
            read.push(chunk.toString());
            if (String(chunk).includes("bye")) exchange.end(Buffer.from("bye"));
            else exchange.write(Buffer.from(`<${chunk.toString()}>`));
          },
          onEnd() {
            ended++;
            exchange.end();
          },
          onError: () => void read.push("!"),
        });
      },
    });
    const reply = await bed.talk([`${ask}early`, "late", smuggled, "bye", smuggled], 9, 1000);
    assert.match(
      reply,
      /^HTTP\/1\.1 101 Switching Protocols\r\n[^]*sec-websocket-accept: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n</,
    );
    assert.match(reply, /bye$/);
    assert.match(read.join(""), /^earlylateGET \/smuggled/);
    const socket = await bed.connect();
    socket.resume().write(ask);
    await sleep(50);
    socket.end();
    await until(() => ended === 1);
    await bed.emptied();
  });

  test("a client that did not ask is not changed over, and one that is refused goes on with HTTP", async () => {
    await using bed = await openBed({
      answer(exchange) {
        if (exchange.request.upgrade === null) assert.throws(() => exchange.head(101, []), TypeError);
        exchange.send(200, [], "http");
      },
    });
    assert.deepEqual(statusesOf(await bed.talk([`${ask}${smuggled}`], 2)), [200, 200]);
  });
});

describe("clients that leave, wait or flood", () => {
  test("leaving at every byte harms nobody", async () => {
    await using bed = await openBed();
    const request = `${post}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`;
    const leaving = new AbortController();
    const healthy = (async () => {
      while (!leaving.signal.aborted) assert.equal(await bed.get(), 200);
    })();
    for (const how of ["destroy", "end", "resetAndDestroy"] as const) {
      for (let begin = 0; begin <= request.length; begin += 20) {
        await Promise.all(
          Array.from({ length: Math.min(20, request.length + 1 - begin) }, async (_, index) => {
            const socket = await bed.connect();
            socket.on("error", () => {}).resume();
            const closed = new Promise((resolve) => socket.once("close", resolve));
            await new Promise<void>((resolve) => void socket.write(request.slice(0, begin + index), () => resolve()));
            socket[how]();
            await closed;
          }),
        );
      }
    }
    leaving.abort();
    await healthy;
    await bed.emptied();
  });

  test("what one connection sends in pieces is no other's, and chunks are their reader's to keep", async () => {
    await using bed = await openBed({
      answer(exchange) {
        const chunks: Buffer[] = [];
        exchange.readBody({
          onData: (chunk) => void chunks.push(chunk),
          onEnd: () => void setTimeout(() => exchange.send(200, [], Buffer.concat(chunks)), 5),
          onError: () => {},
        });
      },
    });
    await Promise.all(
      Array.from({ length: 12 }, async (_, index) => {
        const letter = String.fromCharCode(97 + index);
        const body = letter.repeat(2000 + index);
        const request = `POST /${letter} HTTP/1.1\r\nHost: ${letter}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
        const reply = await bed.talk(pieces(request.repeat(3), [13 + index, 400, 3]), 3);
        assert.deepEqual(statusesOf(reply), [200, 200, 200]);
        assert.equal(reply.split(`\r\n\r\n${body}`).length, 4, letter);
      }),
    );
  });

  test("half a head, half a body, no request: each is given up in its time", async () => {
    await using bed = await openBed(
      {},
      { MAYFLY_HEADERS_MS_MAX: "1000", MAYFLY_BODY_IDLE_MS_MAX: "1000", MAYFLY_CONNECTION_IDLE_MS: "1000" },
    );
    const [head, drip, body, idle] = await Promise.all([
      bed.talk([get], 1, 10_000),
      // One byte now and then does not make it a request that arrives in time.
      bed.talk(Array<string>(200).fill("x"), 1, 10_000, 50),
      bed.talk([`${post}Content-Length: 10\r\n\r\nabc`], 1, 10_000),
      bed.talk([], 1, 10_000),
    ]);
    assert.match(head, /^HTTP\/1\.1 408 [^]*REQUEST_TIMEOUT/);
    assert.match(drip, /^HTTP\/1\.1 408 /);
    assert.match(body, /^HTTP\/1\.1 408 /);
    assert.equal(idle, "");
    await bed.emptied();
  });

  test("who does not read is given up, and costs bounded memory until then", async () => {
    let written = 0;
    await using bed = await openBed(
      {
        answer(exchange) {
          exchange.head(200, []);
          if (exchange.request.target === "/") return exchange.end(big);
          const more = () => {
            while (!exchange.gone && exchange.write(big.subarray(0, 65_536))) written += 65_536;
          };
          exchange.onDrain(more);
          return more();
        },
      },
      { MAYFLY_WRITE_STALL_MS_MAX: "1000" },
    );
    const whole = await bed.connect();
    whole.pause().write(`${get}\r\n`);
    const stream = await bed.connect();
    stream.pause().write(`GET /stream HTTP/1.1\r\nHost: a\r\n\r\n`);
    await sleep(300);
    assert(written < 32_000_000, `${written} bytes are buffered`);
    await bed.emptied();
    whole.destroy();
    stream.destroy();
  });

  test("a flood of pipelined requests is answered at the pace at which it is read", async () => {
    let answered = 0;
    await using bed = await openBed({
      answer(exchange) {
        answered++;
        exchange.send(200, [], big.subarray(0, 10_000));
      },
    });
    const count = 20_000;
    const socket = await bed.connect();
    socket.pause();
    socket.write(smuggled.repeat(count));
    await sleep(300);
    const before = answered;
    assert(before < 2000, `${before} requests were answered although nobody reads`);
    let bytes = 0;
    socket.on("data", (chunk: Buffer) => (bytes += chunk.length)).resume();
    await until(() => answered === count && bytes >= count * 10_000);
    socket.destroy();
  });

  test("who holds all connections in silence does not shut the door on others", async () => {
    await using bed = await openBed({}, { MAYFLY_CONNECTIONS_MAX: "200" });
    const held = await Promise.all(Array.from({ length: 250 }, () => bed.connect()));
    for (const socket of held) socket.on("error", () => {}).resume();
    for (let round = 0; round < 20; round++) assert.equal(await bed.get(), 200);
    for (const socket of held) socket.destroy();
  });

  test("an answer before the body's end reaches the client, and the rest of the body does not hold the connection", async () => {
    await using bed = await openBed({ answer: (exchange) => exchange.send(401, [], "no") });
    const length = 100_000;
    const small = await bed.talk([`${post}Content-Length: 3\r\n\r\nabc${smuggled}`], 2);
    assert.deepEqual(statusesOf(small), [401, 401]);
    const large = await bed.talk([`${post}Content-Length: ${length}\r\n\r\n`, "x".repeat(length), smuggled], 2);
    assert.deepEqual(statusesOf(large), [401]);
    assert.match(large, /connection: close/);
    await bed.emptied();
  });
});

// ── the bed ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A front that notes what it sees (`!` for a body that broke off) and echoes the body, unless `answer` says otherwise. */
async function openBed(
  { answer }: { readonly answer?: (exchange: Exchange) => void } = {},
  settings: Readonly<Record<string, string>> = {},
) {
  const seen: string[] = [];
  const echo = (exchange: Exchange): void => {
    const { method, target } = exchange.request;
    if (target === "/health") return exchange.send(200, [], "ok");
    let body = "";
    exchange.readBody({
      onData: (chunk) => (body += chunk.toString("latin1")),
      onEnd() {
        seen.push(`${method} ${target} ${body}`);
        exchange.send(200, [], Buffer.from(body, "latin1"));
      },
      onError: () => void seen.push(`${method} ${target} !`),
    });
    return undefined;
  };
  const config = { ...loadConfig({ port: "0" }, settings) };
  const front = openFront({ config, clock: systemClock, certificates: null }, answer ?? echo);
  const { port } = await front.listen();
  const open = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = connect(port, "127.0.0.1", () => resolve(socket));
      socket.once("error", reject);
    });
  return {
    seen,
    connect: open,
    /** Sends the pieces and reads until so many responses are there, the connection ends, or `msMax` have passed. */
    async talk(bytes: readonly string[], responses: number, msMax = 30_000, pauseMs = 0): Promise<string> {
      const socket = await open();
      let text = "";
      const { promise, resolve } = Promise.withResolvers<void>();
      socket.setEncoding("latin1").on("error", () => {});
      socket.on("close", () => resolve());
      socket.on("data", (chunk: string) => {
        text += chunk;
        if (statusesOf(text).length > responses) resolve();
      });
      const deadline = setTimeout(resolve, msMax);
      // Long enough for a response too many to come.
      const settled = (async () => {
        for (const piece of bytes) {
          if (socket.destroyed) break;
          socket.write(piece, "latin1");
          await (pauseMs > 0 ? sleep(pauseMs) : new Promise((next) => setImmediate(next)));
        }
        while (!socket.destroyed && statusesOf(text).length < responses) await sleep(10);
        await sleep(30);
      })();
      await Promise.race([promise, settled]);
      clearTimeout(deadline);
      socket.destroy();
      return text;
    },
    /** Status of a well-behaved request. */
    async get(): Promise<number> {
      const socket = await open();
      return new Promise((resolve, reject) => {
        socket.once("data", (chunk: Buffer) => {
          resolve(Number(chunk.toString("latin1", 9, 12)));
          socket.destroy();
        });
        socket.once("close", () => reject(new Error("no answer")));
        socket.write("GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
      });
    },
    /** Resolves when the server has no connection; rejects when it keeps one. */
    emptied: () => until(() => front.connections === 0),
    [Symbol.asyncDispose]: () => front.close(0),
  };
}

/** Waits until it is so; rejects after 20 s. */
async function until(isSo: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!isSo()) {
    if (Date.now() > deadline) throw new Error(`It did not come to pass: ${isSo}`);
    await sleep(20);
  }
}

function pieces(text: string, sizes: readonly number[]): string[] {
  const parts: string[] = [];
  for (let at = 0, turn = 0; at < text.length; turn++) {
    const size = sizes[turn % sizes.length]!;
    parts.push(text.slice(at, at + size));
    at += size;
  }
  return parts;
}

function statusesOf(reply: string): number[] {
  return [...reply.matchAll(/HTTP\/1\.1 (\d+) /g)].map((match) => Number(match[1]));
}
