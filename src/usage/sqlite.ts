/**
 * Driver of the usage store: one SQLite file of its own. Records of the same Function and minute are added up before they
 * are written, and written in batches: the data plane's only thread waits for the disk while SQLite writes. The data
 * plane writes, the control plane reads and deletes.
 */
import { Kysely, sql, type Expression, type SqlBool } from "kysely";
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";
import { nodeSqliteDialect, openNodeSqlite } from "../store/node-sqlite.ts";
import type { UsageQuery, UsageRecord, UsageRow, UsageStore } from "./usage-store.ts";

export interface SqliteUsageOptions {
  /** File of the database; made when absent. */
  readonly path: string;
  readonly clock: Clock;
  /** Days that usage is kept. */
  readonly daysMax: number;
  /** Rows (Functions × minutes) that may wait to be written. */
  readonly bufferRowsMax: number;
}

interface Tables {
  usage: {
    team_id: string;
    project_id: string;
    deployment_id: string;
    function_name: string;
    minute_ms: number;
    invocations: number;
    errors: number;
    cold_starts: number;
    wall_ms: number;
    cpu_ms: number | null;
    gb_seconds: number;
  };
  /** Deployments whose late usage is not wanted. */
  deleted: { deployment_id: string; deleted_ms: number };
}

const minuteMs = 60_000;
const dayMs = 86_400_000;
/** How long records may wait for company before they are written. */
const batchMs = 250;
/** After a write that failed the next is tried so much later. */
const retryMs = 1000;
/** How often usage that is too old is looked for. */
const trimMs = 3_600_000;
/** Rows of one statement: while it deletes, the data plane cannot write and waits. */
const deleteRowsMax = 1000;
const insertRowsMax = 500;

export async function openSqliteUsage(options: SqliteUsageOptions): Promise<UsageStore> {
  const database = openNodeSqlite(options.path, { durable: false });
  database.exec(`
    create table if not exists usage (
      team_id text not null, project_id text not null, deployment_id text not null, function_name text not null,
      minute_ms integer not null, invocations integer not null, errors integer not null, cold_starts integer not null,
      wall_ms real not null, cpu_ms real, gb_seconds real not null,
      primary key (deployment_id, function_name, minute_ms));
    create index if not exists usage_by_team on usage (team_id, minute_ms);
    create index if not exists usage_by_minute on usage (minute_ms);
    create table if not exists deleted (deployment_id text primary key, deleted_ms integer not null);
  `);
  const usage = new SqliteUsage(new Kysely<Tables>({ dialect: nodeSqliteDialect(database) }), options);
  await usage.trim();
  return usage;
}

