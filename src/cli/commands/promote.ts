/** `mayfly promote`: production's hosts lead to a deployment from now on. */
import type { ApiClient } from "../../client/client.ts";
import { getDeployment, type DeploymentFacts } from "../../client/deployments.ts";
import { pointProduction } from "../../client/projects.ts";
import { MayflyError } from "../../errors.ts";
import { apiFlags, type Command, type Invocation } from "../command.ts";
import { formatDuration } from "../output.ts";
import { openSession, parseDeploymentRef } from "../session.ts";

export const promote: Command = {
  name: "promote",
  summary: "Make a deployment the production one.",
  usage: "promote DEPLOYMENT [options]",
  description:
    "Production's hosts (<project>.<domain> and the project's domains) lead to this deployment from now on. A pointer is written, " +
    "nothing is built, no request is dropped. DEPLOYMENT is an id, a host or a URL. A preview keeps the variables it was built with; " +
    'to build it again with production\'s, use "mayfly redeploy DEPLOYMENT --target production".\n' +
    "With --json: id, url, project.",
  flags: apiFlags,
  positionals: { min: 1, max: 1 },
  examples: [
    { run: "mayfly promote dpl_8kq2…", does: "Make it production." },
    { run: "mayfly promote $(mayfly deploy)", does: "Deploy, look at it on its own URL, then promote." },
  ],

  async run(invocation) {
    const ref = parseDeploymentRef(invocation.positionals[0]!);
    using client = await openSession(invocation);
    await point(invocation, client, "promote", await getDeployment(client, ref));
    return 0;
  },
};

/** Writes the pointer and says so. */
export async function point(
  invocation: Invocation,
  client: ApiClient,
  how: "promote" | "rollback",
  deployment: DeploymentFacts,
): Promise<void> {
  const { terminal } = invocation;
  const { id, url, name, projectId, state } = deployment;
  if (state !== "READY") throw new MayflyError("conflict", `${id} is ${state}; only a deployment that is READY can be production.`);
  const startedMs = performance.now();
  await pointProduction(client, how, projectId ?? name, id, invocation.interruption());
  terminal.note(terminal.paintNote("green", `${name} is ${id} now (${formatDuration(performance.now() - startedMs)})`));
  if (invocation.has("json")) terminal.json({ id, url, project: name });
  else terminal.out(url);
}
