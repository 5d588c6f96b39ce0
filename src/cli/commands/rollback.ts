/** `mayfly rollback`: an earlier production deployment is production again. */
import { getDeployment, listDeployments } from "../../client/deployments.ts";
import { MayflyError } from "../../errors.ts";
import { apiFlags, type Command } from "../command.ts";
import { openProject, projectFlag } from "../project.ts";
import { openSession, parseDeploymentRef } from "../session.ts";
import { point } from "./promote.ts";

/** How far back the one before is looked for. */
const lookBackMax = 100;

export const rollback: Command = {
  name: "rollback",
  summary: "Put an earlier production deployment back.",
  usage: "rollback [DEPLOYMENT] [options]",
  description:
    "Production's hosts lead to an earlier deployment again: the one that is named, else the newest production deployment that is older " +
    "than the present one. A pointer is written, nothing is built. With --json: id, url, project.",
  flags: { ...projectFlag, ...apiFlags },
  positionals: { min: 0, max: 1 },
  examples: [
    { run: "mayfly rollback", does: "In a linked directory: back to the one before." },
    { run: "mayfly rollback --project shop", does: "The same for the project shop." },
    { run: "mayfly rollback dpl_8kq2…", does: "Back to this one." },
  ],

  async run(invocation) {
    const named = invocation.positionals[0];
    const ref = named === undefined ? undefined : parseDeploymentRef(named);
    using client = await openSession(invocation);
    if (ref !== undefined) {
      await point(invocation, client, "rollback", await getDeployment(client, ref));
      return 0;
    }
    const project = await openProject(invocation, client);
    const ready = (await listDeployments(client, project.name, lookBackMax)).filter(
      ({ target, state }) => target === "production" && state === "READY",
    );
    const present = ready.findIndex(({ id }) => id === project.productionId);
    const earlier = ready[present + 1];
    if (present === -1 || earlier === undefined) {
      throw new MayflyError("not_found", `${project.name} has no earlier production deployment; name one: mayfly rollback DEPLOYMENT.`);
    }
    await point(invocation, client, "rollback", earlier);
    return 0;
  },
};
