/**
 * A GitHub App of the team's own, made by one click: a page here posts a manifest to GitHub, GitHub sends the person back
 * with a code, the code is exchanged for the App's id, key and secret, which are kept sealed. A `state` that is used once,
 * within the hour, ties the three together.
 */
import { createHash, randomBytes } from "node:crypto";
import { createAppAuth } from "@octokit/auth-app";
import { Octokit } from "@octokit/core";
import { MayflyError, messageOf } from "../errors.ts";
import type { GitApp, GitConnection } from "../model.ts";
import { randomId } from "../names.ts";
import {
  findGitApp,
  findGitAppRequest,
  gitSecretPlace,
  insertGitApp,
  insertGitAppRequest,
  takeGitAppRequest,
  type GitAppRequest,
} from "../store/git-connections.ts";
import type { GitContext } from "./context.ts";
import { githubApi, githubAppPermissions, githubEvents } from "./github-api.ts";
import { hostError } from "./rate-limit.ts";

const requestMsMax = 3_600_000;

const digestOf = (state: string): string => createHash("sha256").update(state).digest("hex");

/** Begins: the address of the page with the button, for the person who asked. */
export async function requestApp(
  { deploy: { store, clock, config }, addresses, publicUrlOf }: GitContext,
  teamId: string,
  ask: { readonly baseUrl: string; readonly organization: string | null },
): Promise<string> {
  const { baseUrl, organization } = ask;
  if (!addresses.github.includes(baseUrl)) {
    throw new MayflyError(
      "git_refused",
      `${JSON.stringify(baseUrl.slice(0, 200))} is no GitHub of this server's settings (${addresses.github.join(", ")}).`,
    );
  }
  if (organization !== null && !/^[A-Za-z0-9][A-Za-z0-9-]{0,38}$/.test(organization)) {
    throw new MayflyError("git_refused", `${JSON.stringify(organization.slice(0, 100))} is not the name of an organization.`);
  }
  const state = randomBytes(24).toString("hex");
  const now = clock.now();
  await insertGitAppRequest(store, { stateDigest: digestOf(state), teamId, baseUrl, organization, expiresAt: now + requestMsMax }, now);
  return `${publicUrlOf(config.domain)}/mayfly/git/apps/new?state=${state}`;
}

/** The page with the button. @throws MayflyError not_found when the state is wrong, used or too old */
export async function manifestPage(context: GitContext, state: string): Promise<string> {
  const request = await theRequest(context, state);
  const { baseUrl, organization } = request;
  const target = `${baseUrl}${organization === null ? "" : `/organizations/${organization}`}/settings/apps/new?state=${state}`;
  const manifest = JSON.stringify(manifestOf(context, appIdOf(state)));
  return page(
    "Make a GitHub App",
    `<p>GitHub will make an App that tells this server of pushes and shows previews on pull requests.</p>
<form action="${escape(target)}" method="post"><input type="hidden" name="manifest" value="${escape(manifest)}">
<button type="submit">Go on to ${escape(new URL(baseUrl).host)}</button></form>`,
  );
}

/** Ends: the App is kept. Where the person goes on, to install it. */
export async function completeApp(context: GitContext, state: string, code: string): Promise<string> {
  const { store, clock, seal } = context.deploy;
  const request = await theRequest(context, state);
  if (!/^[\w-]{1,200}$/.test(code)) throw new MayflyError("bad_request", "GitHub's code is missing.");
  if (!(await takeGitAppRequest(store, request.stateDigest))) throw new MayflyError("not_found", "This link has been used.");
  const octokit = clientOf(context, request.baseUrl, {});
  const { data } = await ask(context, () => octokit.request("POST /app-manifests/{code}/conversions", { code }));
  const id = appIdOf(state);
  const app: GitApp = {
    id,
    teamId: request.teamId,
    baseUrl: request.baseUrl,
    appId: String(data.id),
    slug: data.slug ?? "",
    createdAt: clock.now(),
  };
  await insertGitApp(store, app, {
    privateKey: seal.close(data.pem, gitSecretPlace(id, "privateKey")),
    webhookSecret: seal.close(data.webhook_secret ?? randomId(32), gitSecretPlace(id, "webhookSecret")),
  });
  return `${request.baseUrl}/apps/${encodeURIComponent(app.slug)}/installations/new`;
}

