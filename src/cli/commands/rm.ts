/** `mayfly rm`: removes deployments, or a project with all of its deployments. What is gone is gone. */
import { deleteDeployment, deleteProject, getDeployment } from "../../client/deployments.ts";
import { MayflyError } from "../../errors.ts";
import { apiFlags, type Command } from "../command.ts";
import { usageError } from "../flags.ts";
import { openSession, parseDeploymentRef } from "../session.ts";

export const rm: Command = {
  name: "rm",
  summary: "Remove deployments or a project.",
  usage: "rm DEPLOYMENT… | rm --project NAME --yes",
  description:
    "Removes deployments (ids, hosts or URLs), or a project with all its deployments and aliases; it cannot be taken back. Prints what " +
    'was removed, a line each. With --json: {"removed":[…]}.',
  flags: {
    project: { type: "string", value: "NAME", doc: "Remove this project and everything in it; needs --yes." },
    yes: { type: "boolean", short: "y", doc: "Yes, remove the project." },
    ...apiFlags,
  },
  positionals: { min: 0, max: Number.POSITIVE_INFINITY },
  examples: [
    { run: "mayfly rm dpl_8kq2… dpl_91xz…", does: "Remove two deployments." },
    { run: "mayfly rm --project shop --yes", does: "Remove a project." },
  ],

  async run(invocation) {
    const { terminal, positionals } = invocation;
    const project = invocation.value("project");
    if ((project === undefined) === (positionals.length === 0)) {
      throw usageError(rm, "Say what to remove: deployments, or a project with --project NAME.");
    }
    if (project !== undefined && !invocation.has("yes")) {
      throw usageError(rm, `This would remove the project "${project}" and all its deployments; add --yes to do it.`);
    }
    const refs = positionals.map(parseDeploymentRef);
    using client = await openSession(invocation);
    const removed: string[] = [];
    let failure: MayflyError | undefined;
    const remove = async (name: string, act: () => Promise<void>): Promise<void> => {
      try {
        await act();
        removed.push(name);
        if (!invocation.has("json")) terminal.out(name);
      } catch (error) {
        // The others are tried all the same, unless no call can succeed.
        if (!(error instanceof MayflyError) || error.code !== "not_found") throw error;
        failure = new MayflyError("not_found", `There is no ${project === undefined ? "deployment" : "project"} "${name}".`, {
          cause: error,
        });
        if (refs.length > 1) terminal.note(failure.message);
      }
    };
    if (project !== undefined) await remove(project, () => deleteProject(client, project));
    for (const ref of refs) {
      // The API deletes by id; a host must not be resolved again between the look and the deed.
      await remove(ref, async () => deleteDeployment(client, ref.startsWith("dpl_") ? ref : (await getDeployment(client, ref)).id));
    }
    if (failure !== undefined) throw new MayflyError(failure.code, failure.message, { details: { removed } });
    if (invocation.has("json")) terminal.json({ removed });
    return 0;
  },
};