class SqliteUsage implements UsageStore {
  readonly #db: Kysely<Tables>;
  readonly #options: SqliteUsageOptions;
  #waiting = new Map<string, Tables["usage"]>();
  #writing: Promise<void> = Promise.resolve();
  #scheduled = false;
  #failing = false;
  /** Records that found no room. */
  #lost = 0;
  #trimmedMs = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(db: Kysely<Tables>, options: SqliteUsageOptions) {
    this.#db = db;
    this.#options = options;
  }

  append(records: readonly UsageRecord[]): void {
    if (this.#closed) return;
    for (const record of records) this.#add(toRow(record));
    if (this.#waiting.size > 0) this.#schedule(batchMs);
  }

  flush(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#write());
    return this.#writing;
  }

  async query(query: UsageQuery): Promise<readonly UsageRow[]> {
    await this.flush();
    const { groupBy, bucketMs } = query;
    let select = this.#db
      .selectFrom("usage")
      .select(({ fn }) => [
        sql<number>`minute_ms - minute_ms % ${bucketMs}`.as("bucket_ms"),
        "project_id",
        groupBy === "function" ? sql<null>`null`.as("deployment_id") : "deployment_id",
        groupBy === "deployment" ? sql<null>`null`.as("function_name") : "function_name",
        fn.sum<number>("invocations").as("invocations"),
        fn.sum<number>("errors").as("errors"),
        fn.sum<number>("cold_starts").as("cold_starts"),
        fn.sum<number>("wall_ms").as("wall_ms"),
        fn.sum<number | null>("cpu_ms").as("cpu_ms"),
        fn.sum<number>("gb_seconds").as("gb_seconds"),
      ])
      .where("minute_ms", ">=", minuteOf(query.sinceMs))
      .where("minute_ms", "<", query.untilMs);
    if (query.teamId !== undefined) select = select.where("team_id", "=", query.teamId);
    if (query.projectId !== undefined) select = select.where("project_id", "=", query.projectId);
    if (query.deploymentId !== undefined) select = select.where("deployment_id", "=", query.deploymentId);
    if (query.functionName !== undefined) select = select.where("function_name", "=", query.functionName);
    // Positions, because a name in `group by` would mean the column, not the null selected under that name.
    const rows = await select
      .groupBy(sql`1, 2, 3, 4`)
      .orderBy(sql`1, 2, 3, 4`)
      .$if(query.limit !== undefined, (limited) => limited.limit(query.limit!))
      .execute();
    return rows.map((row) => ({
      startMs: row.bucket_ms,
      projectId: row.project_id,
      deploymentId: row.deployment_id,
      functionName: row.function_name,
      invocations: row.invocations,
      errors: row.errors,
      coldStarts: row.cold_starts,
      wallMs: row.wall_ms,
      cpuMs: row.cpu_ms,
      gbSeconds: row.gb_seconds,
    }));
  }

  async deleteDeployment(deploymentId: string): Promise<void> {
    await this.flush();
    await this.#db
      .insertInto("deleted")
      .values({ deployment_id: deploymentId, deleted_ms: this.#options.clock.now() })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    await this.#delete(sql`deployment_id = ${deploymentId}`);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    await this.flush();
    this.#closed = true;
    await this.#db.destroy();
  }

  /** Deletes what is too old. */
  async trim(): Promise<void> {
    this.#trimmedMs = this.#options.clock.elapsed();
    const before = this.#options.clock.now() - this.#options.daysMax * dayMs;
    await this.#delete(sql`minute_ms < ${before}`);
    // No instance of theirs lives any more.
    await this.#db.deleteFrom("deleted").where("deleted_ms", "<", before).execute();
  }

  async #delete(condition: Expression<SqlBool> | ReturnType<typeof sql>): Promise<void> {
    for (;;) {
      const { numAffectedRows = 0n } = await sql`
        delete from usage where rowid in (select rowid from usage where ${condition} limit ${deleteRowsMax})
      `.execute(this.#db);
      if (numAffectedRows < BigInt(deleteRowsMax)) return;
    }
  }

  #add(row: Tables["usage"]): void {
    const key = `${row.minute_ms} ${row.deployment_id} ${row.function_name}`;
    const sum = this.#waiting.get(key);
    if (sum !== undefined) {
      sum.invocations += row.invocations;
      sum.errors += row.errors;
      sum.cold_starts += row.cold_starts;
      sum.wall_ms += row.wall_ms;
      if (row.cpu_ms !== null) sum.cpu_ms = (sum.cpu_ms ?? 0) + row.cpu_ms;
      sum.gb_seconds += row.gb_seconds;
    } else if (this.#waiting.size < this.#options.bufferRowsMax) this.#waiting.set(key, row);
    else this.#lost++;
  }

  #schedule(ms: number): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#options.clock.after(ms, () => {
      this.#scheduled = false;
      void this.flush();
    });
  }

  /** Never throws: a full disk costs figures, not the Function they are about. */
  async #write(): Promise<void> {
    if (this.#closed || this.#waiting.size === 0) return;
    const waiting = this.#waiting;
    this.#waiting = new Map();
    try {
      await this.#insert([...waiting.values()]);
      if (this.#options.clock.elapsed() - this.#trimmedMs >= trimMs) await this.trim();
      if (this.#lost > 0) process.emitWarning(`${this.#lost} records of usage were lost for want of room.`);
      this.#lost = 0;
      this.#failing = false;
    } catch (error) {
      for (const row of waiting.values()) this.#add(row);
      if (!this.#failing) process.emitWarning(`Cannot write usage, and will try again: ${messageOf(error)}`);
      this.#failing = true;
      this.#schedule(retryMs);
    }
  }

  async #insert(rows: readonly Tables["usage"][]): Promise<void> {
    const deployments = [...new Set(rows.map((row) => row.deployment_id))];
    await this.#db.transaction().execute(async (trx) => {
      for (let start = 0; start < rows.length; start += insertRowsMax) {
        await trx
          .insertInto("usage")
          .values(rows.slice(start, start + insertRowsMax))
          .onConflict((conflict) =>
            conflict.columns(["deployment_id", "function_name", "minute_ms"]).doUpdateSet({
              invocations: sql`usage.invocations + excluded.invocations`,
              errors: sql`usage.errors + excluded.errors`,
              cold_starts: sql`usage.cold_starts + excluded.cold_starts`,
              wall_ms: sql`usage.wall_ms + excluded.wall_ms`,
              cpu_ms: sql`coalesce(usage.cpu_ms + excluded.cpu_ms, usage.cpu_ms, excluded.cpu_ms)`,
              gb_seconds: sql`usage.gb_seconds + excluded.gb_seconds`,
            }),
          )
          .execute();
      }
      // Looked up after the first write, when no other process can delete meanwhile.
      for (let start = 0; start < deployments.length; start += insertRowsMax) {
        await trx
          .deleteFrom("usage")
          .where(
            "deployment_id",
            "in",
            trx
              .selectFrom("deleted")
              .select("deployment_id")
              .where("deployment_id", "in", deployments.slice(start, start + insertRowsMax)),
          )
          .execute();
      }
    });
  }
}

const minuteOf = (timestampMs: number): number => timestampMs - (timestampMs % minuteMs);

function toRow(record: UsageRecord): Tables["usage"] {
  return {
    team_id: record.teamId,
    project_id: record.projectId,
    deployment_id: record.deploymentId,
    function_name: record.functionName,
    minute_ms: minuteOf(record.timestampMs),
    invocations: record.invocations,
    errors: record.errors,
    cold_starts: record.coldStarts,
    wall_ms: record.wallMs,
    cpu_ms: record.cpuMs,
    gb_seconds: record.gbSeconds,
  };
}
