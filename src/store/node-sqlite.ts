/**
 * What Kysely's SQLite dialect wants of a database, given by `node:sqlite` (Kysely knows better-sqlite3; the shapes
 * differ in three places). Shared by the metadata store and the log store.
 */
import { SqliteDialect, type SqliteDatabase } from "kysely";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";

/** Opens a database in WAL mode; `durable` makes every commit reach the disk before it returns. */
export function openNodeSqlite(path: string, options: { durable: boolean }): DatabaseSync {
  const database = new DatabaseSync(path, { enableForeignKeyConstraints: true, timeout: 5000 });
  database.exec("pragma journal_mode = wal");
  database.exec(`pragma synchronous = ${options.durable ? "full" : "normal"}`);
  return database;
}

export function nodeSqliteDialect(database: DatabaseSync): SqliteDialect {
  const adapter: SqliteDatabase = {
    close: () => database.close(),
    prepare(text) {
      const statement = database.prepare(text);
      const values = (parameters: readonly unknown[]) => parameters as SQLInputValue[];
      return {
        reader: statement.columns().length > 0,
        // Rows come without a prototype; callers expect plain objects.
        all: (parameters) => statement.all(...values(parameters)).map((row) => ({ ...row })),
        run: (parameters) => statement.run(...values(parameters)),
        iterate: (parameters) => statement.iterate(...values(parameters)) as IterableIterator<unknown>,
      };
    },
  };
  return new SqliteDialect({ database: adapter });
}
