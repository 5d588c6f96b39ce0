/** Functions in the regions that they name: nodes that hand invocations on to each other, over real sockets. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "../clock.ts";
import { loadConfig } from "../config.ts";
import { MayflyError } from "../errors.ts";
import { HopSeal } from "./hop.ts";
import { parsePeers, probePath } from "./peers.ts";
import { openRegions } from "./regions.ts";
import { ReplayWindow } from "./replay-window.ts";
import { answer, ask, open, openTestbed, talk, type FakeFunction, type SiteParts, type Testbed } from "./testbed.ts";

const secret = "s".repeat(32);
const big = Buffer.alloc(1_000_000, "0123456789");

describe("Functions in other regions", () => {
  test("run there, streamed both ways; static files and what names no region are answered here", async () => {
    await using nodes = await openNodes();
    const there = await ask(nodes.edge, "a.localhost:80", "/there?x=1", { method: "POST", body: "body", headers: { cookie: "c=1" } });
    assert.equal(there.status, 201);
    const seen = JSON.parse(there.body) as { region: string; url: string; body: string; headers: Record<string, string> };
    assert.deepEqual([seen.region, seen.url, seen.body], ["fra1", "/there?x=1", "body"]);
    const { host, cookie, "x-forwarded-for": from, "x-matched-path": matched } = seen.headers;
    assert.deepEqual([host, cookie, from, matched], ["a.localhost:80", "c=1", "127.0.0.1", "/there"]);
    assert.deepEqual(
      Object.keys(seen.headers).filter((name) => name.startsWith("x-mayfly-")),
      [],
    );
    assert.match(String(there.headers["x-vercel-id"]), /^dev1::fra1::[0-9a-z]{16}$/);
    assert.equal(there.headers["x-mayfly-start"], "hot");
    assert.match(String(there.headers["server-timing"]), /queue;dur=0\.10/);
    assert.deepEqual([there.headers["set-cookie"], there.headers.server], [["a=1", "b=2"], "Mayfly"]);
    assert.deepEqual(
      Object.keys(there.headers).filter((name) => name.startsWith("x-mayfly-hop")),
      [],
    );

    const here = await ask(nodes.edge, "a.localhost", "/here");
    assert.match(String(here.headers["x-vercel-id"]), /^dev1::dev1::/);
    const page = await ask(nodes.edge, "a.localhost", "/");
    assert.deepEqual([page.body, /^dev1::[0-9a-z]+$/.test(String(page.headers["x-vercel-id"]))], ["page", true]);
    assert.equal((await ask(nodes.edge, "a.localhost", "/there", { method: "HEAD" })).body, "");

    const up = new PassThrough();
    up.write("one");
    const echo = await open(nodes.edge, "a.localhost", "/echo", { method: "POST", body: up });
    const chunks = echo[Symbol.asyncIterator]();
    assert.equal(String((await chunks.next()).value), "one");
    up.write("two");
    assert.equal(String((await chunks.next()).value), "two");
    up.end();
    assert.equal((await chunks.next()).done, true);
    assert.equal((await ask(nodes.edge, "a.localhost", "/echo", { method: "POST", body: big })).body.length, big.length);
  });

  test("what fails there fails here with its code; a client that leaves is known there", async () => {
    await using nodes = await openNodes();
    const crash = await ask(nodes.edge, "a.localhost", "/crash", { headers: { accept: "application/json" } });
    assert.deepEqual([crash.status, crash.headers["x-vercel-error"]], [500, "FUNCTION_INVOCATION_FAILED"]);
    assert.equal((await ask(nodes.edge, "a.localhost", "/throttled")).headers["retry-after"], "7");
    await assert.rejects(text(await open(nodes.edge, "a.localhost", "/half")), /aborted/);
    const waits = await open(nodes.edge, "a.localhost", "/endless");
    waits.destroy();
    for (let count = 0; count < 500 && nodes.left() === 0; count++) await sleep(10);
    assert.equal(nodes.left(), 1);
  });

  test("a peer that is down: the next one, at last this node; it is left alone for a while", async () => {
    const dead = await closedPort();
    await using next = await openNodes({ before: `fra1=http://127.0.0.1:${dead},` });
    const passed = await ask(next.edge, "a.localhost", "/there", { method: "POST", body: "b" });
    assert.deepEqual([passed.status, JSON.parse(passed.body).region, JSON.parse(passed.body).body], [201, "fra1", "b"]);

    await using alone = await openNodes({ only: `fra1=http://127.0.0.1:${dead}` });
    for (let round = 0; round < 3; round++) {
      const local = await ask(alone.edge, "a.localhost", "/there", { method: "POST", body: "b" });
      assert.deepEqual([JSON.parse(local.body).region, JSON.parse(local.body).body], ["dev1", "b"]);
      assert.match(String(local.headers["x-vercel-id"]), /^dev1::dev1::/);
    }
  });

  test("over TLS, when the peer's certificate is vouched for", async () => {
    const port = await closedPort();
    await using nodes = await openNodes({ httpsPort: port });
    const { authorityPath } = nodes.peer;
    const trusted = { MAYFLY_PEERS: `fra1=https://127.0.0.1:${port}`, MAYFLY_PEER_CA_FILE: authorityPath! };
    await using edge = await nodes.openEdge(trusted);
    const there = await ask(edge, "a.localhost", "/there", { method: "POST", body: "over tls" });
    assert.deepEqual([JSON.parse(there.body).region, JSON.parse(there.body).body], ["fra1", "over tls"]);
    await using wary = await nodes.openEdge({ ...trusted, MAYFLY_PEER_CA_FILE: "" });
    assert.equal(JSON.parse((await ask(wary, "a.localhost", "/there")).body).region, "dev1");
  });

  test("WebSockets, too: bytes both ways, until either side ends it", async () => {
    await using nodes = await openNodes();
    const socket = connect(nodes.edge.port, "127.0.0.1").setEncoding("latin1");
    let heard = "";
    socket.on("data", (chunk: string) => (heard += chunk));
    socket.write("GET /socket HTTP/1.1\r\nhost: a.localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
    const until = async (text: string) => {
      for (let count = 0; count < 1000 && !heard.includes(text); count++) await sleep(10);
      assert.ok(heard.includes(text), heard);
    };
    await until("hello from fra1");
    assert.match(heard, /^HTTP\/1\.1 101 [^]*x-vercel-id: dev1::fra1::/);
    assert.doesNotMatch(heard, /x-mayfly-hop/);
    for (const word of ["one", "two"]) {
      socket.write(word);
      await until(`<${word}>`);
    }
    socket.end();
    await once(socket, "close");
    // Where the Function does not agree the answer is an ordinary one.
    const plain = await ask(nodes.edge, "a.localhost", "/throttled", { headers: { connection: "Upgrade", upgrade: "websocket" } });
    assert.deepEqual([plain.status, plain.headers["retry-after"]], [429, "7"]);
  });

  test("a circle is refused", async () => {
    // The node that is called fra1 here calls itself sfo1.
    await using nodes = await openNodes({ peerRegion: "sfo1" });
    const circle = await ask(nodes.edge, "a.localhost", "/there");
    assert.deepEqual([circle.status, circle.headers["x-vercel-error"]], [508, "INFINITE_LOOP_DETECTED"]);
  });

  test("nobody but a peer can hand a request on", async () => {
    await using nodes = await openNodes();
    const request = { method: "GET", target: "/there", headers: ["host", "a-123456789.localhost", "x-mayfly-hop-host", "a.localhost"] };
    const hop = { id: "0123456789abcdef", functionId: "a/there", from: "dev1" };
    const send = (signature: string, target = "/there", host = "a-123456789.localhost") =>
      talk(
        nodes.peer,
        `GET ${target} HTTP/1.1\r\nhost: ${host}\r\nx-mayfly-hop-host: a.localhost\r\nx-mayfly-hop: ${signature}\r\nconnection: close\r\n\r\n`,
      );
    const sign = (of = secret, atMs = Date.now()) => new HopSeal(of, { now: () => atMs }).sign(hop, request);
    assert.match(await send(sign()), /x-mayfly-hop-result/);
    const used = sign();
    await send(used);
    for (const forged of [
      send(used),
      send(sign("t".repeat(32))),
      send(sign(secret, Date.now() - 120_000)),
      send(sign(), "/other"),
      send(sign(), "/there", "b-123456789.localhost"),
      send(`${sign()}.x`),
      send(`${sign()}x`),
      send("nonsense"),
      send(""),
    ]) {
      assert.doesNotMatch(await forged, /x-mayfly-hop-result/);
    }
    const [sender, receiver] = [new HopSeal(secret, systemClock), new HopSeal(secret, systemClock)];
    const real = sender.sign(hop, request);
    assert.equal(receiver.read(real, { ...request, headers: [...request.headers, "x", "y"] }), null);
    assert.deepEqual(receiver.read(real, request), hop);
    assert.equal(receiver.read(real, request), null);
  });

  test("each statement of a sender counts once, in whatever order they come", () => {
    const window = new ReplayWindow();
    const numbers = Array.from({ length: 2000 }, (_, index) => (index * 7919) % 2000);
    for (const number of numbers) assert.equal(window.take("a", number), true);
    for (const number of numbers) assert.equal(window.take("a", number), false);
    assert.equal(window.take("b", 5), true);
    assert.equal(window.take("a", 1_000_000), true);
    // What is further behind than it can remember counts as heard; what was skipped does not.
    assert.deepEqual([window.take("a", 2001), window.take("a", 999_999), window.take("a", 999_999)], [false, true, false]);
    assert.equal(window.take("a", 1_000_000 + 65_536), true);
    assert.deepEqual([window.take("a", 1_000_000), window.take("a", 1_000_001), window.take("a", 1_000_001)], [false, true, false]);
  });

  test("a peer that has gone is asked again when it is back, and no request finds that out", async () => {
    await using nodes = await openNodes({ settings: { MAYFLY_PEER_PROBE_MS: "50" } });
    const where = async () =>
      JSON.parse((await ask(nodes.edge, "a.localhost", "/there", { method: "POST", body: "b" })).body).region as string;
    assert.equal(await where(), "fra1");
    await nodes.peer.gateway.close(0);
    while ((await where().catch(() => "")) !== "dev1") await sleep(20);
    assert.equal(await where(), "dev1");
    await using back = await openTestbed(nodes.site("fra1"), nodes.settings("fra1", { MAYFLY_PORT: String(nodes.peer.port) }));
    assert.equal(back.port, nodes.peer.port);
    while ((await where()) !== "fra1") await sleep(20);
  });

  test("a peer that leaves a GET in silence, or breaks off before it answers, costs no request; a POST is not sent twice", async () => {
    let posts = 0;
    // Takes connections, and says nothing, or ends them when a request has come.
    let manner: "silent" | "breaks" = "silent";
    const mute = createServer((socket) => {
      socket
        .on("error", () => {})
        .on("data", (chunk: Buffer) => {
          if (chunk.includes("POST /there")) posts++;
          if (manner === "breaks" && !chunk.includes(probePath)) socket.destroy();
        });
    });
    await new Promise<void>((resolve) => void mute.listen(0, "127.0.0.1", resolve));
    const { port } = mute.address() as { port: number };
    try {
      const still = { MAYFLY_PEER_PROBE_MS: "60000", MAYFLY_PEER_PROBE_MS_MAX: "60000", MAYFLY_PEER_LOST_MS: "600000" };
      await using nodes = await openNodes({ before: `fra1=http://127.0.0.1:${port},`, settings: still });
      const hedged = await ask(nodes.edge, "a.localhost", "/there");
      assert.deepEqual([hedged.status, JSON.parse(hedged.body).region], [201, "fra1"]);
      manner = "breaks";
      assert.equal((await ask(nodes.edge, "a.localhost", "/there")).status, 201);
      const lost = await ask(nodes.edge, "a.localhost", "/there", { method: "POST", body: "b" });
      assert.deepEqual([lost.status, lost.headers["x-vercel-error"], posts], [502, "NO_RESPONSE_FROM_FUNCTION", 1]);
    } finally {
      mute.close();
    }
  });

  test("a peer with another secret is handed nothing", async () => {
    await using nodes = await openNodes();
    const other = join(nodes.directory, "other");
    writeFileSync(other, "o".repeat(32));
    await using stranger = await nodes.openEdge({
      MAYFLY_PEERS: `fra1=http://127.0.0.1:${nodes.peer.port}`,
      MAYFLY_PEER_SECRET_FILE: other,
      MAYFLY_PEER_PROBE_MS: "50",
    });
    const where = async () =>
      (await ask(stranger, "a.localhost", "/there", { headers: { accept: "application/json" } })).headers["x-vercel-id"];
    // Until the first probe has come back the peer refuses by itself.
    while (!String(await where()).startsWith("dev1::dev1::")) await sleep(20);
    assert.match(String(await where()), /^dev1::dev1::/);
  });

  test("settings are checked", () => {
    assert.deepEqual(parsePeers("fra1=http://10.0.0.2:3000, iad1=http://[::1]:3000"), [
      { region: "fra1", origin: "http://10.0.0.2:3000" },
      { region: "iad1", origin: "http://[::1]:3000" },
    ]);
    for (const wrong of ["fra1", "fra1=", "=http://a", "fra1=ftp://a", "fra1=http://a/b", "Fra 1=http://a"]) {
      assert.throws(
        () => parsePeers(wrong),
        (error) => error instanceof MayflyError && error.code === "config_invalid",
        wrong,
      );
    }
    const config = loadConfig({}, { MAYFLY_PEERS: "fra1=http://a" });
    const parts = { config, clock: null as never, functions: null as never, hosts: null as never };
    assert.throws(() => openRegions(parts), /MAYFLY_PEER_SECRET_FILE/);
    assert.throws(() => openRegions({ ...parts, config: { ...config, peerSecretFile: "/nowhere/at/all" } }), /Cannot read/);
    assert.equal(openRegions({ ...parts, config: { ...config, peers: "" } }), null);
  });
});

interface Nodes extends AsyncDisposable {
  /** Another node in dev1. */
  readonly openEdge: (settings: Readonly<Record<string, string>>) => Promise<Testbed>;
  /** In dev1: where clients ask. */
  readonly edge: Testbed;
  /** In fra1. */
  readonly peer: Testbed;
  readonly directory: string;
  /** What a node of a region serves, and its settings. */
  readonly site: (region: string) => Readonly<Record<string, SiteParts>>;
  readonly settings: (region: string, more: Readonly<Record<string, string>>) => Readonly<Record<string, string>>;
  /** Clients whose leaving a Function has noticed. */
  left(): number;
}

