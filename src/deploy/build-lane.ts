/**
 * Who may re-use whose builds. Production, and each branch's previews, have a lane of their own. A preview that finds
 * nothing in its lane starts from production's. Production never reads what a preview has left, so no preview can put
 * anything into it; a build from a fork leaves nothing at all.
 */
import type { Deployment } from "../model.ts";

const production = "production";

/** Where a build looks for what an earlier one has left, in this order. */
export function lanesToRead(deployment: Pick<Deployment, "target" | "git">): readonly string[] {
  const own = laneToWrite(deployment);
  return own === null || own === production ? [production] : [own, production];
}

/** Where it leaves something for the next; null: nowhere. */
export function laneToWrite({ target, git }: Pick<Deployment, "target" | "git">): string | null {
  if (git?.fork === true) return null;
  if (target === "production") return production;
  return git === undefined || git === null ? "preview" : `branch:${git.branch}`;
}
