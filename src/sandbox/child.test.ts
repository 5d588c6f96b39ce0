/** Children as they come out: descriptors, signals, ends, and what cannot be run. */
import assert from "node:assert/strict";
import { closeSync, readFileSync } from "node:fs";
import { Socket } from "node:net";
import { describe, it } from "node:test";
import { text } from "node:stream/consumers";
import { openSocketPair, startChild, type Child } from "./child.ts";
import { runCommand } from "./command.ts";
import { openPipe } from "./libc.ts";

/** Runs a shell's script whose descriptors are those given; 1 is read. */
async function run(
  script: string,
  more: readonly (number | null)[] = [],
  msMax = 10_000,
): Promise<{ child: Child; said: Promise<string> }> {
  const { read, write } = openPipe();
  const out = new Socket({ fd: read, readable: true, writable: false });
  try {
    const descriptors = [null, write, null, ...more];
    const child = await startChild({
      program: "/bin/sh",
      args: ["-c", script],
      env: { A: "b c", PATH: "/usr/bin:/bin" },
      descriptors,
      msMax,
    });
    return { child, said: text(out) };
  } finally {
    closeSync(write);
  }
}

describe("children", () => {
  it("have the arguments, environment and descriptors that they are given, and no signal ignored or held", async () => {
    const pair = openSocketPair();
    const ours = new Socket({ fd: pair.ours, readable: true, writable: true });
    const { child, said } = await run('echo "$A"; read line <&3; echo "$line" >&3; grep -E "Sig(Blk|Ign)" /proc/self/status; exit 7', [
      pair.theirs,
    ]);
    closeSync(pair.theirs);
    ours.write("hello\n");
    assert.equal(await text(ours), "hello\n");
    assert.deepEqual(await child.ended, { code: 7, signal: null });
    assert.match(await said, /^b c\nSigBlk:\t0{16}\nSigIgn:\t0{16}\n$/);
  });

  it("get a descriptor that stands where another is to be", async () => {
    const pipes = [openPipe(), openPipe()];
    // Each in the place of the other.
    const low = pipes.map(({ write }) => write).toSorted((a, b) => a - b);
    const places: (number | null)[] = Array.from({ length: low[1]! - 2 }, () => null);
    places[low[0]! - 3] = low[1]!;
    places[low[1]! - 3] = low[0]!;
    const { child } = await run(`echo from-low >/proc/self/fd/${low[0]}; echo from-high >/proc/self/fd/${low[1]}`, places);
    for (const { write } of pipes) closeSync(write);
    await child.ended;
    const words = await Promise.all(pipes.map(({ read }) => text(new Socket({ fd: read, readable: true, writable: false }))));
    const [lower, higher] = pipes[0]!.write < pipes[1]!.write ? words : words.toReversed();
    assert.deepEqual([lower, higher], ["from-high\n", "from-low\n"]);
  });

  it("are reaped, however many end at once, and killed when they take too long", async () => {
    const children = await Promise.all(Array.from({ length: 30 }, (_, index) => run(`exit ${index}`)));
    const codes = await Promise.all(children.map(async ({ child }) => (await child.ended).code));
    assert.deepEqual(
      codes,
      Array.from({ length: 30 }, (_, index) => index),
    );
    const { child } = await run("exec sleep 1000", [], 50);
    assert.deepEqual(await child.ended, { code: null, signal: "SIGKILL" });
    // No zombie is left.
    for (const { pid } of [child, ...children.map((each) => each.child)]) assert.throws(() => readFileSync(`/proc/${pid}/stat`));
    child.kill();
    assert.equal(process.listenerCount("SIGCHLD"), 0);
  });

  it("that cannot be run are an error that says so", async () => {
    const options = { args: [], env: {}, descriptors: [], msMax: 1000 };
    await assert.rejects(startChild({ program: "/nowhere/program", ...options }), /Cannot run \/nowhere\/program: ENOENT/);
    await assert.rejects(startChild({ program: "/etc", ...options }), /EACCES/);
    await assert.rejects(runCommand("no-such-program", []), /Cannot run no-such-program: it is not installed/);
  });

  it("are given their input, and stopped when they write without end", async () => {
    assert.equal(await runCommand("cat", [], "in and out"), "in and out");
    await assert.rejects(runCommand("sh", ["-c", "echo no >&2; exit 3"]), /sh -c failed \(3\): no/);
    await assert.rejects(runCommand("yes", []), /yes {2}failed \(SIG(KILL|PIPE)\)/);
  });
});
