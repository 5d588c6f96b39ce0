/** The drivers of the sandbox as this machine can run them, for the tests that each of them must pass. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { after, it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { slotsMax, userIdBase } from "./block.ts";
import { openBubblewrapSandboxes, whyNoBubblewrap } from "./bubblewrap.ts";
import { openOciSandboxes, whyNoOci } from "./oci.ts";
import { openProcessSandboxes } from "./process.ts";
import { within } from "./sandbox.conformance.ts";
import type { SandboxDriver, SandboxDriverOptions } from "./sandbox.ts";

const options: SandboxDriverOptions = { dataDirectory: scratchDirectory(), nodeBinary: process.execPath, networkAllow: [] };
// Another user than the platform's reads it.
chmodSync(options.dataDirectory, 0o755);

const runc = { ...options, runtime: "runc" } as const;
/** Guests of bubblewrap are an ordinary user's; where root runs the tests, one whom nothing else belongs to. */
const ordinary = { ...options, ...(process.getuid?.() === 0 && { user: { uid: 64_123, gid: 64_123 } }) };

interface Candidate {
  readonly name: string;
  readonly open: () => Promise<SandboxDriver>;
  /** Why it does not work on this machine. */
  readonly whyNot: () => Promise<string | null>;
}

const candidates: readonly Candidate[] = [
  { name: "process", open: () => openProcessSandboxes(options), whyNot: async () => null },
  { name: "oci", open: () => openOciSandboxes(options), whyNot: () => whyNoOci(options) },
  { name: "oci with runc", open: () => openOciSandboxes(runc), whyNot: () => whyNoOci(runc) },
  { name: "bubblewrap", open: () => openBubblewrapSandboxes(ordinary), whyNot: () => whyNoBubblewrap(ordinary) },
];

/** Registers a suite's tests for every driver that works here, and a skipped one, with the reason, for every other. */
export async function eachDriver(suite: string, register: (name: string, open: () => Promise<SandboxDriver>) => void): Promise<void> {
  const reasons = await Promise.all(candidates.map(({ whyNot }) => whyNot()));
  for (const [index, { name, open }] of candidates.entries()) {
    const why = reasons[index] ?? null;
    if (why === null) register(name, open);
    else it(`${suite}: ${name}`, { skip: why }, () => {});
  }
}

/** Everything that a block of OCI sandboxes (block.ts) has outside of the data directory, by name. */
export function tracesOf(block: string): readonly string[] {
  const groups = execFileSync("find", ["/sys/fs/cgroup", "-type", "d", "-path", `*/mayfly/${block}*`], { encoding: "utf8" }).split("\n");
  const tables = execFileSync("nft", ["list", "tables"], { encoding: "utf8" }).split("\n");
  const processes = readdirSync("/proc").filter((pid) => blockOfProcess(pid) === block);
  return [
    ...processes.map((pid) => `process ${pid}`),
    ...groups.filter((path) => path.split("/mayfly/")[1]?.split("/")[0] === block),
    ...tables.filter((line) => line === `table inet mayfly_${block}`),
    ...readdirSync("/sys/class/net").filter((name) => name.startsWith(`mf${block}s`)),
    ...[`/run/mayfly/${block}`, `/run/mayfly/${block}.lock`].filter((path) => existsSync(path)),
    ...readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .filter((line) => line.includes(`/run/mayfly/${block}/`)),
  ];
}

/** The block whose users a process belongs to; null: none, or it is dead and only waits for its parent. */
function blockOfProcess(pid: string): string | null {
  if (!/^\d+$/.test(pid)) return null;
  try {
    const userId = statSync(`/proc/${pid}`).uid;
    return userId < userIdBase || readFileSync(`/proc/${pid}/cmdline`, "latin1") === ""
      ? null
      : String(Math.floor((userId - userIdBase) / slotsMax));
  } catch {
    return null; // it has ended meanwhile
  }
}

/**
 * Another machine in a network namespace of its own, with addresses that this one has routes to, until the test's file has
 * ended; it answers at ports 25 and 80 with the address that it was asked from. For root.
 */
export async function fakeInternet() {
  // Of numbers that no other run has.
  const part = 1 + (process.pid % 60);
  const addresses = {
    /** This machine's in the network that both are in, and the other's. */
    near: `203.0.113.${part * 4 + 1}`,
    far: `203.0.113.${part * 4 + 2}`,
    internet: `198.51.100.${part}`,
    hidden: `10.99.99.${part}`,
    metadata: `169.254.200.${part}`,
  };
  const { near, far, internet, hidden, metadata } = addresses;
  const name = `remote${process.pid}`;
  const ip = (...args: string[]): string => execFileSync("ip", args, { encoding: "utf8" });
  ip("netns", "add", name);
  after(() => ip("netns", "del", name));
  ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name);
  after(() => execFileSync("sh", ["-c", 'ip link del "$1" 2>/dev/null || true', "sh", name]));
  ip("addr", "add", `${near}/30`, "dev", name);
  ip("link", "set", name, "up");
  ip("-n", name, "addr", "add", `${far}/30`, "dev", "eth0");
  ip("-n", name, "link", "set", "eth0", "up");
  ip("-n", name, "link", "set", "lo", "up");
  for (const address of [internet, hidden, metadata]) {
    ip("-n", name, "addr", "add", `${address}/32`, "dev", "lo");
    ip("route", "add", `${address}/32`, "via", far);
  }
  const script = `for (const port of [25, 80]) require("net").createServer((s) => s.end(s.remoteAddress)).listen(port, "0.0.0.0", () => port === 80 && console.log("up"))`;
  const server = spawn("nsenter", [`--net=/run/netns/${name}`, process.execPath, "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  after(() => server.kill("SIGKILL"));
  await within(once(server.stdout, "data"), "the other machine");
  return addresses;
}
