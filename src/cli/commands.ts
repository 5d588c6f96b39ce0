/** The table of commands: help, completion, docs/cli.md and the search for what was meant come from it. Each is loaded when it runs. */
import type { Command } from "./command.ts";

export interface Listed {
  /** The heading of the help that it stands under. */
  readonly section: string;
  readonly summary: string;
  load(): Promise<Command>;
}

const deploying = "Deploy";
const looking = "Look";
const serving = "Change what is served";
const server = "Run a server";
const shell = "Set up";

/** In the order of the help. Names have one word or two. */
export const commands: Readonly<Record<string, Listed>> = {
  deploy: {
    section: deploying,
    summary: "Deploy a directory and print its URL.",
    load: async () => (await import("./commands/deploy.ts")).deploy,
  },
  redeploy: {
    section: deploying,
    summary: "Build a deployment's source again.",
    load: async () => (await import("./commands/redeploy.ts")).redeploy,
  },
  dev: {
    section: deploying,
    summary: "Serve a directory while you work on it.",
    load: async () => (await import("./commands/dev.ts")).dev,
  },
  build: {
    section: deploying,
    summary: "Build a directory here.",
    load: async () => (await import("./commands/build.ts")).build,
  },
  link: {
    section: deploying,
    summary: "Tie a directory to a project.",
    load: async () => (await import("./commands/link.ts")).link,
  },
  settings: {
    section: deploying,
    summary: "Show or change a project's settings.",
    load: async () => (await import("./commands/settings.ts")).settings,
  },
  ls: { section: looking, summary: "List deployments.", load: async () => (await import("./commands/ls.ts")).ls },
  inspect: {
    section: looking,
    summary: "Show a deployment and its outputs.",
    load: async () => (await import("./commands/inspect.ts")).inspect,
  },
  logs: {
    section: looking,
    summary: "Show what Functions and builds have logged.",
    load: async () => (await import("./commands/logs.ts")).logs,
  },
  usage: { section: looking, summary: "Show what Functions have used.", load: async () => (await import("./commands/usage.ts")).usage },
  open: { section: looking, summary: "Open a deployment in the browser.", load: async () => (await import("./commands/open.ts")).open },
  promote: {
    section: serving,
    summary: "Make a deployment the production one.",
    load: async () => (await import("./commands/promote.ts")).promote,
  },
  rollback: {
    section: serving,
    summary: "Put an earlier production deployment back.",
    load: async () => (await import("./commands/rollback.ts")).rollback,
  },
  "alias ls": { section: serving, summary: "List aliases.", load: async () => (await import("./commands/alias.ts")).aliasLs },
  "alias set": {
    section: serving,
    summary: "Point a host at a deployment.",
    load: async () => (await import("./commands/alias.ts")).aliasSet,
  },
  "alias rm": { section: serving, summary: "Remove aliases.", load: async () => (await import("./commands/alias.ts")).aliasRm },
  "domains ls": {
    section: serving,
    summary: "List the domains of projects.",
    load: async () => (await import("./commands/domains.ts")).domainsLs,
  },
  "domains add": {
    section: serving,
    summary: "Serve a project's production at a domain.",
    load: async () => (await import("./commands/domains.ts")).domainsAdd,
  },
  "domains rm": { section: serving, summary: "Remove a domain.", load: async () => (await import("./commands/domains.ts")).domainsRm },
  "env ls": { section: serving, summary: "List environment variables.", load: async () => (await import("./commands/env.ts")).envLs },
  "env add": { section: serving, summary: "Set an environment variable.", load: async () => (await import("./commands/env.ts")).envAdd },
  "env rm": { section: serving, summary: "Remove an environment variable.", load: async () => (await import("./commands/env.ts")).envRm },
  "env pull": {
    section: serving,
    summary: "Write a project's variables to a file.",
    load: async () => (await import("./commands/env.ts")).envPull,
  },
  "git connect": {
    section: serving,
    summary: "Deploy a project by pushes to a repository.",
    load: async () => (await import("./commands/git.ts")).gitConnect,
  },
  "git disconnect": {
    section: serving,
    summary: "Deploy a project by pushes no more.",
    load: async () => (await import("./commands/git.ts")).gitDisconnect,
  },
  "git status": {
    section: serving,
    summary: "Show a project's repository, its last commits and webhooks.",
    load: async () => (await import("./commands/git.ts")).gitStatus,
  },
  "git approve": {
    section: serving,
    summary: "Approve the commit of a fork's pull request.",
    load: async () => (await import("./commands/git.ts")).gitApprove,
  },
  "git redeliver": {
    section: serving,
    summary: "Act on a webhook once more.",
    load: async () => (await import("./commands/git.ts")).gitRedeliver,
  },
  "git app": {
    section: serving,
    summary: "Make a GitHub App of your own, or list those there are.",
    load: async () => (await import("./commands/git.ts")).gitApp,
  },
  "cron ls": { section: serving, summary: "List cron jobs.", load: async () => (await import("./commands/cron.ts")).cronLs },
  "cron run": { section: serving, summary: "Run a cron job at once.", load: async () => (await import("./commands/cron.ts")).cronRun },
  rm: { section: serving, summary: "Remove deployments or a project.", load: async () => (await import("./commands/rm.ts")).rm },
  start: { section: server, summary: "Start the platform.", load: async () => (await import("./commands/start.ts")).start },
  gc: { section: server, summary: "Clear away what nothing needs any more.", load: async () => (await import("./commands/gc.ts")).gc },
  backup: { section: server, summary: "Write a backup of the server.", load: async () => (await import("./commands/backup.ts")).backup },
  restore: {
    section: server,
    summary: "Make a data directory of a backup.",
    load: async () => (await import("./commands/backup.ts")).restore,
  },
  "secrets rotate": {
    section: server,
    summary: "Seal every secret with a new key.",
    load: async () => (await import("./commands/secrets.ts")).secretsRotate,
  },
  "tokens ls": { section: shell, summary: "List tokens.", load: async () => (await import("./commands/tokens.ts")).tokensLs },
  "tokens add": { section: shell, summary: "Make a token.", load: async () => (await import("./commands/tokens.ts")).tokensAdd },
  "tokens rm": { section: shell, summary: "Revoke a token.", load: async () => (await import("./commands/tokens.ts")).tokensRm },
  whoami: { section: shell, summary: "Show whom the token stands for.", load: async () => (await import("./commands/whoami.ts")).whoami },
  "use-vercel-cli": {
    section: shell,
    summary: "Point the vercel client at this server.",
    load: async () => (await import("./commands/use-vercel-cli.ts")).useVercelCli,
  },
  completion: {
    section: shell,
    summary: "Print a shell's completion script.",
    load: async () => (await import("./commands/completion.ts")).completion,
  },
};

