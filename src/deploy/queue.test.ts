/** The order of builds: bounded, fair between projects, and without those that a newer push has made pointless. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { GitSource } from "../model.ts";
import { BuildQueue, concurrencyHere, type QueuedDeployment } from "./queue.ts";

function openQueue(concurrency = 1, waitingMax = 100) {
  const started: string[] = [];
  const superseded: [string, string][] = [];
  const ends = new Map<string, () => void>();
  const queue = new BuildQueue({
    concurrency,
    waitingMax,
    log: () => {},
    run(id, signal) {
      started.push(id);
      return new Promise((resolve) => {
        ends.set(id, resolve);
        signal.addEventListener("abort", () => resolve());
      });
    },
    supersede: async (id, by) => void superseded.push([id, by]),
  });
  const finish = async (id: string) => {
    ends.get(id)!();
    await turn();
  };
  return { queue, started, superseded, finish };
}

const deployment = (id: string, projectId = "prj_a", git: GitSource | null = null): QueuedDeployment => ({
  id,
  projectId,
  target: "preview",
  git,
});
const push = (branch: string, repository = "o/r", fork = false): GitSource => ({
  provider: "github",
  repository,
  branch,
  commitSha: "0".repeat(40),
  commitMessage: "",
  commitAuthor: "",
  pullRequest: null,
  fork,
});

test("projects take turns; within one the order is that of arrival", async () => {
  const { queue, started, finish } = openQueue();
  for (const id of ["a1", "a2", "a3", "a4"]) queue.enqueue(deployment(id));
  queue.enqueue(deployment("b1", "prj_b"));
  queue.enqueue(deployment("b2", "prj_b"));
  queue.enqueue(deployment("c1", "prj_c"));
  for (const id of ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]) {
    assert.equal(started.at(-1), id, started.join(" "));
    await finish(id);
  }
});

test("so many at once, and no more wait than may", async () => {
  const { queue, started, finish } = openQueue(2, 2);
  for (const id of ["1", "2", "3"]) queue.enqueue(deployment(id));
  queue.refuseWhenFull();
  queue.enqueue(deployment("4"));
  assert.deepEqual(started, ["1", "2"]);
  assert.throws(() => queue.refuseWhenFull(), { code: "queue_full" });
  await finish("2");
  assert.deepEqual(started, ["1", "2", "3"]);
  queue.refuseWhenFull();
});

test("a newer push replaces the queued build of its branch, and no other", async () => {
  const { queue, started, superseded, finish } = openQueue();
  queue.enqueue(deployment("running", "prj_a", push("main")));
  queue.enqueue(deployment("old", "prj_a", push("main")));
  queue.enqueue(deployment("branch", "prj_a", push("other")));
  queue.enqueue(deployment("fork", "prj_a", push("main", "o/r", true)));
  queue.enqueue(deployment("byHand"));
  queue.enqueue({ ...deployment("production", "prj_a", push("main")), target: "production" });

  test("two forks' branches of one name are two places", () => {
    const { queue, superseded } = openQueue();
    const pull = (id: string, pullRequest: number) =>
      queue.enqueue(deployment(id, "prj_a", { ...push("patch-1", "o/r", true), pullRequest }));
    pull("running", 1);
    pull("first", 1);
    pull("other", 2);
    pull("second", 1);
    assert.deepEqual(superseded, [["first", "second"]]);
  });
  queue.enqueue(deployment("elsewhere", "prj_b", push("main")));
  queue.enqueue(deployment("byHand2"));
  queue.enqueue(deployment("new", "prj_a", push("main")));
  assert.deepEqual(superseded, [["old", "new"]]);
  for (let index = 0; index < 8; index++) await finish(started.at(-1)!);
  assert.deepEqual(started.toSorted(), ["branch", "byHand", "byHand2", "elsewhere", "fork", "new", "production", "running"]);
});

test("what is canceled does not start, or ends; what is closed starts nothing more", async () => {
  const { queue, started, finish } = openQueue();
  for (const id of ["1", "2", "3", "4"]) queue.enqueue(deployment(id));
  await queue.cancel("2");
  await queue.cancel("1");
  assert.deepEqual(started, ["1", "3"]);
  queue.enqueue(deployment("3"));
  await finish("3");
  assert.deepEqual(started, ["1", "3", "4"]);
  await queue.close();
  queue.enqueue(deployment("5"));
  assert.deepEqual(started, ["1", "3", "4"]);
});

test("as many at once as asked, else by the machine", () => {
  assert.equal(concurrencyHere(7, 3008), 7);
  assert.ok(concurrencyHere(0, 1) >= 1);
  assert.equal(concurrencyHere(0, 1_000_000_000), 1);
});
