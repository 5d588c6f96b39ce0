/**
 * Driver of the log store: one SQLite file of its own (so that captured lines do not touch the metadata), written in
 * batches. Data plane and control plane both write to it; each trims what it wrote to. Who asks goes through Kysely; a
 * batch runs statements that are kept prepared, in one turn, since it is written beside the requests that it tells of.
 */
import { Kysely, sql } from "kysely";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { Clock } from "../clock.ts";
import type { AnsweredBy, LoggedRequest, LogLine, StoredLogLine } from "../model.ts";
import { nodeSqliteDialect, openNodeSqlite } from "../store/node-sqlite.ts";
import type { LogPage, LogQuery, LogStore, RequestQuery } from "./log-store.ts";

export interface SqliteLogsOptions {
  /** File of the database; made when absent. */
  readonly path: string;
  readonly clock: Clock;
  /** Lines kept for each build and each Function. */
  readonly linesMax: number;
  /** Requests kept for each deployment. */
  readonly requestsMax: number;
  /** Lines that may wait to be written. */
  readonly bufferLinesMax: number;
}

interface Tables {
  lines: {
    serial: number;
    deployment_id: string;
    source: string;
    function_name: string;
    invocation_id: string;
    stream: string;
    timestamp_ms: number;
    text: string;
  };
  requests: {
    serial: number;
    deployment_id: string;
    request_id: string;
    function_name: string;
    timestamp_ms: number;
    method: string;
    path: string;
    host: string;
    status: number;
    duration_ms: number;
    answered_by: string;
    cache: string;
  };
  dropped: { deployment_id: string; source: string; function_name: string; count: number };
}

/** How long lines may wait for company before they are written. */
const batchMs = 50;
const followMs = 100;
const queryLinesMax = 10_000;
/** Requests that may wait to be written; who gives them keeps to a rate (gateway/request-log.ts). */
const waitingRequestsMax = 5000;
/** Requests are trimmed once so many were written: trimming costs more than writing. */
const trimAfterRequests = 200;

export async function openSqliteLogs(options: SqliteLogsOptions): Promise<LogStore> {
  const database = openNodeSqlite(options.path, { durable: false });
  database.exec(`
    create table if not exists lines (
      serial integer primary key autoincrement, deployment_id text not null, source text not null, function_name text not null,
      invocation_id text not null, stream text not null, timestamp_ms integer not null, text text not null);
    create index if not exists lines_by_deployment on lines (deployment_id, source, function_name, serial);
    create table if not exists requests (
      serial integer primary key autoincrement, deployment_id text not null, request_id text not null, function_name text not null,
      timestamp_ms integer not null, method text not null, path text not null, host text not null, status integer not null,
      duration_ms real not null, answered_by text not null default 'function', cache text not null default '');
    create index if not exists requests_by_deployment on requests (deployment_id, serial);
    create table if not exists dropped (
      deployment_id text not null, source text not null, function_name text not null, count integer not null,
      primary key (deployment_id, source, function_name));
  `);
  addRequestColumns(database);
  return new SqliteLogs(database, options);
}

/** Files of earlier versions have requests of Functions only. */
function addRequestColumns(database: DatabaseSync): void {
  const known = new Set(
    database
      .prepare("pragma table_info(requests)")
      .all()
      .map(({ name }) => name),
  );
  if (!known.has("answered_by")) database.exec("alter table requests add column answered_by text not null default 'function'");
  if (!known.has("cache")) database.exec("alter table requests add column cache text not null default ''");
}

/** Lines of one build or one Function are trimmed, and counted when dropped, together. */
type Stream = Pick<LogLine, "deploymentId" | "source" | "functionName">;

type Statements = ReturnType<typeof prepareStatements>;

