/** Deployments: create, get, list, cancel, delete, what they consist of. In the shapes that the official client reads. */
import type { Endpoint, EndpointCall } from "./endpoint.ts";
import { createDeployment, type CreateRequest, type RequestedFile } from "../deploy/create.ts";
import { readManifest } from "../deploy/deploy.ts";
import { MayflyError } from "../errors.ts";
import type { Alias, Deployment, DeploymentState, Manifest } from "../model.ts";
import { deleteDeployments, findDeployment, finishUnready, listAliases, listDeployments } from "../store/deployments.ts";
import { findProject } from "../store/projects.ts";
import type { Identity } from "../store/teams.ts";
import { isObject, optionalString, stringRecord, wrong, type JsonObject } from "./body.ts";
import { settingsOf } from "./projects.ts";

export const deploymentEndpoints: readonly Endpoint[] = [
  {
    method: "POST",
    path: "/deployments",
    async handle(call) {
      const request = parseCreateRequest(await call.json(), call.query);
      call.queue.refuseWhenFull();
      const deployment = await createDeployment(call.context, call.identity, request);
      call.queue.enqueue(deployment);
      return deploymentJson(call, deployment, []);
    },
  },
  {
    method: "GET",
    path: "/deployments",
    async handle(call) {
      const { context, identity, query } = call;
      const limit = Math.min(Math.max(Number(query["limit"] ?? 20) || 20, 1), 100);
      const nameOrId = query["projectId"] ?? query["app"];
      const project = nameOrId === undefined ? undefined : await findProject(context.store, identity.team.id, nameOrId);
      if (project === null) return { deployments: [], pagination: { count: 0, next: null, prev: null } };
      const deployments = await listDeployments(context.store, {
        teamId: identity.team.id,
        limit,
        ...(project === undefined ? {} : { projectId: project.id }),
        ...(query["target"] === "production" || query["target"] === "preview" ? { target: query["target"] } : {}),
        ...(query["state"] === undefined ? {} : { state: query["state"].toUpperCase() as DeploymentState }),
        ...(Number(query["until"]) > 0 ? { untilMs: Number(query["until"]) } : {}),
      });
      const next = deployments.length === limit ? deployments.at(-1)!.createdAt : null;
      return {
        deployments: deployments.map((deployment) => ({ uid: deployment.id, ...deploymentJson(call, deployment, []) })),
        pagination: { count: deployments.length, next, prev: deployments[0]?.createdAt ?? null },
      };
    },
  },
  {
    method: "GET",
    path: "/deployments/:idOrHost",
    async handle(call) {
      const deployment = await theDeployment(call);
      return deploymentJson(call, deployment, await listAliases(call.context.store, { deploymentId: deployment.id }));
    },
  },
  {
    method: "PATCH",
    path: "/deployments/:idOrHost/cancel",
    async handle(call) {
      const { store, clock } = call.context;
      const deployment = await theDeployment(call);
      if (!(await finishUnready(store, deployment.id, "CANCELED", null, clock.now()))) {
        throw new MayflyError("conflict", `The deployment is ${deployment.state} and can no longer be canceled.`);
      }
      await call.queue.cancel(deployment.id);
      return deploymentJson(call, await theDeployment(call), []);
    },
  },
  {
    method: "DELETE",
    path: "/deployments/:idOrHost",
    async handle(call) {
      const { store, logs, usage, clock } = call.context;
      const deployment = await theDeployment(call);
      await finishUnready(store, deployment.id, "CANCELED", null, clock.now());
      await call.queue.cancel(deployment.id);
      await deleteDeployments(store, [deployment.id]);
      await logs.deleteDeployment(deployment.id);
      await usage.deleteDeployment(deployment.id);
      return { uid: deployment.id, state: "DELETED" };
    },
  },
  {
    method: "GET",
    path: "/deployments/:idOrHost/aliases",
    async handle(call) {
      const deployment = await theDeployment(call);
      const aliases = await listAliases(call.context.store, { deploymentId: deployment.id });
      return { aliases: aliases.map(({ host, createdAt }) => ({ uid: host, alias: host, created: new Date(createdAt).toISOString() })) };
    },
  },
  {
    method: "GET",
    path: "/deployments/:idOrHost/builds",
    async handle(call) {
      const deployment = await theDeployment(call);
      const manifest = deployment.manifestDigest === null ? null : await readManifest(call.context.blobs, deployment.manifestDigest);
      return {
        builds: [
          {
            id: `bld_${deployment.id.slice(4)}`,
            entrypoint: ".",
            readyState: deployment.state,
            createdAt: deployment.createdAt,
            readyStateAt: deployment.readyAt,
            output: manifest === null ? [] : outputsJson(manifest),
          },
        ],
      };
    },
  },
];

/**
 * The deployment a path names, by id, host or alias.
 * @throws MayflyError not_found, also for another team's
 */
