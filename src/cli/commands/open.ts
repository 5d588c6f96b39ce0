/** `mayfly open`: a deployment, or a project's production, in the browser; its URL where there is none. */
import { spawn } from "node:child_process";
import type { ApiClient } from "../../client/client.ts";
import { getDeployment, type DeploymentFacts } from "../../client/deployments.ts";
import { getProject } from "../../client/projects.ts";
import { MayflyError } from "../../errors.ts";
import { apiFlags, type Command, type Invocation } from "../command.ts";
import { openProject, projectFlag } from "../project.ts";
import { openSession, parseDeploymentRef } from "../session.ts";

/** A program that opens a URL answers within this, in ms, or is left to itself. */
const openMsMax = 2000;

export const open: Command = {
  name: "open",
  summary: "Open a deployment in the browser.",
  usage: "open [DEPLOYMENT|PROJECT] [options]",
  description:
    "Opens a deployment (id, host or URL) or the production of a project: without an argument, of the one that this directory is linked " +
    "to. The URL goes to stdout in any case; where there is no browser, or stdout is no terminal, that is all. With --json: id, url.",
  flags: { ...projectFlag, ...apiFlags },
  positionals: { min: 0, max: 1 },
  examples: [
    { run: "mayfly open", does: "Production of the linked project." },
    { run: "mayfly open shop", does: "Production of the project shop." },
    { run: "mayfly open dpl_8kq2…", does: "This deployment." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    using client = await openSession(invocation);
    const deployment = await wanted(invocation, client);
    const production = deployment.target === "production" && !isExact(invocation.positionals[0]) ? deployment.aliases[0] : undefined;
    const url = production === undefined ? deployment.url : Object.assign(new URL(deployment.url), { hostname: production }).origin;
    if (invocation.has("json")) terminal.json({ id: deployment.id, url });
    else {
      terminal.out(url);
      if (terminal.isLive && terminal.columns !== Number.POSITIVE_INFINITY && !(await openInBrowser(url, invocation))) {
        terminal.note(terminal.paintNote("dim", "There is no browser here: open it yourself."));
      }
    }
    return 0;
  },
};

const isExact = (word: string | undefined): boolean => word !== undefined && /^dpl_|[.:/]/.test(word);

async function wanted(invocation: Invocation, client: ApiClient): Promise<DeploymentFacts> {
  const word = invocation.positionals[0];
  if (word !== undefined && isExact(word)) return getDeployment(client, parseDeploymentRef(word));
  const project = word === undefined ? await openProject(invocation, client) : await getProject(client, word);
  if (project.productionId === null) throw new MayflyError("not_found", `${project.name} has no production deployment yet.`);
  return getDeployment(client, project.productionId);
}

/** Whether a program took the URL. */
async function openInBrowser(url: string, { env }: Invocation): Promise<boolean> {
  const isLinux = process.platform === "linux";
  if (isLinux && !env["DISPLAY"] && !env["WAYLAND_DISPLAY"]) return false;
  const program = isLinux ? "xdg-open" : "open";
  return new Promise((resolve) => {
    const child = spawn(program, [url], { stdio: "ignore", detached: true });
    const deadline = setTimeout(() => resolve(true), openMsMax);
    child.once("error", () => resolve(false));
    child.once("exit", (code) => {
      clearTimeout(deadline);
      resolve(code === 0);
    });
    child.unref();
  });
}