/** Two nodes that serve the same deployment; all its Functions but `/here` belong to fra1. */
async function openNodes(
  options: {
    readonly peerRegion?: string;
    readonly before?: string;
    readonly only?: string;
    readonly httpsPort?: number;
    /** Of the edge. */
    readonly settings?: Readonly<Record<string, string>>;
  } = {},
): Promise<Nodes> {
  const directory = mkdtempSync(join(tmpdir(), "mayfly-regions-"));
  const secretFile = join(directory, "secret");
  writeFileSync(secretFile, `${secret}\n`);
  let left = 0;
  const site = (region: string): SiteParts => {
    const functions: Record<string, FakeFunction> = {
      here: () => answer("here"),
      async there({ url, headers, body }) {
        const pairs = Object.fromEntries(headers.flatMap((name, index) => (index % 2 === 0 ? [[name, headers[index + 1]]] : [])));
        const said = { region, url, headers: pairs, body: body === null ? null : await text(body) };
        return answer(JSON.stringify(said), { status: 201, headers: ["set-cookie", "a=1", "set-cookie", "b=2", "server", "own"] });
      },
      echo: ({ body }) => answer(body!),
      socket({ body }) {
        const out = new PassThrough();
        out.write(`hello from ${region} `);
        body!.on("data", (chunk: Buffer) => void out.write(`<${chunk.toString()}>`)).on("end", () => void out.end());
        return answer(out, { status: 101 });
      },
      crash() {
        throw new MayflyError("FUNCTION_INVOCATION_FAILED");
      },
      throttled() {
        throw new MayflyError("FUNCTION_THROTTLED", undefined, { details: { retryAfterS: 7 } });
      },
      half() {
        const body = new PassThrough();
        body.write("half");
        setTimeout(() => body.destroy(new MayflyError("FUNCTION_INVOCATION_FAILED")), 50);
        return answer(body);
      },
      endless({ signal }) {
        signal.addEventListener("abort", () => left++);
        return answer(new Readable({ read() {} }));
      },
    };
    return {
      files: { "index.html": "page" },
      functions,
      manifest: (made) => ({
        functions: Object.fromEntries(
          Object.entries(made.functions).map(([id, spec]) => [id, spec.name === "here" ? spec : { ...spec, regions: ["fra1"] }]),
        ),
      }),
    };
  };
  const settings = (region: string, peers: string) => ({
    MAYFLY_REGION: region,
    MAYFLY_PEERS: peers,
    MAYFLY_PEER_SECRET_FILE: secretFile,
  });
  const peer = await openTestbed(
    { a: site("fra1") },
    {
      ...settings(options.peerRegion ?? "fra1", "dev1=http://127.0.0.1:9"),
      ...(options.httpsPort === undefined ? {} : { MAYFLY_HTTPS_PORT: String(options.httpsPort) }),
    },
  );
  const peers = options.only ?? `${options.before ?? ""}fra1=http://127.0.0.1:${peer.port}`;
  const edge = await openTestbed({ a: site("dev1") }, { ...settings("dev1", peers), ...options.settings });
  return {
    edge,
    peer,
    openEdge: (more) => openTestbed({ a: site("dev1") }, { ...settings("dev1", ""), ...more }),
    directory,
    site: (region) => ({ a: site(region) }),
    settings: (region, more) => ({ ...settings(region, "dev1=http://127.0.0.1:9"), ...more }),
    left: () => left,
    async [Symbol.asyncDispose]() {
      await edge[Symbol.asyncDispose]();
      await peer[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true });
    },
  };
}

async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
