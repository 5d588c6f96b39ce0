/**
 * Driver of the store: one SQLite file in the data directory, WAL, every commit on disk before it is told. Several
 * processes open it at once: the control plane writes, the data plane reads.
 */
import { Kysely, sql } from "kysely";
import { MayflyError } from "../errors.ts";
import { migrate } from "./migrate.ts";
import { nodeSqliteDialect, openNodeSqlite } from "./node-sqlite.ts";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";

export interface SqliteStoreOptions {
  /** File of the database; made when absent. */
  readonly path: string;
}

/** @throws MayflyError data_directory_unusable */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<Store> {
  try {
    return await open(options.path);
  } catch (error) {
    if (error instanceof MayflyError) throw error;
    throw new MayflyError("data_directory_unusable", `Cannot open the database ${options.path}.`, { cause: error });
  }
}

async function open(path: string): Promise<Store> {
  const database = openNodeSqlite(path, { durable: true });
  const db = new Kysely<Tables>({ dialect: nodeSqliteDialect(database) });
  await db.connection().execute(async (connection) => {
    await sql`begin immediate`.execute(connection);
    try {
      await migrate(connection);
      await sql`commit`.execute(connection);
    } catch (error) {
      await sql`rollback`.execute(connection);
      throw error;
    }
  });
  // data_version changes when another connection commits, total_changes() when this one has written.
  const dataVersion = database.prepare("pragma data_version");
  const ownChanges = database.prepare("select total_changes() as n");
  return {
    db,
    revision: () => Number(dataVersion.get()?.["data_version"]) + Number(ownChanges.get()?.["n"]) / 2 ** 32,
    close: () => db.destroy(),
  };
}
