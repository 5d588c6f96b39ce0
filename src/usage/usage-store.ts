/**
 * SEAM: what Functions have used, added up by Function, deployment and minute. `usage-store.conformance.ts` tests every
 * driver. Kept for `daysMax` days, or until the deployment is deleted; what comes for a deleted one later is dropped.
 */
import type { TimestampMs } from "../model.ts";

export interface UsageAmounts {
  readonly invocations: number;
  /** Invocations in which the Function failed (it crashed, timed out, ran out of memory, …) or answered 5xx. */
  readonly errors: number;
  /** Invocations that a new instance was booted for. */
  readonly coldStarts: number;
  /** Time in which requests were served; that of concurrent ones is added up. */
  readonly wallMs: number;
  /** CPU time of the instances since they were loaded; null where it cannot be measured. */
  readonly cpuMs: number | null;
  /** The Function's memory × {@link wallMs}. */
  readonly gbSeconds: number;
}

/** Something to add. */
export interface UsageRecord extends UsageAmounts {
  readonly teamId: string;
  readonly projectId: string;
  readonly deploymentId: string;
  /** `FunctionSpec.name`. */
  readonly functionName: string;
  /** It counts to the minute this lies in. */
  readonly timestampMs: TimestampMs;
}

export interface UsageQuery {
  readonly teamId?: string;
  readonly projectId?: string;
  readonly deploymentId?: string;
  readonly functionName?: string;
  /** The minute it lies in is the first. */
  readonly sinceMs: TimestampMs;
  /** Only minutes that begin before. */
  readonly untilMs: TimestampMs;
  /** Whole minutes; buckets begin at multiples of it, in UTC. */
  readonly bucketMs: number;
  /** A row for each Function of a project, or for each deployment; absent: for each Function of each deployment. */
  readonly groupBy?: "function" | "deployment";
  /** Rows at most: the earliest. */
  readonly limit?: number;
}

export interface UsageRow extends UsageAmounts {
  /** Begin of the bucket. */
  readonly startMs: TimestampMs;
  readonly projectId: string;
  /** null when the row adds up those of a project. */
  readonly deploymentId: string | null;
  /** null when the row adds up those of a deployment. */
  readonly functionName: string | null;
}

export interface UsageStore {
  /**
   * Takes records at once and writes them soon; never blocks and never throws. Beyond the buffer's bound records are
   * dropped, with a warning.
   */
  append(records: readonly UsageRecord[]): void;
  /** Resolves when all that was appended before is stored, or cannot be stored now. */
  flush(): Promise<void>;
  /** Buckets in which something was used, in order of time. */
  query(query: UsageQuery): Promise<readonly UsageRow[]>;
  deleteDeployment(deploymentId: string): Promise<void>;
  close(): Promise<void>;
}
