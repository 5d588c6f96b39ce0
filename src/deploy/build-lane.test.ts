/** Whose builds may read what an earlier one has left: pure, and all that keeps a preview's caches out of production. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { GitSource } from "../model.ts";
import { lanesToRead, laneToWrite } from "./build-lane.ts";

const of = (target: "production" | "preview", branch?: string, fork = false) => ({
  target,
  git: branch === undefined ? null : ({ branch, fork } as GitSource),
});

test("production reads and writes its own alone", () => {
  for (const deployment of [of("production"), of("production", "main")]) {
    assert.deepEqual([lanesToRead(deployment), laneToWrite(deployment)], [["production"], "production"]);
  }
});

test("a preview starts from production's, and leaves its own", () => {
  assert.deepEqual([lanesToRead(of("preview")), laneToWrite(of("preview"))], [["preview", "production"], "preview"]);
  assert.deepEqual([lanesToRead(of("preview", "a")), laneToWrite(of("preview", "a"))], [["branch:a", "production"], "branch:a"]);
  // A branch may be called what a lane is.
  for (const branch of ["production", "preview"]) assert.equal(laneToWrite(of("preview", branch)), `branch:${branch}`);
});

test("a fork leaves nothing, whatever it is to become, and reads no branch's", () => {
  for (const target of ["preview", "production"] as const) {
    assert.deepEqual([lanesToRead(of(target, "main", true)), laneToWrite(of(target, "main", true))], [["production"], null]);
  }
});
