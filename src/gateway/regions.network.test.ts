/**
 * Three nodes, each in a network namespace of its own: regions over a real network whose cables are pulled and whose nodes
 * die. Clients ask through a unix socket for each node, which a process in dev1's namespace joins to it. For root.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { scratchDirectory } from "../../test/scratch.ts";

const canNamespaces = process.getuid?.() === 0 && existsSync("/usr/sbin/ip") && existsSync("/usr/bin/nsenter");
const skip = canNamespaces ? false : "network namespaces need root, ip and nsenter";
const prefix = `mfr${process.pid}`;
const port = 3000;
const httpsPort = 3443;
/** Region → address. */
const nodes = { dev1: "10.77.0.1", fra1: "10.77.0.2", iad1: "10.77.0.3" } as const;
type Region = keyof typeof nodes;
const directory = scratchDirectory();
const testbed = join(import.meta.dirname, "testbed.ts");
const socketOf = (name: string): string => join(directory, `${name}.sock`);

const ip = (...args: string[]): string => execFileSync("ip", args, { encoding: "utf8" });
const namespace = (name: string): string => `${prefix}-${name}`;

/** Runs a module's text in a region's namespace until it is killed; resolves with its first line. */
async function runInside(region: Region, code: string): Promise<{ readonly process: ChildProcess; readonly said: string }> {
  const args = [`--net=/run/netns/${namespace(region)}`, process.execPath, "--input-type=module", "--eval", code];
  const child = spawn("nsenter", args, { stdio: ["ignore", "pipe", "inherit"] });
  const [said] = (await Promise.race([
    once(child.stdout.setEncoding("utf8"), "data"),
    once(child, "exit").then(() => assert.fail(`The process in ${region} ended`)),
  ])) as [string];
  return { process: child, said };
}

/** What a node serves: each Function says where it ran. */
function nodeCode(region: Region, settings: Readonly<Record<string, string>>): string {
  const all = { MAYFLY_HOST: "0.0.0.0", MAYFLY_PORT: String(port), MAYFLY_REGION: region, ...settings };
  return `
    import { once } from "node:events";
    import { PassThrough } from "node:stream";
    import { text } from "node:stream/consumers";
    import { answer, openTestbed } from ${JSON.stringify(testbed)};
    const region = ${JSON.stringify(region)};
    let made = 0;
    const say = async ({ body }) => answer(region + " " + (body === null ? "" : await text(body)));
    const functions = {
      there: say,
      either: say,
      circle: say,
      kept: () => answer(region + " " + ++made, { headers: ["content-type", "text/plain", "cache-control", "s-maxage=60"] }),
      echo: ({ body }) => answer(body),
      events() {
        const body = new PassThrough();
        let count = 0;
        const timer = setInterval(() => void body.write("data: " + ++count + "\\n\\n"), 50);
        body.once("close", () => clearInterval(timer));
        return answer(body, { headers: ["content-type", "text/event-stream"] });
      },
      socket({ body }) {
        const out = new PassThrough();
        out.write("hello from " + region + " ");
        body.on("data", (chunk) => void out.write("<" + chunk + ">")).on("end", () => void out.end());
        return answer(out, { status: 101 });
      },
    };
    const regions = { either: ["fra1", "iad1"], circle: ["sfo1"] };
    const bed = await openTestbed({ a: {
      files: { "page.txt": "page" },
      functions,
      manifest: (made) => ({ functions: Object.fromEntries(Object.entries(made.functions).map(([id, spec]) => [id, { ...spec, regions: regions[spec.name] ?? ["fra1"] }])) }),
    } }, ${JSON.stringify(all)});
    console.log(bed.authorityPath ?? "up");`;
}

/** Joins a unix socket for each of `targets` to that address. */
function bridgeCode(targets: Readonly<Record<string, readonly [address: string, port: number]>>): string {
  return `
    import { connect, createServer } from "node:net";
    for (const [path, [host, port]] of ${JSON.stringify(Object.entries(targets).map(([name, target]) => [socketOf(name), target]))}) {
      const server = createServer({ allowHalfOpen: true }, (client) => {
        const node = connect({ host, port, allowHalfOpen: true, noDelay: true });
        for (const [from, to] of [[client, node], [node, client]]) from.on("error", () => to.destroy()).on("close", () => to.end()).pipe(to);
      });
      await new Promise((resolve) => server.listen(path, resolve));
    }
    console.log("up");`;
}

/** Begins a request to a node; resolves with the response's head. */
async function open(node: string, path: string, { body = "", headers = {} } = {}): Promise<IncomingMessage> {
  const options = { socketPath: socketOf(node), path, method: body === "" ? "GET" : "POST", agent: false as const };
  const outgoing = httpRequest({ ...options, headers: { host: "a.localhost", ...headers } });
  outgoing.end(body);
  const [response] = (await once(outgoing, "response")) as [IncomingMessage];
  return response;
}

