/** Metered use of Functions as the client sees it: checked and complete, whatever a server leaves out. */
import type { ApiClient } from "./client.ts";
import { number, object, objects, text, type JsonObject } from "./json.ts";

export interface UsageQuery {
  /** Id or name. */
  readonly project?: string | undefined;
  /** Id, host or alias. */
  readonly deployment?: string | undefined;
  /** Milliseconds since 1970. */
  readonly since: number;
  readonly bucket: "minute" | "hour" | "day";
  readonly groupBy: "function" | "deployment";
}

export interface UsageAmounts {
  readonly invocations: number;
  readonly errors: number;
  readonly coldStarts: number;
  readonly wallMs: number;
  /** null: it cannot be measured there. */
  readonly cpuMs: number | null;
  readonly gbSeconds: number;
}

export interface UsageFacts extends UsageAmounts {
  /** Begin of the bucket, in ms since 1970. */
  readonly start: number;
  readonly projectId: string;
  readonly projectName: string | null;
  /** null when it adds up those of a project. */
  readonly deploymentId: string | null;
  /** null when it adds up those of a deployment. */
  readonly functionName: string | null;
}

export interface UsageReport {
  readonly since: number;
  readonly until: number;
  readonly bucket: UsageQuery["bucket"];
  /** In order of time. */
  readonly usage: readonly UsageFacts[];
  readonly totals: UsageAmounts;
}

/** @throws MayflyError not_found (the project or deployment) and the client's own */
export async function readUsage(client: ApiClient, query: UsageQuery): Promise<UsageReport> {
  const { project, deployment, since, bucket, groupBy } = query;
  const answer = await client.call("GET", "/v1/mayfly/usage", {
    query: { app: project, deploymentId: deployment, since: Math.floor(since), bucket, groupBy },
  });
  return {
    since: number(answer["since"]) ?? since,
    until: number(answer["until"]) ?? Date.now(),
    bucket,
    usage: objects(answer["usage"]).map((row) => ({
      start: number(row["start"]) ?? 0,
      projectId: text(row["projectId"]) ?? "",
      projectName: text(row["projectName"]) ?? null,
      deploymentId: text(row["deploymentId"]) ?? null,
      functionName: text(row["functionName"]) ?? null,
      ...parseAmounts(row),
    })),
    totals: parseAmounts(object(answer["totals"])),
  };
}

function parseAmounts(json: JsonObject): UsageAmounts {
  return {
    invocations: number(json["invocations"]) ?? 0,
    errors: number(json["errors"]) ?? 0,
    coldStarts: number(json["coldStarts"]) ?? 0,
    wallMs: number(json["wallMs"]) ?? 0,
    cpuMs: number(json["cpuMs"]) ?? null,
    gbSeconds: number(json["gbSeconds"]) ?? 0,
  };
}