export async function theDeployment({
  context,
  identity,
  params,
}: Pick<EndpointCall, "context" | "identity" | "params">): Promise<Deployment> {
  const deployment = await findDeployment(context.store, identity.team.id, params["idOrHost"]!.toLowerCase());
  if (deployment === null) throw new MayflyError("not_found", "Deployment not found");
  return deployment;
}

function deploymentJson({ publicUrlOf, identity, context }: EndpointCall, deployment: Deployment, aliases: readonly Alias[]) {
  const { team, user } = identity as Identity;
  const ready = deployment.state === "READY";
  return {
    id: deployment.id,
    url: deployment.host,
    publicUrl: publicUrlOf(deployment.host),
    inspectorUrl: publicUrlOf(context.config.domain),
    name: deployment.name,
    version: 2,
    type: "LAMBDAS",
    readyState: deployment.state,
    state: deployment.state,
    readySubstate: ready && deployment.target === "production" ? "PROMOTED" : undefined,
    projectId: deployment.projectId,
    ownerId: deployment.teamId,
    target: deployment.target === "production" ? "production" : null,
    alias: aliases.map(({ host }) => host),
    aliasAssigned: ready ? deployment.readyAt : null,
    aliasError: null,
    createdAt: deployment.createdAt,
    created: deployment.createdAt,
    buildingAt: deployment.buildingAt,
    ready: ready ? deployment.readyAt : undefined,
    creator: { uid: deployment.creatorId, username: user.username },
    meta: deployment.meta,
    regions: [context.config.region],
    team: { id: team.id, slug: team.slug, name: team.name },
    buildSummary: deployment.summary,
    ...(deployment.state === "CANCELED" && deployment.errorMessage !== null ? { readyStateReason: deployment.errorMessage } : {}),
    ...(deployment.state === "ERROR" ? { errorCode: deployment.errorCode, errorMessage: deployment.errorMessage, errorStep: "build" } : {}),
  };
}

function outputsJson(manifest: Manifest) {
  return Object.entries(manifest.outputs)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([path, output]) => {
      if (output.kind === "static") {
        return { type: "file", path, digest: output.file.digest, mode: output.file.mode, size: output.file.size };
      }
      const spec = manifest.functions[output.functionId]!;
      return {
        type: "lambda",
        path,
        digest: spec.bundleDigest,
        mode: 0o100644,
        size: spec.bundleSize,
        lambda: {
          functionName: spec.name,
          deployedTo: spec.regions,
          memory: spec.memoryMB,
          maxDuration: spec.maxDurationS,
          runtime: spec.runtime,
        },
      };
    });
}

function parseCreateRequest(body: JsonObject, query: Readonly<Record<string, string | undefined>>): CreateRequest {
  const build = body["build"];
  if (build !== undefined && !isObject(build)) throw wrong("build", "an object");
  const settings = body["projectSettings"];
  if (settings !== undefined && settings !== null && !isObject(settings)) throw wrong("projectSettings", "an object");
  const files = body["files"] ?? [];
  if (!Array.isArray(files)) throw wrong("files", "a list");
  return {
    name: optionalString(body, "name"),
    project: optionalString(body, "project"),
    files: files.map(parseFile),
    target: body["target"] === "production" ? "production" : "preview",
    prebuilt: query["prebuilt"] === "1",
    force: query["forceNew"] === "1",
    env: stringRecord(body, "env"),
    buildEnv: isObject(build) ? stringRecord(build, "env") : {},
    settings: isObject(settings) ? settingsOf(settings) : {},
    meta: stringRecord(body, "meta"),
  };
}

function parseFile(value: unknown, index: number): RequestedFile {
  const refuse = (expected: string) => new MayflyError("invalid_file", `File ${index} of the list must have ${expected}.`);
  if (!isObject(value)) throw refuse("a path and a digest");
  const { file, mode = 0o100644, sha, size, data, encoding } = value;
  if (typeof file !== "string") throw refuse("a path in `file`");
  if (typeof mode !== "number" || !Number.isInteger(mode)) throw refuse("a number in `mode`");
  const path = file.replace(/^\.\//, "");
  if (typeof data === "string") {
    if (encoding !== undefined && encoding !== "base64" && encoding !== "utf-8") throw refuse("the encoding base64 or utf-8");
    return { path, mode: fileMode(mode), content: { bytes: Buffer.from(data, encoding === "base64" ? "base64" : "utf8") } };
  }
  if (typeof sha !== "string" || !/^[0-9a-f]{40}$/i.test(sha)) throw refuse("a SHA-1 in `sha`");
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) throw refuse("its bytes in `size`");
  return { path, mode: fileMode(mode), content: { sha1: sha.toLowerCase(), size } };
}

/** Of a mode only this is kept: link, executable, or neither. Set-uid and its like are not. */
function fileMode(mode: number): number {
  if ((mode & 0o170000) === 0o120000) return 0o120777;
  return mode & 0o111 ? 0o100755 : 0o100644;
}
