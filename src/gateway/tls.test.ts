/** TLS at the front door: certificates given and our own, HTTP/2 beside HTTP/1.1, one host a connection, and what floods it. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync } from "node:fs";
import { connect as connectHttp2, constants, type ClientHttp2Session, type IncomingHttpHeaders } from "node:http2";
import { request as httpsRequest } from "node:https";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { systemClock } from "../clock.ts";
import { loadConfig } from "../config.ts";
import { MayflyError } from "../errors.ts";
import { openCertificates } from "./certificates.ts";
import { openCacheStore } from "./cache-store.ts";
import type { Exchange } from "./exchange.ts";
import { openFront } from "./front.ts";
import { PreparedHead } from "./prepared-head.ts";
import { openGateway } from "./gateway.ts";
import { noPurges } from "./purge-log.ts";

const big = Buffer.alloc(3_000_000, "0123456789");

describe("certificates", () => {
  test("the local authority is made once, its key is ours alone, and it vouches for the hosts that are served", async () => {
    await using bed = await openBed();
    const serverName = async (host: string) => {
      const socket = connectTls({ host: "127.0.0.1", port: bed.port, servername: host, ca: bed.authority(), rejectUnauthorized: false });
      await new Promise<void>((resolve, reject) => void socket.once("secureConnect", resolve).once("error", reject));
      const { subjectaltname } = socket.getPeerCertificate();
      const { authorized } = socket;
      socket.destroy();
      return { subjectaltname, authorized };
    };
    const own = await serverName("localhost");
    assert.equal(own.authorized, true);
    assert.equal(own.subjectaltname, "DNS:localhost, DNS:*.localhost, DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1");
    // Clients take no wildcard for what is below a bare "localhost".
    assert.deepEqual(await serverName("a.localhost"), { subjectaltname: "DNS:a.localhost", authorized: true });
    assert.deepEqual(await serverName("Custom.example"), { subjectaltname: "DNS:custom.example", authorized: true });
    assert.deepEqual((await serverName("stranger.example")).subjectaltname, own.subjectaltname);
    assert.equal((await serverName("stranger.example")).authorized, false);

    assert.equal(statSync(join(bed.directory, "authority.pem")).mode & 0o777, 0o600);
    assert.doesNotMatch(bed.authority(), /PRIVATE KEY/);
    const before = bed.authority();
    const others = await Promise.all([bed.certificates(), bed.certificates()]);
    assert.deepEqual(
      others.map(({ authorityPath }) => readFileSync(authorityPath!, "utf8")),
      [before, before],
    );
  });

  test("given files are used, read again when they change, and kept while they are unreadable", { skip: noOpenssl() }, async () => {
    const directory = mkdtempSync(join(tmpdir(), "mayfly-tls-"));
    const [cert, key] = [join(directory, "cert.pem"), join(directory, "key.pem")];
    const write = (name: string) =>
      execFileSync(
        "openssl",
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"].concat([
          "-subj",
          `/CN=${name}`,
          "-addext",
          `subjectAltName=DNS:${name}`,
          "-keyout",
          key,
          "-out",
          cert,
        ]),
        { stdio: "ignore" },
      );
    let nowMs = 1;
    const clock = { ...systemClock, elapsed: () => nowMs };
    const config = { ...loadConfig({ "tls-cert": cert, "tls-key": key }, {}) };
    const open = () => openCertificates({ config, clock, directory, serves: async () => true });
    await assert.rejects(
      open(),
      (error) => error instanceof MayflyError && error.code === "config_invalid" && error.message.includes(cert),
    );
    write("one.example");
    const certificates = await open();
    const first = await certificates.contextFor("x");
    assert.equal(certificates.authorityPath, null);
    nowMs += 2000;
    assert.equal(await certificates.contextFor("x"), first);
    write("two.example");
    nowMs += 2000;
    const second = await certificates.contextFor("x");
    assert.notEqual(second, first);
    rmSync(key);
    nowMs += 2000;
    assert.equal(await certificates.contextFor("x"), second);
    write("three.example");
    utimesSync(cert, 1, 1);
    nowMs += 2000;
    assert.notEqual(await certificates.contextFor("x"), second);
    rmSync(directory, { recursive: true });
    assert.throws(() => loadConfig({ "https-port": "70000" }, {}));
    await assert.rejects(
      openCertificates({ config: { ...config, tlsKey: "" }, clock, directory, serves: async () => true }),
      /go together/,
    );
  });
});

describe("protocols over TLS", () => {
  test("HTTP/1.1 and HTTP/2 at one port: bodies, HEAD, several headers, cookies, trailers of none", async () => {
    await using bed = await openBed();
    const old = await bed.http1("a.localhost", "/echo", "POST", "body");
    assert.deepEqual([old.status, old.body], [200, "HTTP/1.1 POST /echo a.localhost body"]);

    const session = await bed.http2("a.localhost");
    const echo = await ask(session, { ":method": "POST", ":path": "/echo?x", cookie: ["a=1", "b=2"] }, "body");
    assert.deepEqual([echo.status, echo.body], [200, "HTTP/2.0 POST /echo?x a.localhost:443 body a=1; b=2"]);
    assert.deepEqual([echo.headers["set-cookie"], echo.headers["x-two"]], [["a=1", "b=2"], "1, 2"]);
    assert.equal(echo.headers.server, "Mayfly");
    const head = await ask(session, { ":method": "HEAD", ":path": "/echo" });
    assert.deepEqual([head.status, head.body, Number(head.headers["content-length"]) > 10], [200, "", true]);
    assert.equal((await ask(session, { ":path": "/none" })).status, 204);
    const large = await ask(session, { ":method": "POST", ":path": "/large" }, big);
    assert.equal(large.body.length, big.length);
    const many = await Promise.all(Array.from({ length: 300 }, (_, index) => ask(session, { ":path": `/echo?${index}` })));
    assert.deepEqual(
      many.map(({ body }) => /\?\d+/.exec(body)?.[0]),
      Array.from({ length: 300 }, (_, index) => `?${index}`),
    );
    await assert.rejects(ask(session, { ":path": "/broken" }));
    assert.equal((await ask(session, { ":path": "/echo" })).status, 200);
    session.destroy();
  });

  test("a prepared head is the same answer in either protocol, with an id of its own each time", async () => {
    await using bed = await openBed();
    const session = await bed.http2("a.localhost");
    const ids = new Set<unknown>();
    for (let round = 0; round < 3; round++) {
      for (const path of ["/given", "/given-large"]) {
        const answers = [await bed.http1("a.localhost", path), await ask(session, { ":path": path })];
        for (const { status, headers, body } of answers) {
          const { "x-vercel-id": id, date, connection: _of, ":status": _status, ...rest } = headers;
          ids.add(id);
          assert.ok(Math.abs(Date.parse(String(date)) - Date.now()) < 60_000, String(date));
          const expected = { server: "Mayfly", etag: `"etag"`, vary: "etag", "set-cookie": ["a=1", "b=2"], age: "7" };
          const length = path === "/given" ? 11 : big.length;
          assert.deepEqual(
            [status, Object.fromEntries(Object.entries(rest)), body.length],
            [200, { ...expected, "content-length": String(length) }, length],
          );
        }
      }
      for (const { status, headers, body } of [
        await bed.http1("a.localhost", "/unchanged"),
        await ask(session, { ":path": "/unchanged" }),
      ]) {
        ids.add(headers["x-vercel-id"]);
        assert.deepEqual([status, headers.etag, headers["content-length"], headers.age, body], [304, `"etag"`, undefined, undefined, ""]);
      }
    }
    assert.equal(ids.size, 18);
    session.destroy();
  });

  test("streams flow at the pace of the slower side, and a client that resets one is known to have gone", async () => {
    await using bed = await openBed();
    const session = await bed.http2("a.localhost");
    const endless = session.request({ ":path": "/endless" });
    endless.on("error", () => {});
    await new Promise((resolve) => endless.once("response", resolve));
    await sleep(200);
    const before = bed.written();
    await sleep(100);
    assert.equal(bed.written(), before);
    assert(before < 32_000_000, `${before} bytes are buffered`);
    endless.close(constants.NGHTTP2_CANCEL);
    await until(() => bed.gone() === 1);
    session.destroy();
  });

  test("another host than the handshake's is misdirected; the server's end is told, and what was asked is answered", async () => {
    await using bed = await openBed();
    assert.equal((await bed.http1("a.localhost", "/", "GET", "", "b.localhost")).status, 421);
    const session = await bed.http2("a.localhost");
    assert.equal((await ask(session, { ":authority": "b.localhost", ":path": "/" })).status, 421);
    assert.equal((await ask(session, { ":path": "/_mayfly/health" })).status, 200);
    assert.equal(
      (await ask(session, { ":authority": "a.localhost", host: "b.localhost", ":path": "/" }).catch(() => null))?.status,
      undefined,
    );

    const slow = ask(session, { ":path": "/slow" });
    await until(() => bed.slow() === 1);
    const goaway = new Promise((resolve) => session.once("goaway", resolve));
    const closing = bed.front.close(5000);
    await goaway;
    bed.release();
    assert.equal((await slow).status, 200);
    await closing;
  });
});

describe("floods over HTTP/2", () => {
  test("rapid resets: the connection ends, others go on", async () => {
    await using bed = await openBed();
    const healthy = await bed.http2("a.localhost");
    const resets = await bed.http2("a.localhost");
    for (let round = 0; round < 500 && !isOver(resets); round++) {
      const streams = Array.from({ length: 50 }, () => resets.request({ ":path": "/slow" }));
      for (const stream of streams) stream.on("error", () => {});
      // Closed at once, a stream would never have left this side.
      await sleep(5);
      for (const stream of streams) if (!stream.destroyed) stream.close(constants.NGHTTP2_CANCEL);
      await sleep(1);
    }
    assert(isOver(resets), "the session is still open");
    assert.equal((await ask(healthy, { ":path": "/echo" })).status, 200);
    healthy.destroy();
  });

  test("pings: the connection ends, others go on", async () => {
    await using bed = await openBed();
    const healthy = await bed.http2("a.localhost");
    const pings = await bed.http2("a.localhost");
    for (let count = 0; count < 2000 && !isOver(pings); count++) {
      if (!pings.ping(() => {})) await sleep(5);
    }
    await until(() => isOver(pings));
    assert.equal((await ask(healthy, { ":path": "/echo" })).status, 200);
    healthy.destroy();
  });

  test("more headers than may be: refused", async () => {
    await using bed = await openBed();
    const session = await bed.http2("a.localhost");
    const headers = Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`x-${index}`, "1"]));
    await assert.rejects(ask(session, { ":path": "/echo", ...headers }));
    session.destroy();
  });

  test("a handshake that is not finished is given up", async () => {
    await using bed = await openBed({ MAYFLY_HEADERS_MS_MAX: "1000" });
    const { connect } = await import("node:net");
    const socket = connect(bed.port, "127.0.0.1");
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.on("error", () => {}).resume();
    await closed;
    assert.equal((await bed.http1("a.localhost", "/echo")).status, 200);
  });
});

// ── the bed ───────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** A front with a local authority; `/slow` waits for `release`. A gateway answers the rest where that matters: hosts. */
async function openBed(settings: Readonly<Record<string, string>> = {}) {
  const directory = mkdtempSync(join(tmpdir(), "mayfly-tls-"));
  const config = { ...loadConfig({ port: "0" }, settings), httpsPort: await freePort() };
  const certificates = () =>
    openCertificates({
      config,
      clock: systemClock,
      directory,
      serves: async (host) => host.endsWith(".localhost") || host === "custom.example",
    });
  const own = await certificates();
  let written = 0;
  let gone = 0;
  let slow = 0;
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const given = new PreparedHead(200, ["vary", "etag", "etag", `"etag"`, "set-cookie", "a=1", "set-cookie", "b=2"]);
  const unchanged = new PreparedHead(304, ["etag", `"etag"`]);
  const gateway = openGatewayOnly(config);
  const answer = (exchange: Exchange): void => {
    const { method, target, httpVersion } = exchange.request;
    const [path] = target.split("?");
    switch (path) {
      case "/none":
        exchange.head(204, []);
        return exchange.end();
      case "/large": {
        exchange.head(200, []);
        exchange.onDrain(() => exchange.resumeBody());
        return exchange.readBody({
          onData: (chunk) => {
            if (!exchange.write(chunk)) exchange.pauseBody();
          },
          onEnd: () => exchange.end(),
          onError: () => exchange.abort(),
        });
      }
      case "/endless": {
        exchange.onGone(() => gone++);
        exchange.head(200, []);
        const more = () => {
          while (!exchange.gone && exchange.write(big.subarray(0, 65_536))) written += 65_536;
        };
        exchange.onDrain(more);
        return more();
      }
      case "/broken":
        exchange.head(200, ["content-length", "10"]);
        exchange.write(Buffer.from("half"));
        return exchange.abort();
      case "/given":
        return exchange.give(given, Buffer.from("given whole"), 7);
      case "/given-large":
        return exchange.give(given, big, 7);
      case "/unchanged":
        return exchange.give(unchanged, Buffer.alloc(0), null);
      case "/slow":
        slow++;
        return void released.then(() => exchange.send(200, [], "slow"));
      case "/echo": {
        let body = "";
        return exchange.readBody({
          onData: (chunk) => (body += chunk.toString()),
          onEnd() {
            const parts = [`HTTP/${httpVersion}`, method, target, exchange.header("host"), body, exchange.header("cookie")];
            const headers = ["set-cookie", "a=1", "set-cookie", "b=2", "x-two", "1", "x-two", "2"];
            exchange.send(200, headers, parts.filter((part) => part !== undefined && part !== "").join(" "));
          },
          onError: () => {},
        });
      }
      default:
        return gateway(exchange);
    }
  };
  const front = openFront({ config, clock: systemClock, certificates: own }, answer);
  const { httpsPort } = await front.listen();
  const port = httpsPort!;
  const authority = () => readFileSync(own.authorityPath!, "utf8");
  return {
    port,
    front,
    directory,
    authority,
    certificates,
    release,
    written: () => written,
    gone: () => gone,
    slow: () => slow,
    http1(serverName: string, path: string, method = "GET", body = "", host = serverName): Promise<Answer> {
      return new Promise((resolve, reject) => {
        const request = httpsRequest({
          host: "127.0.0.1",
          port,
          servername: serverName,
          ca: authority(),
          path,
          method,
          agent: false,
          headers: { host },
        });
        request.on("error", reject).on("response", async (response) => {
          resolve({ status: response.statusCode!, headers: response.headers, body: (await buffer(response)).toString() });
        });
        request.end(body);
      });
    },
    async http2(serverName: string): Promise<ClientHttp2Session> {
      const session = connectHttp2(`https://${serverName}`, {
        createConnection: () => connectTls({ host: "127.0.0.1", port, servername: serverName, ca: authority(), ALPNProtocols: ["h2"] }),
      });
      await new Promise<void>((resolve, reject) => void session.once("connect", () => resolve()).once("error", reject));
      session.on("error", () => {});
      return session;
    },
    async [Symbol.asyncDispose]() {
      release();
      await front.close(0);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** The gateway's own journey, without anything that it serves. */
function openGatewayOnly(config: ReturnType<typeof loadConfig>): (exchange: Exchange) => void {
  let answer: (exchange: Exchange) => void = () => {};
  const nothing = () => Promise.reject(new MayflyError("INTERNAL_ERROR"));
  openGateway(
    {
      config,
      clock: systemClock,
      certificates: null,
      functions: { invoke: nothing as never },
      hosts: { resolve: async () => null, recall: () => null },
      blobs: { read: nothing, open: nothing as never },
      logs: { append: () => {}, appendRequest: () => {} },
      cache: openCacheStore({ config: { ...config, cacheDiskBytesMax: 0 }, purges: noPurges, directory: "" }),
      purges: noPurges,
      optimiser: null,
      inspection: null,
      control: null,
    },
    (_parts, journey) => {
      answer = journey;
      return null as never;
    },
  );
  return (exchange) => answer(exchange);
}

function ask(session: ClientHttp2Session, headers: Record<string, string | string[]>, body?: string | Buffer): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, { endStream: body === undefined });
    let answered: IncomingHttpHeaders = {};
    const chunks: Buffer[] = [];
    stream.on("response", (received) => (answered = received));
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", reject);
    session.once("close", () => reject(new Error("the session has ended")));
    stream.on("close", () => {
      if (stream.rstCode !== constants.NGHTTP2_NO_ERROR) reject(new Error(`reset with ${stream.rstCode}`));
      else resolve({ status: Number(answered[":status"]), headers: answered, body: Buffer.concat(chunks).toString() });
    });
    if (body !== undefined) stream.end(body);
  });
}

const isOver = (session: ClientHttp2Session): boolean => session.closed || session.destroyed;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function until(isSo: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!isSo()) {
    if (Date.now() > deadline) throw new Error(`It did not come to pass: ${isSo}`);
    await sleep(10);
  }
}

function noOpenssl(): string | false {
  return existsSync("/usr/bin/openssl") ? false : "openssl makes the certificates of this test";
}
