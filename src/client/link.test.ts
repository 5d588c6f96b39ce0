/** The file by which a directory is linked to a project, shared with the official client. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { linkPath, readLinkFile, writeLinkFile } from "./link.ts";

const link = { projectId: "prj_1", orgId: "team_1", projectName: "shop" };

it("links a directory as the official client does, and keeps the link that was there", async () => {
  const directory = scratchDirectory();
  assert.equal(await readLinkFile(directory), undefined);
  assert.deepEqual(await writeLinkFile(directory, link), []);
  assert.deepEqual(await readLinkFile(directory), link);
  assert.deepEqual(await writeLinkFile(directory, link), [], "the same link again changes nothing");
  assert.equal(existsSync(join(directory, `${linkPath}.before`)), false);
  assert.equal((await writeLinkFile(directory, { ...link, projectId: "prj_2" })).length, 1);
  assert.match(readFileSync(join(directory, `${linkPath}.before`), "utf8"), /"prj_1"/);
});

it("leaves the link out of Git, once", async () => {
  const directory = scratchDirectory();
  writeFileSync(join(directory, ".gitignore"), "node_modules");
  await writeLinkFile(directory, link);
  await writeLinkFile(directory, link);
  assert.equal(readFileSync(join(directory, ".gitignore"), "utf8"), "node_modules\n.vercel\n");
});

it("refuses a file that names no project", async () => {
  const directory = scratchDirectory();
  mkdirSync(join(directory, ".vercel"));
  for (const text of ["{", "[]", '{"projectId":1,"orgId":"team_1"}']) {
    writeFileSync(join(directory, linkPath), text);
    await assert.rejects(readLinkFile(directory), { code: "config_invalid" });
  }
});