async function ask(node: string, path: string, parts: Parameters<typeof open>[2] = {}) {
  const response = await open(node, path, parts);
  return {
    status: response.statusCode,
    id: String(response.headers["x-vercel-id"]),
    body: await text(response),
    headers: response.headers,
  };
}

/** Asks until it ran where it should. */
async function untilRanIn(node: string, path: string, region: Region): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await ask(node, path)).id.includes(`::${region}::`)) {
    assert.ok(Date.now() < deadline, `${path} never ran in ${region}`);
    await sleep(20);
  }
}

/** A connection on which the Function speaks after an upgrade, and what it has said. */
async function upgrade(node: string) {
  const socket = connect(socketOf(node)).setEncoding("latin1");
  let heard = "";
  socket.on("data", (chunk: string) => (heard += chunk)).on("error", () => {});
  socket.write("GET /socket HTTP/1.1\r\nhost: a.localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
  const until = async (words: string): Promise<void> => {
    const deadline = Date.now() + 30_000;
    while (!heard.includes(words)) {
      assert.ok(Date.now() < deadline, `"${words}" has not come: ${heard}`);
      await sleep(5);
    }
  };
  await until("hello from");
  return { socket, until, heard: () => heard };
}

describe("regions over a network", { skip, timeout: 120_000 }, () => {
  const ends: (() => unknown)[] = [];
  const running = new Map<string, ChildProcess>();
  const secretFile = join(directory, "secret");
  const wrongSecretFile = join(directory, "wrong-secret");
  after(() => {
    for (const end of ends.toReversed()) end();
  });

  async function startNode(name: string, region: Region, settings: Readonly<Record<string, string>> = {}): Promise<string> {
    const peers = Object.entries(nodes).filter(([other]) => other !== region);
    const node = await runInside(
      region,
      nodeCode(region, {
        MAYFLY_PEERS: peers.map(([other, address]) => `${other}=http://${address}:${port}`).join(),
        MAYFLY_PEER_SECRET_FILE: secretFile,
        MAYFLY_PEER_PROBE_MS: "200",
        MAYFLY_PEER_LOST_MS: "2000",
        ...settings,
      }),
    );
    running.set(name, node.process);
    ends.push(() => node.process.kill("SIGKILL"));
    return node.said.trim();
  }

  before(async () => {
    // A switch in a namespace of its own, and a cable to each node.
    const hub = namespace("hub");
    ip("netns", "add", hub);
    ends.push(() => ip("netns", "del", hub));
    ip("-n", hub, "link", "add", "br0", "type", "bridge");
    ip("-n", hub, "link", "set", "br0", "up");
    writeFileSync(secretFile, "s".repeat(32));
    writeFileSync(wrongSecretFile, "w".repeat(32));
    for (const region of Object.keys(nodes) as Region[]) {
      const name = namespace(region);
      ip("netns", "add", name);
      ends.push(() => ip("netns", "del", name));
      ip("-n", hub, "link", "add", region, "type", "veth", "peer", "name", "eth0", "netns", name);
      ip("-n", hub, "link", "set", region, "master", "br0", "up");
      ip("-n", name, "addr", "add", `${nodes[region]}/24`, "dev", "eth0");
      ip("-n", name, "link", "set", "eth0", "up");
      ip("-n", name, "link", "set", "lo", "up");
    }
    const authorityPath = await startNode("fra1", "fra1", { MAYFLY_HTTPS_PORT: String(httpsPort) });
    const bridge = { ...Object.fromEntries(Object.entries(nodes).map(([name, address]) => [name, [address, port] as const])) };
    const [, , , joined] = await Promise.all([
      // Takes iad1 for sfo1, too.
      startNode("dev1", "dev1", {
        MAYFLY_PEERS: `fra1=http://${nodes.fra1}:${port},iad1=http://${nodes.iad1}:${port},sfo1=http://${nodes.iad1}:${port}`,
      }),
      // Speaks TLS with fra1.
      startNode("iad1", "iad1", {
        MAYFLY_PEERS: `fra1=https://${nodes.fra1}:${httpsPort}`,
        MAYFLY_PEER_CA_FILE: authorityPath,
      }),
      startNode("stranger", "dev1", { MAYFLY_PORT: "3001", MAYFLY_PEER_SECRET_FILE: wrongSecretFile }),
      runInside("dev1", bridgeCode({ ...bridge, stranger: [nodes.dev1, 3001] })),
    ]);
    ends.push(() => joined.process.kill("SIGKILL"));
    await untilRanIn("dev1", "/there", "fra1");
  });

  test("a Function runs where it belongs, wherever the request comes in, over HTTP and TLS", async () => {
    const there = await ask("dev1", "/there", { body: "x".repeat(1_000_000) });
    assert.deepEqual([there.status, there.body.slice(0, 6), there.body.length], [200, "fra1 x", 1_000_005]);
    assert.match(there.id, /^dev1::fra1::/);
    assert.match((await ask("iad1", "/there", { body: "over TLS" })).id, /^iad1::fra1::/);
    assert.match((await ask("fra1", "/there")).id, /^fra1::fra1::/);
  });

  test("a circle is refused", async () => {
    const circle = await ask("dev1", "/circle");
    assert.deepEqual([circle.status, circle.headers["x-vercel-error"]], [508, "INFINITE_LOOP_DETECTED"]);
  });

  test("files and kept answers are given where the request comes in", async () => {
    assert.match((await ask("dev1", "/page.txt")).id, /^dev1::[0-9a-z]+$/);
    for (const [node, expected] of [
      ["dev1", "MISS fra1 1"],
      ["dev1", "HIT fra1 1"],
      ["iad1", "MISS fra1 2"],
      ["iad1", "HIT fra1 2"],
    ] as const) {
      const { headers, body } = await ask(node, "/kept");
      assert.equal(`${String(headers["x-vercel-cache"])} ${body}`, expected);
    }
  });

  test("answers come chunk by chunk, bodies go chunk by chunk, and a WebSocket stays open both ways", async () => {
    for (const node of ["dev1", "iad1"]) {
      const events = await open(node, "/events");
      const seen: string[] = [];
      for await (const chunk of events) {
        seen.push(String(chunk));
        if (seen.join("").includes("data: 3")) break;
      }
      assert.ok(seen.length >= 3, `${node}: ${seen.length} chunks`);

      const upload = httpRequest({
        socketPath: socketOf(node),
        path: "/echo",
        method: "POST",
        headers: { host: "a.localhost" },
        agent: false,
      });
      upload.write("one");
      const [response] = (await once(upload, "response")) as [IncomingMessage];
      const chunks = response[Symbol.asyncIterator]();
      assert.equal(String((await chunks.next()).value), "one");
      upload.end("two");
      assert.equal(String((await chunks.next()).value), "two");
      assert.equal((await chunks.next()).done, true);

      const { socket, until, heard } = await upgrade(node);
      assert.match(heard(), new RegExp(`^HTTP/1\\.1 101 [^]*x-vercel-id: ${node}::fra1::`));
      for (const word of ["one", "x".repeat(200_000)]) {
        socket.write(word);
        await until(word.slice(-100));
      }
      socket.end();
      await once(socket, "close");
    }
  });

  test("who is no peer hands nothing on, though it reaches the node", async () => {
    const forged = { "x-mayfly-hop": "W10.AAAA", "x-mayfly-hop-host": "a.localhost", "x-mayfly-hop-result": "%7B%7D" };
    const answered = await ask("fra1", "/there", { headers: forged });
    assert.match(answered.id, /^fra1::fra1::/);
    assert.ok(!Object.keys(answered.headers).some((name) => name.startsWith("x-mayfly-hop")));
    // A node with another secret finds nobody.
    await untilRanIn("stranger", "/there", "dev1");
  });

  test("when a node's cable is pulled the next region answers the first request already, and the first region again when it is back", async (t) => {
    const hub = namespace("hub");
    await untilRanIn("dev1", "/either", "fra1");
    const events = await open("dev1", "/events");
    const tunnel = await upgrade("dev1");
    ip("-n", hub, "link", "set", "fra1", "down");
    const begunMs = Date.now();
    // Over a connection that was kept.
    assert.match((await ask("dev1", "/either")).id, /^dev1::iad1::/);
    t.diagnostic(`the first request after the cable was pulled was answered in ${Date.now() - begunMs} ms`);
    await untilRanIn("dev1", "/there", "dev1");
    t.diagnostic(`the peer was known to be down after ${Date.now() - begunMs} ms`);
    assert.equal((await ask("dev1", "/either", { body: "b" })).body, "iad1 b");
    // What was under way is not left hanging.
    await assert.rejects(text(events), /aborted/);
    if (!tunnel.socket.closed) await once(tunnel.socket, "close");
    ip("-n", hub, "link", "set", "fra1", "up");
    await untilRanIn("dev1", "/either", "fra1");
  });

  test("when a node dies in the middle of an answer the client sees that it is not whole, and the next request is answered", async () => {
    const events = await open("dev1", "/events");
    await once(events, "data");
    running.get("fra1")!.kill("SIGKILL");
    await assert.rejects(text(events), /aborted/);
    assert.match((await ask("dev1", "/either")).id, /^dev1::iad1::/);
    assert.equal((await ask("dev1", "/either", { body: "b" })).body, "iad1 b");
  });
});
