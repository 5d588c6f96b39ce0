/** `mayfly link`: ties a directory to a project, in the file that the official client reads too. */
import { basename, resolve } from "node:path";
import { getUser } from "../../client/deployments.ts";
import { linkPath, readLinkFile, writeLinkFile } from "../../client/link.ts";
import { createProject, findProject } from "../../client/projects.ts";
import { MayflyError } from "../../errors.ts";
import { projectName } from "../../names.ts";
import { apiFlags, confirm, type Command } from "../command.ts";
import { openSession } from "../session.ts";

export const link: Command = {
  name: "link",
  summary: "Tie a directory to a project.",
  usage: "link [DIR] [options]",
  description:
    `Writes ${linkPath} (project, team), which the vercel client understands as well: from then on deploy, env, logs, open and their ` +
    "like mean that project when they are run in this directory. A project that is not there is made. A link to another project or " +
    "server is replaced after a question (or with --yes) and kept beside it.\n" +
    "With --json: projectId, orgId, projectName.",
  flags: {
    project: { type: "string", short: "p", value: "NAME", doc: "The project (default: the directory's name)." },
    yes: { type: "boolean", short: "y", doc: "Yes, replace the link that there is." },
    ...apiFlags,
  },
  positionals: { min: 0, max: 1 },
  examples: [
    { run: "mayfly link", does: "Link this directory to the project of its name." },
    { run: "mayfly link site --project shop", does: "Link ./site to the project shop." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    const directory = resolve(invocation.cwd, invocation.positionals[0] ?? ".");
    const name = projectName(invocation.value("project") ?? basename(directory));
    using client = await openSession(invocation);
    const { teamId } = await getUser(client);
    // A file that cannot be understood is what this command repairs.
    const before = await readLinkFile(directory).catch(() => ({ projectId: "", orgId: "", projectName: "something else" }));
    const found = await findProject(client, name);
    if (before !== undefined && (before.orgId !== teamId || before.projectId !== found?.id)) {
      const question = `${directory} is linked to ${before.projectName ?? before.projectId}. Link it to ${name} instead?`;
      if (!(await confirm(invocation, question))) {
        throw new MayflyError(
          "conflict",
          `${directory} is linked to ${before.projectName ?? before.projectId} already; replace that with --yes.`,
        );
      }
    }
    const project = found ?? (await createProject(client, name));
    if (found === undefined) terminal.note(`Created the project ${project.name}.`);
    const written = { projectId: project.id, orgId: project.teamId || teamId, projectName: project.name };
    for (const note of await writeLinkFile(directory, written)) terminal.note(note);
    if (invocation.has("json")) terminal.json(written);
    else terminal.out(`${directory} → ${project.name}`);
    return 0;
  },
};