/** Other words for a command's first or second word. */
const synonyms: Readonly<Record<string, string>> = {
  list: "ls",
  remove: "rm",
  delete: "rm",
  revoke: "rm",
  create: "add",
  log: "logs",
  aliases: "alias",
  domain: "domains",
  token: "tokens",
};

/** What the words at the begin of a command line name. */
export type Found =
  | { readonly kind: "command"; readonly listed: Listed; readonly rest: readonly string[] }
  /** The first word of several commands, and no second one. */
  | { readonly kind: "group"; readonly name: string; readonly rest: readonly string[] }
  /** Nothing; what is close to it is for the message. */
  | { readonly kind: "unknown"; readonly words: string; readonly known: readonly string[] };

export function findCommand(words: readonly string[]): Found {
  const [first = "", second, ...rest] = words;
  const word = (text: string) => (Object.hasOwn(synonyms, text) ? synonyms[text]! : text);
  const lookUp = (name: string) => (Object.hasOwn(commands, name) ? commands[name] : undefined);
  const name = word(first);
  const single = lookUp(name);
  if (single !== undefined) return { kind: "command", listed: single, rest: words.slice(1) };
  const members = Object.keys(commands).filter((command) => command.startsWith(`${name} `));
  if (members.length === 0) return { kind: "unknown", words: first, known: [...firstWords(), ...Object.keys(synonyms)] };
  if (second === undefined || second.startsWith("-")) return { kind: "group", name, rest: words.slice(1) };
  const double = lookUp(`${name} ${word(second)}`);
  if (double !== undefined) return { kind: "command", listed: double, rest };
  return { kind: "unknown", words: `${first} ${second}`, known: members };
}

/** Each first word once. */
function firstWords(): string[] {
  return [...new Set(Object.keys(commands).map((name) => name.split(" ", 1)[0]!))];
}