/** Where a person goes on when the App is made. */
export function appCreatedPage(installUrl: string): string {
  return page(
    "The App is made",
    `<p>Now choose the repositories that it may see: <a href="${escape(installUrl)}">install it</a>.
Then connect a project: <code>mayfly git connect</code>.</p>`,
  );
}

/**
 * The App's installation that reaches a repository.
 * @throws MayflyError git_refused when it is installed nowhere there
 */
export async function findInstallation(context: GitContext, appId: string, repository: string): Promise<string> {
  const app = await findGitApp(context.deploy.store, appId);
  if (app === null) throw new MayflyError("not_found", "There is no such App.");
  const privateKey = context.deploy.seal.open(app.privateKey, gitSecretPlace(app.id, "privateKey"));
  const octokit = clientOf(context, app.baseUrl, { authStrategy: createAppAuth, auth: { appId: app.appId, privateKey } });
  const [owner = "", repo = ""] = repository.split("/");
  try {
    const { data } = await ask(context, () => octokit.request("GET /repos/{owner}/{repo}/installation", { owner, repo }));
    return String(data.id);
  } catch (error) {
    if (!(error instanceof MayflyError) || error.details["hostStatus"] !== 404) throw error;
    const where = `${app.baseUrl}/apps/${app.slug}/installations/new`;
    throw new MayflyError("git_refused", `The App ${app.slug} is not installed on ${repository}. Install it: ${where}`, { cause: error });
  }
}

/** An App's id is made of its request's state: its webhook address must be told before it exists. */
const appIdOf = (state: string): string => `gita_${digestOf(`id ${state}`).slice(0, 24)}`;

function manifestOf({ publicUrlOf, deploy: { config } }: GitContext, id: string) {
  const api = publicUrlOf(config.domain);
  return {
    name: `Mayfly ${config.domain} ${id.slice(5, 11)}`.slice(0, 34),
    url: api,
    hook_attributes: { url: `${api}/mayfly/git/apps/${id}/webhook`, active: true },
    redirect_url: `${api}/mayfly/git/apps/callback`,
    public: false,
    default_permissions: githubAppPermissions,
    default_events: githubEvents,
  };
}

async function theRequest({ deploy: { store, clock } }: GitContext, state: string): Promise<GitAppRequest> {
  const request = /^[0-9a-f]{48}$/.test(state) ? await findGitAppRequest(store, digestOf(state), clock.now()) : null;
  if (request === null) throw new MayflyError("not_found", "This link is not valid, or too old. Begin again.");
  return request;
}

function clientOf({ fetch }: GitContext, baseUrl: GitConnection["baseUrl"], auth: ConstructorParameters<typeof Octokit>[0]): Octokit {
  return new Octokit({ ...auth, baseUrl: githubApi(baseUrl), userAgent: "mayfly", request: { fetch } });
}

async function ask<T>({ deploy: { clock } }: GitContext, exchange: () => Promise<T>): Promise<T> {
  try {
    return await exchange();
  } catch (error) {
    if (error instanceof MayflyError) throw error;
    const { response } = error as { response?: { status: number; headers: Record<string, string | undefined> } };
    const failure = { status: response?.status ?? null, headers: response?.headers ?? {}, message: messageOf(error), now: clock.now() };
    throw hostError("GitHub", failure);
  }
}

const escape = (text: string): string => text.replaceAll(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

function page(title: string, content: string): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="referrer" content="no-referrer">
<title>${title}</title><style>body{font:16px/1.5 system-ui;max-width:36rem;margin:4rem auto;padding:0 1rem}</style></head>
<body><h1>${title}</h1>
${content}
</body></html>
`;
}
