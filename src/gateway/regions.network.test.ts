/** Three nodes, each in a network namespace of its own: regions over a real network, and one of its cables pulled. For root. */
import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { scratchDirectory } from "../../test/scratch.ts";

const run = promisify(execFile);
const canNamespaces = process.getuid?.() === 0 && existsSync("/usr/sbin/ip") && existsSync("/usr/bin/nsenter");
const skip = canNamespaces ? false : "network namespaces need root, ip and nsenter";
const prefix = `mfr${process.pid}`;
const port = 3000;
/** Region → address. */
const nodes = { dev1: "10.77.0.1", fra1: "10.77.0.2", iad1: "10.77.0.3" } as const;
type Region = keyof typeof nodes;
const testbed = join(import.meta.dirname, "testbed.ts");

const ip = (...args: string[]): string => execFileSync("ip", args, { encoding: "utf8" });
const namespace = (name: string): string => `${prefix}-${name}`;
/** Runs a module's text in a region's namespace. */
const inside = (region: Region, code: string): string[] => [
  `--net=/run/netns/${namespace(region)}`,
  process.execPath,
  "--input-type=module",
  "--eval",
  code,
];

/** What a node of `region` runs until it is killed. */
function nodeCode(region: Region, secretFile: string): string {
  const peers = Object.entries(nodes).filter(([name]) => name !== region);
  const settings = {
    MAYFLY_HOST: "0.0.0.0",
    MAYFLY_PORT: String(port),
    MAYFLY_REGION: region,
    MAYFLY_PEERS: peers.map(([name, address]) => `${name}=http://${address}:${port}`).join(),
    MAYFLY_PEER_SECRET_FILE: secretFile,
  };
  return `
    import { text } from "node:stream/consumers";
    import { answer, openTestbed } from ${JSON.stringify(testbed)};
    const say = async ({ body }) => answer(${JSON.stringify(region)} + " " + (body === null ? "" : await text(body)));
    const regions = { there: ["fra1"], either: ["fra1", "iad1"] };
    await openTestbed({ a: {
      files: { "page.txt": "page" },
      functions: { there: say, either: say },
      manifest: (made) => ({ functions: Object.fromEntries(Object.entries(made.functions).map(([id, spec]) => [id, { ...spec, regions: regions[spec.name] }])) }),
    } }, ${JSON.stringify(settings)});
    console.log("up");`;
}

interface Reply {
  readonly status: number;
  readonly id: string;
  readonly body: string;
}

/** Asks the node at `address` from a region's namespace. */
async function ask(from: Region, address: string, path: string, { body = "", headers = {} } = {}): Promise<Reply> {
  const options = { host: address, port, path, method: body === "" ? "GET" : "POST", headers: { host: "a.localhost", ...headers } };
  const code = `
    import { request } from "node:http";
    import { text } from "node:stream/consumers";
    request(${JSON.stringify(options)}, async (response) => {
      console.log(JSON.stringify({ status: response.statusCode, id: response.headers["x-vercel-id"], body: await text(response) }));
    }).end(${JSON.stringify(body)});`;
  const { stdout } = await run("nsenter", inside(from, code), { timeout: 30_000 });
  return JSON.parse(stdout) as Reply;
}

describe("regions over a network", { skip, timeout: 120_000 }, () => {
  const ends: (() => unknown)[] = [];
  after(() => {
    for (const end of ends.toReversed()) end();
  });

  before(async () => {
    // A switch in a namespace of its own, and a cable to each node.
    const hub = namespace("hub");
    ip("netns", "add", hub);
    ends.push(() => ip("netns", "del", hub));
    ip("-n", hub, "link", "add", "br0", "type", "bridge");
    ip("-n", hub, "link", "set", "br0", "up");
    const secretFile = join(scratchDirectory(), "secret");
    writeFileSync(secretFile, "s".repeat(32));
    for (const region of Object.keys(nodes) as Region[]) {
      const name = namespace(region);
      ip("netns", "add", name);
      ends.push(() => ip("netns", "del", name));
      ip("-n", hub, "link", "add", region, "type", "veth", "peer", "name", "eth0", "netns", name);
      ip("-n", hub, "link", "set", region, "master", "br0", "up");
      ip("-n", name, "addr", "add", `${nodes[region]}/24`, "dev", "eth0");
      ip("-n", name, "link", "set", "eth0", "up");
      ip("-n", name, "link", "set", "lo", "up");
      const node = spawn("nsenter", inside(region, nodeCode(region, secretFile)), { stdio: ["ignore", "pipe", "inherit"] });
      ends.push(() => node.kill("SIGKILL"));
      await once(node.stdout, "data");
    }
  });

  test("a Function runs where it belongs, wherever the request comes in; files are answered on the spot", async () => {
    const there = await ask("dev1", nodes.dev1, "/there", { body: "x".repeat(100_000) });
    assert.deepEqual([there.status, there.body.slice(0, 6), there.body.length], [200, "fra1 x", 100_005]);
    assert.match(there.id, /^dev1::fra1::/);
    assert.match((await ask("iad1", nodes.iad1, "/there")).id, /^iad1::fra1::/);
    assert.match((await ask("fra1", nodes.fra1, "/there")).id, /^fra1::fra1::/);
    assert.match((await ask("dev1", nodes.dev1, "/page.txt")).id, /^dev1::[0-9a-z]+$/);
  });

  test("who is no peer hands nothing on, though it reaches the node", async () => {
    const forged = { "x-mayfly-hop": "W10.AAAA", "x-mayfly-hop-host": "a.localhost" };
    assert.match((await ask("iad1", nodes.fra1, "/there", { headers: forged })).id, /^fra1::fra1::/);
  });

  test("when a node's cable is pulled the next region answers, and the first again when it is back", async () => {
    const hub = namespace("hub");
    assert.match((await ask("dev1", nodes.dev1, "/either")).id, /^dev1::fra1::/);
    ip("-n", hub, "link", "set", "fra1", "down");
    // Over a connection that was kept, and then over none.
    assert.match((await ask("dev1", nodes.dev1, "/either")).id, /^dev1::iad1::/);
    assert.match((await ask("dev1", nodes.dev1, "/either", { body: "b" })).body, /^iad1 b$/);
    ip("-n", hub, "link", "set", "fra1", "up");
    const deadline = Date.now() + 60_000;
    while (!(await ask("dev1", nodes.dev1, "/either")).id.startsWith("dev1::fra1::")) assert.ok(Date.now() < deadline);
  });
});