function prepareStatements(database: DatabaseSync) {
  return {
    insertRequest: database.prepare(`
      insert into requests (deployment_id, request_id, function_name, timestamp_ms, method, path, host, status, duration_ms,
        answered_by, cache) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
    trimRequests: database.prepare(`
      delete from requests where deployment_id = :deploymentId and (answered_by in ('function', 'middleware')) = :byFunction
        and serial <= coalesce((select serial from requests where deployment_id = :deploymentId
          and (answered_by in ('function', 'middleware')) = :byFunction order by serial desc limit 1 offset :max), -1)`),
    insertLine: database.prepare(`
      insert into lines (deployment_id, source, function_name, invocation_id, stream, timestamp_ms, text) values (?, ?, ?, ?, ?, ?, ?)`),
    trimLines: database.prepare(`
      delete from lines where deployment_id = :deploymentId and source = :source and function_name = :functionName
        and serial <= coalesce((select serial from lines where deployment_id = :deploymentId and source = :source
          and function_name = :functionName order by serial desc limit 1 offset :max), -1)`),
    countDropped: database.prepare(`
      insert into dropped (deployment_id, source, function_name, count) values (?, ?, ?, ?)
        on conflict (deployment_id, source, function_name) do update set count = count + excluded.count`),
  } satisfies Record<string, StatementSync>;
}

class SqliteLogs implements LogStore {
  readonly #db: Kysely<Tables>;
  readonly #database: DatabaseSync;
  readonly #statements: Statements;
  readonly #options: SqliteLogsOptions;
  #waiting: LogLine[] = [];
  #requests: LoggedRequest[] = [];
  /** Deployment → requests written since the last trim. */
  readonly #untrimmed = new Map<string, number>();
  #lost = new Map<string, { stream: Stream; count: number }>();
  #scheduled = false;
  #closed = false;

  constructor(database: DatabaseSync, options: SqliteLogsOptions) {
    this.#db = new Kysely<Tables>({ dialect: nodeSqliteDialect(database) });
    this.#database = database;
    this.#statements = prepareStatements(database);
    this.#options = options;
  }

  append(lines: readonly LogLine[]): void {
    if (this.#closed) return;
    for (const line of lines) {
      if (this.#waiting.length < this.#options.bufferLinesMax) this.#waiting.push(line);
      else this.#countLost(line, 1);
    }
    this.#schedule();
  }

  appendRequest(request: LoggedRequest): void {
    if (this.#closed || this.#requests.length >= waitingRequestsMax) return;
    this.#requests.push(request);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || (this.#waiting.length === 0 && this.#requests.length === 0)) return;
    this.#scheduled = true;
    this.#options.clock.after(batchMs, () => void this.flush());
  }

  async flush(): Promise<void> {
    this.#scheduled = false;
    this.#write();
  }

  async query(query: LogQuery): Promise<LogPage> {
    await this.flush();
    let select = this.#db.selectFrom("lines").selectAll().where("deployment_id", "=", query.deploymentId);
    if (query.source !== undefined) select = select.where("source", "=", query.source);
    if (query.functionName !== undefined) select = select.where("function_name", "=", query.functionName);
    if (query.invocationId !== undefined) select = select.where("invocation_id", "=", query.invocationId);
    if (query.afterSerial !== undefined) select = select.where("serial", ">", query.afterSerial);
    if (query.sinceMs !== undefined) select = select.where("timestamp_ms", ">=", query.sinceMs);
    const rows = await select
      .orderBy("serial", "desc")
      .limit(Math.min(query.limit ?? queryLinesMax, queryLinesMax))
      .execute();
    return { lines: rows.toReversed().map(toLine), dropped: await this.#countDropped(query) };
  }

  async queryRequests(query: RequestQuery): Promise<readonly LoggedRequest[]> {
    await this.flush();
    let select = this.#db.selectFrom("requests").selectAll().where("deployment_id", "in", query.deploymentIds);
    if (query.sinceMs !== undefined) select = select.where("timestamp_ms", ">=", query.sinceMs);
    if (query.untilMs !== undefined) select = select.where("timestamp_ms", "<", query.untilMs);
    if (query.requestId !== undefined) select = select.where("request_id", "=", query.requestId);
    if (query.method !== undefined) select = select.where("method", "=", query.method);
    if (query.status !== undefined) {
      const first = Number(query.status.replaceAll("x", "0"));
      const last = Number(query.status.replaceAll("x", "9"));
      select = select.where("status", ">=", first).where("status", "<=", last);
    }
    if (query.search !== undefined) {
      const { search } = query;
      const has = (column: string) => sql<boolean>`instr(${sql.ref(column)}, ${search}) > 0`;
      select = select.where((where) =>
        where.or([
          has("requests.path"),
          where.exists(
            where
              .selectFrom("lines")
              .select("serial")
              .whereRef("lines.deployment_id", "=", "requests.deployment_id")
              .whereRef("lines.invocation_id", "=", "requests.request_id")
              .where(has("lines.text")),
          ),
        ]),
      );
    }
    const rows = await select
      .orderBy("timestamp_ms", "desc")
      .orderBy("serial", "desc")
      .limit(query.limit)
      .offset(query.offset ?? 0)
      .execute();
    return rows.map((row) => ({
      deploymentId: row.deployment_id,
      requestId: row.request_id,
      functionName: row.function_name,
      answeredBy: row.answered_by as AnsweredBy,
      cache: row.cache,
      timestampMs: row.timestamp_ms,
      method: row.method,
      path: row.path,
      host: row.host,
      status: row.status,
      durationMs: row.duration_ms,
    }));
  }

  async *follow(query: LogQuery, signal: AbortSignal): AsyncIterable<StoredLogLine> {
    let afterSerial = query.afterSerial ?? 0;
    while (!signal.aborted && !this.#closed) {
      const { lines } = await this.query({ ...query, afterSerial });
      for (const line of lines) {
        if (signal.aborted) return;
        afterSerial = line.serial;
        yield line;
      }
      if (lines.length === 0) await this.#pause(signal);
    }
  }

  async deleteDeployment(deploymentId: string): Promise<void> {
    await this.flush();
    await this.#db.deleteFrom("lines").where("deployment_id", "=", deploymentId).execute();
    await this.#db.deleteFrom("dropped").where("deployment_id", "=", deploymentId).execute();
    await this.#db.deleteFrom("requests").where("deployment_id", "=", deploymentId).execute();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    await this.flush();
    this.#closed = true;
    await this.#db.destroy();
  }

  #pause(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        cancel();
        signal.removeEventListener("abort", done);
        resolve();
      };
      const cancel = this.#options.clock.after(followMs, done);
      signal.addEventListener("abort", done);
    });
  }

  /** Never throws: a full disk costs lines, not the Function that wrote them. */
  #write(): void {
    if (this.#closed) return;
    const lines = this.#waiting;
    const lost = this.#lost;
    const requests = this.#requests;
    if (lines.length === 0 && lost.size === 0 && requests.length === 0) return;
    this.#waiting = [];
    this.#lost = new Map();
    this.#requests = [];
    try {
      this.#database.exec("begin immediate");
      try {
        this.#writeRequests(requests);
        this.#writeLines(lines, lost);
        this.#database.exec("commit");
      } catch (error) {
        // A full disk may have ended the transaction already.
        if (this.#database.isTransaction) this.#database.exec("rollback");
        throw error;
      }
    } catch {
      for (const line of lines) this.#countLost(line, 1);
      for (const { stream, count } of lost.values()) this.#countLost(stream, count);
    }
  }

  #writeRequests(requests: readonly LoggedRequest[]): void {
    const { insertRequest, trimRequests } = this.#statements;
    for (const { deploymentId, requestId, functionName, timestampMs, method, path, host, status, durationMs, ...more } of requests) {
      const { answeredBy, cache } = more;
      insertRequest.run(deploymentId, requestId, functionName, timestampMs, method, path, host, status, durationMs, answeredBy, cache);
      this.#untrimmed.set(deploymentId, (this.#untrimmed.get(deploymentId) ?? 0) + 1);
    }
    for (const [deploymentId, count] of this.#untrimmed) {
      if (count < trimAfterRequests && this.#untrimmed.size <= trimAfterRequests) continue;
      this.#untrimmed.delete(deploymentId);
      for (const byFunction of [0, 1]) trimRequests.run({ deploymentId, byFunction, max: this.#options.requestsMax });
    }
  }

  #writeLines(lines: readonly LogLine[], lost: ReadonlyMap<string, { stream: Stream; count: number }>): void {
    const { insertLine } = this.#statements;
    const streams = new Map<string, Stream>();
    for (const line of lines) {
      const { deploymentId, source, functionName, invocationId, stream, timestampMs, text } = line;
      insertLine.run(deploymentId, source, functionName, invocationId, stream, timestampMs, text);
      streams.set(keyOf(line), line);
    }
    for (const [key, { stream, count }] of lost) {
      streams.delete(key);
      this.#trim(stream, count);
    }
    for (const stream of streams.values()) this.#trim(stream, 0);
  }

  /** Deletes what is over the limit and adds it, and `lost`, to the count. */
  #trim({ deploymentId, source, functionName }: Stream, lost: number): void {
    const { trimLines, countDropped } = this.#statements;
    const { changes } = trimLines.run({ deploymentId, source, functionName, max: this.#options.linesMax });
    const count = Number(changes) + lost;
    if (count > 0) countDropped.run(deploymentId, source, functionName, count);
  }

  #countLost(stream: Stream, count: number): void {
    const key = keyOf(stream);
    const { deploymentId, source, functionName } = stream;
    const entry = this.#lost.get(key) ?? { stream: { deploymentId, source, functionName }, count: 0 };
    entry.count += count;
    this.#lost.set(key, entry);
  }

  async #countDropped(query: LogQuery): Promise<number> {
    let select = this.#db
      .selectFrom("dropped")
      .select(({ fn }) => fn.sum<number | null>("count").as("count"))
      .where("deployment_id", "=", query.deploymentId);
    if (query.source !== undefined) select = select.where("source", "=", query.source);
    if (query.functionName !== undefined) select = select.where("function_name", "=", query.functionName);
    return (await select.executeTakeFirst())?.count ?? 0;
  }
}

const keyOf = (stream: Stream): string => JSON.stringify([stream.deploymentId, stream.source, stream.functionName]);

function toLine(row: Tables["lines"]): StoredLogLine {
  return {
    serial: row.serial,
    deploymentId: row.deployment_id,
    source: row.source as LogLine["source"],
    functionName: row.function_name,
    invocationId: row.invocation_id,
    stream: row.stream as LogLine["stream"],
    timestampMs: row.timestamp_ms,
    text: row.text,
  };
}
