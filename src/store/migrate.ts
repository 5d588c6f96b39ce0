/** Brings a database forward to this version's tables; a database from a newer version is refused, never touched. */
import { sql, type Kysely } from "kysely";
import { MayflyError } from "../errors.ts";
import * as begin from "./migrations/001-begin.ts";
import * as cachePurges from "./migrations/002-cache-purges.ts";
import * as projectsAtWork from "./migrations/003-projects-at-work.ts";
import * as git from "./migrations/004-git.ts";
import * as buildRecords from "./migrations/005-build-records.ts";
import * as garbage from "./migrations/006-garbage.ts";
import type { Tables } from "./tables.ts";

/** In order; the place in the list is the version. */
const migrations = [begin, cachePurges, projectsAtWork, git, buildRecords, garbage];

export const latestVersion = migrations.length;

/**
 * Call it in a transaction that keeps other writers out.
 * @param to a version: an older one for tests only
 * @throws MayflyError data_directory_unusable when the database is newer than this program
 */
export async function migrate(db: Kysely<Tables>, to: number = latestVersion): Promise<void> {
  await sql`create table if not exists migrations (version integer primary key)`.execute(db);
  const { rows } = await sql<{ version: number | null }>`select max(version) as version from migrations`.execute(db);
  const version = rows[0]?.version ?? 0;
  if (version > migrations.length) {
    throw new MayflyError(
      "data_directory_unusable",
      `The database has version ${version}; this Mayfly knows versions up to ${migrations.length}. Start a newer Mayfly.`,
    );
  }
  for (const [index, migration] of migrations.entries()) {
    if (index < version || index >= to) continue;
    await migration.up(db as unknown as Kysely<never>);
    await sql`insert into migrations (version) values (${index + 1})`.execute(db);
  }
}
