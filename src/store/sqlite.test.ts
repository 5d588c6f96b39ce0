/** SQLite as a store: the suite of all, and files that are not ours to open. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";
import { it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { gitStoreConformance } from "./git.conformance.ts";
import { openSqliteStore } from "./sqlite.ts";
import { storeConformance } from "./store.conformance.ts";

const fresh = () => {
  const path = join(scratchDirectory(), "mayfly.db");
  return { open: () => openSqliteStore({ path }) };
};
storeConformance("sqlite", fresh);
gitStoreConformance("sqlite", fresh);

it("refuses a database of a newer version, and a file that is none", async () => {
  const directory = scratchDirectory();
  const newer = new DatabaseSync(join(directory, "newer.db"));
  newer.exec("create table migrations (version integer primary key); insert into migrations values (9999)");
  newer.close();
  await assert.rejects(openSqliteStore({ path: join(directory, "newer.db") }), /version 9999/);
  writeFileSync(join(directory, "text.db"), "this is no database, it is a text that is long enough to be looked at");
  await assert.rejects(openSqliteStore({ path: join(directory, "text.db") }), { code: "data_directory_unusable" });
});
