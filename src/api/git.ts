/**
 * Git: which repository a project is deployed from, what its host has sent, GitHub Apps of the team's own; and where hosts
 * send their webhooks, which carry a signature instead of a token.
 */
import type { Readable } from "node:stream";
import { MayflyError } from "../errors.ts";
import { approve, connect, disconnect, webhookUrl } from "../git/connect.ts";
import { appCreatedPage, completeApp, manifestPage, requestApp } from "../git/github-app.ts";
import type { GitApp, GitConnection, GitDelivery } from "../model.ts";
import { deleteGitApp, findGitApp, listGitApps, listGitConnections } from "../store/git-connections.ts";
import { listDeliveries, redeliver } from "../store/git-deliveries.ts";
import { listReports, type GitReport } from "../store/git-reports.ts";
import { maySee, ofProject, ofProjects, ofServer, ofTeam, Reply, type Endpoint, type EndpointCall, type ProjectCall } from "./endpoint.ts";
import { count, object, optional, pageSize, string, stringOf } from "./schema.ts";

const connectBody = object(
  { repository: string, token: optional(string), appId: optional(string), productionBranch: optional(string) },
  "repository",
);

export const gitEndpoints: readonly Endpoint[] = [
  ofProjects({
    method: "GET",
    path: "/mayfly/git/connections",
    summary: "Projects that are deployed by pushes, with their repositories",
    access: "read",
    async handle(call) {
      const connections = await listGitConnections(call.context.store, call.identity.team.id);
      return {
        connections: connections.filter(({ projectId }) => maySee(call.identity, projectId)).map((one) => connectionJson(call, one)),
      };
    },
  }),
  ofProject({
    method: "GET",
    path: "/mayfly/git/projects/:project",
    summary: "A project's repository, and what its commits have become",
    access: "read",
    async handle(call) {
      const connection = await theConnection(call);
      const reports = await listReports(call.context.store, connection.id, pageSize(call.query));
      return { connection: connectionJson(call, connection), commits: reports.map((report) => commitJson(call, report)) };
    },
  }),
  ofProject({
    method: "POST",
    path: "/mayfly/git/projects/:project",
    summary: "Connect a project to a repository by token or App, and make the host send webhooks",
    access: "write",
    body: connectBody,
    status: 201,
    async handle(call) {
      const { git, project, identity, body } = call;
      const { connection, webhook } = await connect(git.context, project, identity.user.id, {
        repository: stringOf(body, "repository")!,
        token: stringOf(body, "token"),
        appId: stringOf(body, "appId"),
        productionBranch: stringOf(body, "productionBranch"),
      });
      return { connection: connectionJson(call, connection), webhook };
    },
  }),
  ofProject({
    method: "DELETE",
    path: "/mayfly/git/projects/:project",
    summary: "Disconnect a project; its deployments stay",
    access: "write",
    handle: async (call) => ({ warning: await disconnect(call.git.context, await theConnection(call)) }),
  }),
  ofProject({
    method: "GET",
    path: "/mayfly/git/projects/:project/deliveries",
    summary: "Webhooks that a project's host has sent, the newest first, and what came of each",
    access: "read",
    query: { limit: count },
    async handle(call) {
      const connection = await theConnection(call);
      const deliveries = await listDeliveries(call.context.store, connection.id, pageSize(call.query));
      return { deliveries: deliveries.map(deliveryJson) };
    },
  }),
  ofProject({
    method: "POST",
    path: "/mayfly/git/projects/:project/deliveries/:id/redeliver",
    summary: "Act on a webhook once more, though its commit is known",
    access: "write",
    async handle(call) {
      const { context, git, params } = call;
      const connection = await theConnection(call);
      if (!(await redeliver(context.store, connection.id, params["id"]!, context.clock.now()))) {
        throw new MayflyError("conflict", "There is no such delivery, or it waits already.");
      }
      git.wake();
      return {};
    },
  }),
  ofProject({
    method: "POST",
    path: "/mayfly/git/projects/:project/pull-requests/:number/approve",
    summary: "Approve the commit of a fork's pull request that waits: it is built without secrets",
    access: "write",
    body: object({ sha: optional(string) }),
    async handle(call) {
      const number = Number(call.params["number"]);
      if (!Number.isSafeInteger(number)) throw new MayflyError("bad_request", "A pull request has a number.");
      const sha = await approve(call.git.context, await theConnection(call), number, stringOf(call.body, "sha"));
      call.git.wake();
      return { sha };
    },
  }),

  ofTeam({
    method: "GET",
    path: "/mayfly/git/apps",
    summary: "GitHub Apps of the team",
    access: "read",
    handle: async ({ context, identity }) => ({ apps: (await listGitApps(context.store, identity.team.id)).map(appJson) }),
  }),
  ofTeam({
    method: "POST",
    path: "/mayfly/git/apps",
    summary: "Begin to make a GitHub App: the address of a page with one button",
    access: "admin",
    body: object({ baseUrl: optional(string), organization: optional(string) }),
    async handle({ git, identity, body }) {
      const baseUrl = stringOf(body, "baseUrl") ?? git.context.addresses.github[0] ?? "";
      return { url: await requestApp(git.context, identity.team.id, { baseUrl, organization: stringOf(body, "organization") }) };
    },
  }),
  ofTeam({
    method: "DELETE",
    path: "/mayfly/git/apps/:id",
    summary: "Forget a GitHub App that no project uses",
    access: "admin",
    async handle({ context: { store }, identity, params }) {
      const app = await findGitApp(store, params["id"]!);
      if (app === null || app.teamId !== identity.team.id) throw new MayflyError("not_found", "There is no such App.");
      if (!(await deleteGitApp(store, app.id))) throw new MayflyError("conflict", "Projects are connected by this App.");
      return undefined;
    },
  }),
  ofServer({
    method: "GET",
    path: "/mayfly/git/apps/new",
    summary: "The page that sends a person to GitHub to make an App",
    access: "anyone",
    query: { state: string },
    handle: async ({ git, query }) => new Reply("text/html; charset=utf-8", await manifestPage(git.context, query["state"] ?? "")),
  }),
  ofServer({
    method: "GET",
    path: "/mayfly/git/apps/callback",
    summary: "Where GitHub sends a person back when the App is made",
    access: "anyone",
    query: { state: string, code: string },
    async handle({ git, query }) {
      const next = await completeApp(git.context, query["state"] ?? "", query["code"] ?? "");
      return new Reply("text/html; charset=utf-8", appCreatedPage(next));
    },
  }),
  ofServer({
    method: "POST",
    path: "/mayfly/git/apps/:id/webhook",
    summary: "Where GitHub sends an App's webhooks",
    access: "anyone",
    body: "stream",
    status: 202,
    handle: async ({ git, request, params }) => ({
      status: await git.receiveForApp(params["id"]!, headersOf(request.headers), request.body as Readable),
    }),
  }),
  ofServer({
    method: "POST",
    path: "/mayfly/git/webhooks/:id",
    summary: "Where a connection's host sends its webhooks",
    access: "anyone",
    body: "stream",
    status: 202,
    handle: async ({ git, request, params }) => ({
      status: await git.receive(params["id"]!, headersOf(request.headers), request.body as Readable),
    }),
  }),
];

