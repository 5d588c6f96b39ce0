/** Control groups. Of version 2 alone, which the machine at hand may not have, a directory stands for the hierarchy. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { messageOf } from "../errors.ts";
import { Cgroup, findHierarchies } from "./cgroup.ts";

const line = (path: string, type: string, options: string): string =>
  `30 20 0:26 / ${path} rw,relatime shared:5 - ${type} ${type} ${options}\n`;

function v2Directory(controllers: string): string {
  const root = scratchDirectory();
  writeFileSync(join(root, "cgroup.controllers"), `${controllers}\n`);
  return root;
}

describe("control groups", () => {
  it("sits each duty on the version that can do it", () => {
    const v2 = v2Directory("cpuset cpu io memory pids");
    const seat = { version: 2, root: v2 } as const;
    const all = { memory: seat, cpu: seat, pids: seat, accounting: seat, freezer: seat, hybrid: null, others: [] };
    assert.deepEqual(findHierarchies(line(v2, "cgroup2", "rw,nsdelegate")), all);

    const beside = v2Directory("hugetlb");
    const hybrid = findHierarchies(
      line("/c/memory", "cgroup", "rw,memory") + line("/c/cpu", "cgroup", "rw,cpu,cpuacct") + line(beside, "cgroup2", "rw"),
    );
    assert.deepEqual(hybrid.memory, { version: 1, root: "/c/memory" });
    assert.deepEqual(hybrid.cpu, { version: 1, root: "/c/cpu" });
    assert.equal(hybrid.pids, null);
    assert.deepEqual(hybrid.freezer, { version: 2, root: beside });
    assert.equal(hybrid.hybrid, beside);

    assert.deepEqual(findHierarchies(line("/c/freezer", "cgroup", "rw,freezer")).freezer, { version: 1, root: "/c/freezer" });
    assert.throws(() => findHierarchies(line("/c/memory", "cgroup", "rw,memory")), { code: "sandbox_unavailable" });
  });

  it("writes limits in version 2's own terms, below groups that hand the controllers down", async () => {
    const root = v2Directory("cpu memory pids");
    mkdirSync(join(root, "mayfly", "3", "17"), { recursive: true });
    const group = await Cgroup.create(findHierarchies(line(root, "cgroup2", "rw")), "3/17", {
      memoryBytes: 1000,
      cpus: 0.5,
      weight: 1,
      processesMax: 9,
    });
    const read = (...parts: string[]): string => readFileSync(join(root, ...parts), "utf8");
    for (const parts of [[], ["mayfly"], ["mayfly", "3"]]) assert.equal(read(...parts, "cgroup.subtree_control"), "+memory +cpu +pids");
    assert.equal(Number(read("mayfly", "cpu.weight")), Math.min(10_000, 100 * availableParallelism()));
    const inGroup = (file: string): string => read("mayfly", "3", "17", file);
    assert.equal(inGroup("memory.max"), "1000");
    assert.equal(inGroup("memory.oom.group"), "1");
    assert.equal(inGroup("memory.swap.max"), "0");
    assert.equal(inGroup("cpu.max"), "10000 20000");
    assert.equal(inGroup("pids.max"), "9");
    await group.setLimits({ memoryBytes: 2000, cpus: null, weight: 1, processesMax: 9 });
    assert.equal(inGroup("memory.max"), "2000");
    assert.equal(inGroup("cpu.max"), "max 20000");
    await group.add(1234);
    assert.equal(inGroup("cgroup.procs"), "1234");
  });

  it("sweeps a process that was moved into one hierarchy and into no other", { skip: whyNoVersion1() }, async (test) => {
    const found = findHierarchies();
    const block = `test-${process.pid}-cgroup`;
    await Cgroup.create(found, `${block}/1`, { memoryBytes: 2 ** 26, cpus: 1, weight: 1, processesMax: 9 });
    const child = spawn("sleep", ["60"]);
    const ended = once(child, "exit");
    test.after(() => child.kill("SIGKILL"));
    const directory = join(found.cpu!.root, "mayfly", block, "1");
    writeFileSync(join(directory, "cgroup.procs"), String(child.pid));
    await Cgroup.sweep(found, block);
    assert.deepEqual(await ended, [null, "SIGKILL"]);
    assert.ok(!existsSync(directory));
  });
});

function whyNoVersion1(): string | false {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "making control groups takes root on Linux";
  try {
    const { cpu, freezer } = findHierarchies();
    return cpu?.version === 1 && cpu.root !== freezer.root ? false : "a process is in one hierarchy here, whatever it does";
  } catch (error) {
    return messageOf(error);
  }
}
