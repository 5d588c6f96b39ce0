/**
 * SEAM: captured lines of builds and Functions. `log-store.conformance.ts` tests every driver.
 * Kept: the newest `linesMax` lines of each build and of each Function of a deployment; older ones go and are counted.
 * Beside them requests, with the Function's lines or without.
 * Lines outlive the instance, and the process, that wrote them.
 */
import type { LoggedRequest, LogLine, StoredLogLine } from "../model.ts";

export interface LogQuery {
  readonly deploymentId: string;
  readonly source?: LogLine["source"];
  readonly functionName?: string;
  readonly invocationId?: string;
  /** Only lines with a greater serial. */
  readonly afterSerial?: number;
  /** Only lines at or after it. */
  readonly sinceMs?: number;
  /** Newest lines kept when there are more; at most 10,000. */
  readonly limit?: number;
}

export interface RequestQuery {
  /** Of any of these. */
  readonly deploymentIds: readonly string[];
  /** At or after. */
  readonly sinceMs?: number;
  /** Before. */
  readonly untilMs?: number;
  readonly requestId?: string;
  readonly method?: string;
  /** `404`, or `4xx`. */
  readonly status?: string;
  /** Part of the path, or of one of its lines. */
  readonly search?: string;
  readonly offset?: number;
  readonly limit: number;
}

export interface LogPage {
  /** Oldest first. */
  readonly lines: readonly StoredLogLine[];
  /** Lines of the asked build or Functions that were given up for newer ones or for want of room. */
  readonly dropped: number;
}

export interface LogStore {
  /**
   * Takes lines at once and writes them soon; never blocks and never throws. Beyond the buffer's bound lines are
   * dropped and counted.
   */
  append(lines: readonly LogLine[]): void;
  /** Takes a request as `append` takes a line; the caller keeps to a rate. */
  appendRequest(request: LoggedRequest): void;
  /** The newest first. Kept: the newest `requestsMax` of each deployment that Functions answered, and as many others. */
  queryRequests(query: RequestQuery): Promise<readonly LoggedRequest[]>;
  /** Resolves when all that was appended before is stored. */
  flush(): Promise<void>;
  query(query: LogQuery): Promise<LogPage>;
  /**
   * Lines as they come, of this and other processes, first those already stored; ends when `signal` aborts.
   * Checks for new lines at least every 250 ms.
   */
  follow(query: LogQuery, signal: AbortSignal): AsyncIterable<StoredLogLine>;
  deleteDeployment(deploymentId: string): Promise<void>;
  close(): Promise<void>;
}