async function theConnection({ context, project }: ProjectCall): Promise<GitConnection> {
  const [connection] = await listGitConnections(context.store, project.teamId, project.id);
  if (connection === undefined) throw new MayflyError("not_found", `The project ${project.name} is connected to no repository.`);
  return connection;
}

/** One value a header: hosts send each once. */
function headersOf(headers: Readonly<Record<string, string | string[] | undefined>>): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value[0] : value]));
}

function connectionJson({ git }: Pick<EndpointCall, "git">, connection: GitConnection) {
  const { teamId: _team, creatorId: _creator, webhookId, ...facts } = connection;
  return {
    ...facts,
    repositoryUrl: `${connection.baseUrl}/${connection.repository}`,
    webhook: connection.appId === null ? { url: webhookUrl(git.context, connection), madeByUs: webhookId !== null } : null,
  };
}

function commitJson({ publicUrlOf }: EndpointCall, report: GitReport) {
  const { sha, branch, pullRequest, fork, production, deploymentId, deployment, outcome, description, error, createdAt } = report;
  const state = outcome?.toUpperCase() ?? deployment?.state ?? "DELETED";
  const url = deployment === null ? null : publicUrlOf(deployment.host);
  return { sha, branch, pullRequest, fork, production, state, description, deploymentId, url, reportError: error, createdAt };
}

const appJson = ({ teamId: _team, ...app }: GitApp) => ({ ...app, url: `${app.baseUrl}/apps/${app.slug}` });

const deliveryJson = ({ connectionId: _connection, ...delivery }: GitDelivery) => delivery;
