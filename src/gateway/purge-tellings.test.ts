/** What instances are told of purges, and that a runtime reads it so. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { learnPurges, notePurge, purgedUntil } from "../runtime/purged-tags.js";
import { everyProject } from "../store/purges.ts";
import { PurgeTellings } from "./purge-tellings.ts";

const of = (deploymentId: string | null, tag: string | null, createdAt: number, mode: "delete" | "invalidate" = "delete") => ({
  projectId: "prj_1",
  deploymentId,
  tag,
  mode,
  createdAt,
});

test("a deployment is told its own and its project's purges, nothing of another's, nothing of the edge's own", () => {
  const tellings = new PurgeTellings();
  assert.equal(tellings.of("prj_1", "dpl_1"), null);
  tellings.add(of("dpl_1", " page /a", 1));
  tellings.add(of("dpl_2", "b", 1));
  assert.equal(tellings.of("prj_1", "dpl_1"), null);
  tellings.add(of("dpl_1", "a;=ü", 5));
  tellings.add(of("dpl_1", "a;=ü", 4));
  tellings.add(of(null, "c", 7, "invalidate"));
  assert.equal(tellings.of("prj_1", "dpl_1"), "0;d5=a%3B%3D%C3%BC;i7=c");
  tellings.add(of("dpl_1", null, 6));
  assert.equal(tellings.of("prj_1", "dpl_1"), "6;d5=a%3B%3D%C3%BC;i7=c");
  tellings.add({ ...of(null, null, 8), projectId: everyProject });
  assert.equal(tellings.of("prj_9", "dpl_9"), "8");
});

test("what is too much to be told is told as all that is older", () => {
  const tellings = new PurgeTellings();
  for (let index = 1; index <= 1000; index++) tellings.add(of("dpl_1", `tag-${index}`, index));
  const told = tellings.of("prj_1", "dpl_1")!;
  assert.match(told, /^968;d969=tag-969;.*;d1000=tag-1000$/);
  learnPurges(told);
  assert.deepEqual([purgedUntil(["tag-1000"], "delete"), purgedUntil(["tag-1"], "delete"), purgedUntil([], "delete")], [1000, 968, 968]);
  assert.equal(purgedUntil(["tag-1000"], "invalidate"), 0);
});

test("a runtime that is told again what it knows changes nothing, and never goes back", () => {
  notePurge("mine", "delete", 2000);
  learnPurges("0;d1500=mine;i3000=other");
  learnPurges("0");
  assert.deepEqual([purgedUntil(["mine"], "delete"), purgedUntil(["other", "mine"], "invalidate")], [2000, 3000]);
});
