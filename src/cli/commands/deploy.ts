/**
 * `mayfly deploy`: a directory becomes a deployment. Invariants: stdout has the URL (or, with --json, one object) and
 * nothing else; the exit code is 0 only when the deployment is ready (or created, with --no-wait).
 */
import { basename, join, resolve } from "node:path";
import type { ApiClient } from "../../client/client.ts";
import { followDeployment, startDeployment, type DeployEvent } from "../../client/deploy.ts";
import { cancelDeployment, getDeployment, type BuildSummary, type DeploymentFacts } from "../../client/deployments.ts";
import { readLinkFile } from "../../client/link.ts";
import { MayflyError, messageOf } from "../../errors.ts";
import { projectName } from "../../names.ts";
import { apiFlags, type Command, type Invocation } from "../command.ts";
import { counted, formatBytes, formatDuration, grouped, type Terminal } from "../output.ts";
import { cacheHome, openSession } from "../session.ts";
import { parseVariables } from "../variables.ts";

export const deploy: Command = {
  name: "deploy",
  summary: "Deploy a directory and print its URL.",
  usage: "deploy [DIR] [options]",
  description:
    "Uploads what the server does not have yet, builds it there and waits until it is ready. stdout has the deployment's URL and " +
    "nothing else; progress and build logs go to stderr. The exit code is 0 only when the deployment is ready, 1 when it failed, 130 " +
    "after Ctrl-C, which cancels the deployment. .vercelignore (else every .gitignore) says what is not uploaded; .git, node_modules, " +
    ".env.local and their like never are.\n" +
    "With --json, stdout has one object: id, url, host, name, projectId, target, readyState, buildSummary.",
  flags: {
    name: {
      type: "string",
      value: "NAME",
      doc: "Project to deploy to; it is made when there is none (default: the linked one, else the directory's name).",
    },
    prod: { type: "boolean", doc: "Make it the project's production deployment." },
    prebuilt: { type: "boolean", doc: "Deploy .vercel/output (Build Output API) as it is; nothing is built." },
    env: { type: "string", value: "K=V", multiple: true, doc: "Environment variable of the Functions; K alone takes this shell's value." },
    "build-env": { type: "string", value: "K=V", multiple: true, doc: "Environment variable of the build." },
    force: { type: "boolean", doc: "Build without any cache." },
    "no-wait": { type: "boolean", doc: "Return when the deployment is created, before it is built." },
    ...apiFlags,
  },
  positionals: { min: 0, max: 1 },
  examples: [
    { run: "mayfly deploy", does: "Deploy this directory to a URL of its own." },
    { run: "mayfly deploy site --name shop --prod", does: "Deploy ./site as the production of the project shop." },
    { run: "mayfly deploy --env GREETING=hello --env API_KEY", does: "Set one variable here and take the other from this shell." },
    { run: "curl $(mayfly deploy)", does: "Use the URL in a script." },
    { run: "mayfly build && mayfly deploy --prebuilt", does: "Build here, deploy the result." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    const startedMs = performance.now();
    const directory = resolve(invocation.cwd, invocation.positionals[0] ?? ".");
    const named = invocation.value("name");
    const link = named === undefined ? await readLinkFile(directory) : undefined;
    const request = {
      directory,
      link,
      memory: join(cacheHome(invocation.env), "mayfly"),
      name: chosenName(named ?? link?.projectName, directory),
      target: invocation.has("prod") ? ("production" as const) : ("preview" as const),
      prebuilt: invocation.has("prebuilt"),
      force: invocation.has("force"),
      env: parseVariables("--env", invocation.values("env"), invocation.env),
      buildEnv: parseVariables("--build-env", invocation.values("build-env"), invocation.env),
    };
    using client = await openSession(invocation);
    const signal = invocation.interruption();
    const onEvent = progressOn(terminal);

    const created = await startDeployment(client, request, { signal, onEvent });
    if (invocation.has("no-wait")) {
      terminal.settle();
      terminal.note(`It is being built. Follow it with: mayfly logs --build -f ${created.id}`);
      printResult(invocation, created);
      return 0;
    }
    const ready = await followOrCancel(client, created, invocation, signal, onEvent);
    terminal.settle();
    terminal.note(terminal.paintNote("green", readyLine(performance.now() - startedMs, ready.buildSummary)));
    printResult(invocation, ready);
    return 0;
  },
};

/** Waits until it is ready; at Ctrl-C it is canceled. */
export async function followOrCancel(
  client: ApiClient,
  created: DeploymentFacts,
  { terminal }: Invocation,
  signal: AbortSignal,
  onEvent: (event: DeployEvent) => void,
): Promise<DeploymentFacts> {
  try {
    return await followDeployment(client, created.id, { signal, onEvent });
  } catch (error) {
    if (!signal.aborted) throw error;
    terminal.settle();
    terminal.note(`Canceling ${created.id}…`);
    await cancelDeployment(client, created.id).catch((failure: unknown) => {
      // It became final meanwhile, or the first of two tries did it.
      if (failure instanceof MayflyError && failure.code === "conflict") return;
      throw new MayflyError("canceled", `${created.id} may go on: it could not be canceled: ${messageOf(failure)}`, { cause: failure });
    });
    const { state } = await getDeployment(client, created.id);
    const outcome =
      state === "CANCELED" ? `The deployment ${created.id} was canceled.` : `The deployment ${created.id} was ${state} already.`;
    throw new MayflyError("canceled", outcome, { details: { id: created.id, url: created.url } });
  }
}

/** The URL, or with --json the facts. */
export function printResult(invocation: Invocation, deployment: DeploymentFacts): void {
  const { id, url, host, name, projectId, target, state: readyState, buildSummary } = deployment;
  if (invocation.has("json")) invocation.terminal.json({ id, url, host, name, projectId, target, readyState, buildSummary });
  else invocation.terminal.out(url);
}

/** `Ready in 1.2 s · 2 functions: 2 built, 0 from cache` */
export function readyLine(ms: number, summary: BuildSummary | null): string {
  const ready = `Ready in ${formatDuration(ms)}`;
  if (summary === null) return ready;
  if (summary.functions === 0) return `${ready} · no functions`;
  return `${ready} · ${counted(summary.functions, "function")}: ${summary.built} built, ${summary.cached} from cache`;
}

/** Shows what happens: one live line on a terminal, a line for each step otherwise. */
export function progressOn(terminal: Terminal): (event: DeployEvent) => void {
  let announced = false;
  return (event) => {
    switch (event.type) {
      case "reading":
        terminal.live(`Reading ${counted(event.files, "file")} (${formatBytes(event.bytes)})…`);
        break;
      case "warning":
        terminal.note(`${terminal.paintNote("yellow", "Warning:")} ${terminal.foreignNote(event.text)}`);
        break;
      case "uploading": {
        const what = `Uploading ${grouped(event.filesTotal)} of ${counted(event.filesInAll, "file")}`;
        terminal.live(`${what} (${formatBytes(event.bytes)} of ${formatBytes(event.bytesTotal)})…`);
        if (!announced && !terminal.isLive) terminal.note(`${what} (${formatBytes(event.bytesTotal)})…`);
        announced = true;
        break;
      }
      case "uploaded":
        announced = false;
        terminal.settle();
        if (event.files === 0) terminal.note(`Uploading 0 of ${counted(event.filesInAll, "file")}: the server has them all.`);
        else if (terminal.isLive) {
          terminal.note(`Uploaded ${grouped(event.files)} of ${counted(event.filesInAll, "file")} (${formatBytes(event.bytes)}).`);
        }
        break;
      case "created":
        terminal.note(`Created ${event.deployment.id} at ${event.deployment.url}`);
        break;
      case "state":
        if (event.state === "BUILDING") terminal.note("Building…");
        break;
      case "log": {
        const line = terminal.foreignNote(event.text.replace(/\n$/, ""));
        terminal.note(event.stream === "command" ? terminal.paintNote("dim", line) : line);
        break;
      }
    }
  };
}

function chosenName(flag: string | undefined, directory: string): string {
  if (flag !== undefined) return projectName(flag);
  try {
    return projectName(basename(directory));
  } catch (error) {
    throw new MayflyError("invalid_name", `The directory "${directory}" gives no name for a project; choose one with --name.`, {
      cause: error,
    });
  }
}
