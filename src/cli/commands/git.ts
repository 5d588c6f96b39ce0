/** `mayfly git`: deploys a project by pushes to a repository on GitHub or GitLab. */
import { approvePullRequest, connectGit, disconnectGit, listGitApps, readGit, redeliverWebhook, requestGitApp } from "../../client/git.ts";
import { MayflyError } from "../../errors.ts";
import { apiFlags, type Command, type Invocation } from "../command.ts";
import { usageError } from "../flags.ts";
import { formatDuration, formatTable } from "../output.ts";
import { openProject, projectFlag } from "../project.ts";
import { openSession } from "../session.ts";

/** Lines of `git status`. */
const statusRows = 10;

export const gitConnect: Command = {
  name: "git connect",
  summary: "Deploy a project by pushes to a repository.",
  usage: "git connect REPOSITORY [options]",
  description:
    "From now on a push to the production branch becomes production, a push to any other branch a preview, and the repository's host " +
    "shows what became of each commit. REPOSITORY is its address, as the host shows it. Mayfly reaches it by an access token of the host " +
    "(all of standard input, else it is asked for and not shown) or by a GitHub App (--app). With --json: connection, webhook.",
  flags: {
    app: { type: "string", value: "APP", doc: 'By this GitHub App instead of a token: its id or name, from "mayfly git app".' },
    branch: { type: "string", value: "NAME", doc: "The production branch (else the repository's default branch)." },
    ...projectFlag,
    ...apiFlags,
  },
  positionals: { min: 1, max: 1 },
  examples: [
    { run: "mayfly git connect https://github.com/ann/shop --project shop", does: "Asks for a token." },
    { run: "mayfly git connect https://gitlab.com/ann/shop --project shop < token.txt", does: "From a file." },
    { run: "mayfly git connect git@github.com:ann/shop.git --project shop --app mayfly-ann", does: "By an App." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    const app = invocation.value("app");
    using client = await openSession(invocation);
    const project = await openProject(invocation, client);
    const appId = app === undefined ? null : (await listGitApps(client)).find(({ id, slug }) => id === app || slug === app)?.id;
    if (appId === undefined)
      throw new MayflyError("not_found", `There is no GitHub App "${app}". "mayfly git app" makes one and lists them.`);
    const token = appId === null ? await readToken(invocation) : null;
    const productionBranch = invocation.value("branch") ?? null;
    const { connection, webhook } = await connectGit(client, project.id, {
      repository: invocation.positionals[0]!,
      token,
      appId,
      productionBranch,
    });
    if (invocation.has("json")) {
      terminal.json({ connection, webhook });
      return 0;
    }
    terminal.out(connection.repositoryUrl);
    terminal.note(`${project.name} is deployed by pushes now; ${connection.productionBranch} is production.`);
    if (webhook !== null) {
      terminal.note(`The host did not let us make the webhook (${terminal.foreignNote(webhook.reason)}). Make it by hand:`);
      terminal.note(`  address ${webhook.url}\n  secret  ${webhook.secret}\n  events  push, pull request (merge request), comment; JSON`);
    }
    return 0;
  },
};

async function readToken({ input, terminal }: Invocation): Promise<string> {
  const piped = !input.isTerminal || !terminal.isLive;
  const token = (piped ? await input.read() : ((await input.ask("Access token of the host (not shown): ", { hidden: true })) ?? "")).trim();
  if (token === "")
    throw new MayflyError("usage", "A token of the host is needed: on standard input, or typed. Or name a GitHub App with --app.");
  return token;
}

export const gitDisconnect: Command = {
  name: "git disconnect",
  summary: "Deploy a project by pushes no more.",
  usage: "git disconnect [options]",
  description: "Removes the connection and its webhook; deployments and aliases stay. With --json: disconnected, warning.",
  flags: { ...projectFlag, ...apiFlags },
  positionals: { min: 0, max: 0 },
  examples: [{ run: "mayfly git disconnect --project shop", does: "Pushes do nothing any more." }],

  async run(invocation) {
    const { terminal } = invocation;
    using client = await openSession(invocation);
    const project = await openProject(invocation, client);
    const warning = await disconnectGit(client, project.id);
    if (invocation.has("json")) terminal.json({ disconnected: project.name, warning });
    else {
      terminal.out(project.name);
      if (warning !== null) terminal.note(terminal.foreignNote(warning));
    }
    return 0;
  },
};

export const gitStatus: Command = {
  name: "git status",
  summary: "Show a project's repository, its last commits and webhooks.",
  usage: "git status [options]",
  description: "Shows what the last commits have become, and what came of the last webhooks. With --json: connection, commits, deliveries.",
  flags: { ...projectFlag, ...apiFlags },
  positionals: { min: 0, max: 0 },
  examples: [{ run: "mayfly git status --project shop", does: "Has my push arrived?" }],

  async run(invocation) {
    const { terminal } = invocation;
    using client = await openSession(invocation);
    const project = await openProject(invocation, client);
    const { connection, commits, deliveries } = await readGit(client, project.id, statusRows);
    if (invocation.has("json")) {
      terminal.json({ connection, commits, deliveries });
      return 0;
    }
    const now = Date.now();
    terminal.out(`${connection.repositoryUrl} (production: ${connection.productionBranch})`);
    const title = (...titles: readonly string[]) => titles.map((text) => terminal.paint("dim", text));
    const commitRows = commits.map((commit) => [
      commit.sha.slice(0, 7),
      terminal.foreign(commit.branch),
      commit.state,
      commit.url ?? terminal.foreign(commit.description ?? ""),
      formatDuration(now - commit.createdAtMs),
    ]);
    const deliveryRows = deliveries.map((delivery) => [
      delivery.id,
      terminal.foreign(delivery.event),
      delivery.state,
      terminal.foreign(delivery.result ?? ""),
      formatDuration(now - delivery.receivedAtMs),
    ]);
    const tables = [
      ...(commitRows.length === 0 ? [] : [[title("COMMIT", "BRANCH", "STATE", "URL", "AGE"), ...commitRows]]),
      ...(deliveryRows.length === 0 ? [] : [[title("WEBHOOK", "EVENT", "STATE", "RESULT", "AGE"), ...deliveryRows]]),
    ];
    for (const table of tables) {
      terminal.out("");
      for (const line of formatTable(table)) terminal.out(line);
    }
    if (tables.length === 0) terminal.note("Nothing has been pushed since.");
    return 0;
  },
};

export const gitApprove: Command = {
  name: "git approve",
  summary: "Approve the commit of a fork's pull request.",
  usage: "git approve NUMBER [options]",
  description:
    "Builds the commit that waits: without the project's secrets, and without writing a cache. A later push must be approved again. " +
    "Who may push to the repository can write the comment /mayfly deploy instead. With --json: sha.",
  flags: { ...projectFlag, ...apiFlags },
  positionals: { min: 1, max: 1 },
  examples: [{ run: "mayfly git approve 17 --project shop", does: "You have read what pull request 17 does." }],

  async run(invocation) {
    const { terminal } = invocation;
    const number = Number(invocation.positionals[0]!.replace(/^[#!]/, ""));
    if (!Number.isSafeInteger(number) || number < 1)
      throw usageError(gitApprove, `"${invocation.positionals[0]}" is not a pull request's number.`);
    using client = await openSession(invocation);
    const project = await openProject(invocation, client);
    const sha = await approvePullRequest(client, project.id, number);
    if (invocation.has("json")) terminal.json({ sha });
    else terminal.out(sha);
    return 0;
  },
};

export const gitRedeliver: Command = {
  name: "git redeliver",
  summary: "Act on a webhook once more.",
  usage: "git redeliver WEBHOOK [options]",
  description:
    'Deploys what its branch has now, though that is known already. WEBHOOK is an id of "mayfly git status". With --json: redelivered.',
  flags: { ...projectFlag, ...apiFlags },
  positionals: { min: 1, max: 1 },
  examples: [{ run: "mayfly git redeliver gitd_8kq2… --project shop", does: "Once more." }],

  async run(invocation) {
    const { terminal } = invocation;
    const id = invocation.positionals[0]!;
    using client = await openSession(invocation);
    const project = await openProject(invocation, client);
    await redeliverWebhook(client, project.id, id);
    if (invocation.has("json")) terminal.json({ redelivered: id });
    else terminal.out(id);
    return 0;
  },
};

export const gitApp: Command = {
  name: "git app",
  summary: "Make a GitHub App of your own, or list those there are.",
  usage: "git app [options]",
  description:
    "Prints the address of a page with one button: GitHub makes an App for this server, which then needs no token and no webhook by hand. " +
    "With --list: the Apps there are. With --json: url, or apps.",
  flags: {
    list: { type: "boolean", doc: "List Apps instead of making one." },
    url: { type: "string", value: "URL", doc: "The GitHub server, if not the first of MAYFLY_GITHUB_URLS." },
    organization: { type: "string", value: "NAME", doc: "Make it for this organization instead of your own account." },
    ...apiFlags,
  },
  positionals: { min: 0, max: 0 },
  examples: [
    { run: "mayfly git app", does: "Open the address that it prints." },
    { run: "mayfly git app --list", does: "Names for --app of git connect." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    using client = await openSession(invocation);
    if (invocation.has("list")) {
      const apps = await listGitApps(client);
      if (invocation.has("json")) terminal.json({ apps });
      else for (const line of formatTable(apps.map(({ id, slug, url }) => [id, terminal.foreign(slug), url]))) terminal.out(line);
      return 0;
    }
    const url = await requestGitApp(client, {
      baseUrl: invocation.value("url") ?? null,
      organization: invocation.value("organization") ?? null,
    });
    if (invocation.has("json")) terminal.json({ url });
    else {
      terminal.out(url);
      terminal.note("Open it in a browser within the hour.");
    }
    return 0;
  },
};
