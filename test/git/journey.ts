/** A server that knows the fake hosts, and what journeys ask of it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { request } from "undici";
import { startMayfly } from "../mayfly.ts";
import { eventually, type Mayfly, type Reply } from "../server.ts";
import type { FakeHost } from "./fake-host.ts";
import { FakeGithub } from "./fake-github.ts";
import { FakeGitlab } from "./fake-gitlab.ts";

export interface Listed {
  readonly id: string;
  readonly url: string;
  readonly state: string;
  readonly target: string | null;
  readonly meta: Readonly<Record<string, string>>;
}

export interface GitJourney {
  readonly github: FakeGithub;
  readonly gitlab: FakeGitlab;
  readonly mayfly: Mayfly;
}

/** Both hosts and a server; `env` of a server that is started again names the same hosts. */
export async function openJourney(env: Readonly<Record<string, string>> = {}): Promise<GitJourney> {
  const [github, gitlab] = await Promise.all([FakeGithub.open(), FakeGitlab.open()]);
  const mayfly = await startMayfly({ env: { ...hostsEnv(github, gitlab), ...env } });
  return { github, gitlab, mayfly };
}

export const hostsEnv = (github: FakeGithub, gitlab: FakeGitlab): Record<string, string> => ({
  MAYFLY_GITHUB_URLS: github.url,
  MAYFLY_GITLAB_URLS: gitlab.url,
});

/** A call of the API with this machine's token. */
export async function callApi(mayfly: Mayfly, method: "GET" | "POST" | "DELETE" | "PATCH", path: string, body?: unknown) {
  const file = JSON.parse(readFileSync(join(mayfly.home, "config", "mayfly", "credentials.json"), "utf8")) as unknown;
  const token = /"(mayfly_\w+)"/.exec(JSON.stringify(file))?.[1];
  const answer = await request(`${mayfly.api}${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.body.text();
  return { status: answer.statusCode, body: (text === "" ? {} : JSON.parse(text)) as Record<string, never> };
}

/** Makes a project and connects it; returns its name. */
export async function connectProject(
  mayfly: Mayfly,
  host: FakeHost,
  repository: string,
  project: string,
  settings: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  const made = await callApi(mayfly, "POST", "/v9/projects", { name: project, ...settings });
  assert.equal(made.status, 200, JSON.stringify(made.body));
  const connected = await callApi(mayfly, "POST", `/v1/mayfly/git/projects/${project}`, {
    repository: host.addressOf(repository),
    token: host.token,
  });
  assert.equal(connected.status, 201, JSON.stringify(connected.body));
  assert.equal((connected.body as unknown as { webhook: unknown }).webhook, null);
  return project;
}

export async function listDeployments(mayfly: Mayfly, project: string): Promise<Listed[]> {
  const { body } = await callApi(mayfly, "GET", `/v6/deployments?app=${project}&limit=100`);
  return (body as unknown as { deployments: Listed[] }).deployments;
}

/** The deployment of a commit, once it is in this state. */
export function deploymentOf(mayfly: Mayfly, project: string, sha: string, state = "READY"): Promise<Listed> {
  return eventually(`commit ${sha.slice(0, 7)} of ${project} is ${state}`, async () => {
    const all = await listDeployments(mayfly, project);
    return all.find(({ meta, state: now }) => Object.values(meta).includes(sha) && now === state) ?? null;
  });
}

export const visit = (mayfly: Mayfly, host: string, path = "/"): Promise<Reply> => mayfly.fetch(`http://${host}:${mayfly.port}${path}`);

/** Webhooks of a project and what came of them, the newest first. */
export async function deliveriesOf(mayfly: Mayfly, project: string) {
  const { body } = await callApi(mayfly, "GET", `/v1/mayfly/git/projects/${project}/deliveries?limit=100`);
  return (
    body as unknown as { deliveries: { id: string; event: string; state: string; result: string | null; deploymentId: string | null }[] }
  ).deliveries;
}

/** Until no webhook waits any more. */
export function settled(mayfly: Mayfly, project: string) {
  return eventually(`all webhooks of ${project} are acted on`, async () => {
    const deliveries = await deliveriesOf(mayfly, project);
    return deliveries.every(({ state }) => state !== "PENDING") ? deliveries : null;
  });
}
