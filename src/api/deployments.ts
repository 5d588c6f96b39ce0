/** Deployments: create, get, list, cancel, delete, what they consist of. In the shapes that the official client reads. */
import { createHash } from "node:crypto";
import { createDeployment, type CreateRequest, type RequestedFile } from "../deploy/create.ts";
import { readManifest } from "../deploy/deploy.ts";
import { MayflyError } from "../errors.ts";
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Alias, Deployment, DeploymentState, EntrypointReport, Manifest, SourceTree } from "../model.ts";
import { listAliases } from "../store/aliases.ts";
import {
  deleteDeployments,
  findByIdempotencyKey,
  findDeployment,
  finishUnready,
  listDeployments,
  type IdempotencyKey,
} from "../store/deployments.ts";
import { findProject } from "../store/projects.ts";
import { listMembers } from "../store/teams.ts";
import { maySee, ofDeployment, ofProjects, type Endpoint, type EndpointCall } from "./endpoint.ts";
import {
  boolean,
  isObject,
  list,
  object,
  oneOf,
  optional,
  pageSize,
  pagination,
  paging,
  string,
  stringOf,
  strings,
  stringsOf,
  type JsonObject,
} from "./schema.ts";
import { settingsOf, settingsSchema } from "./settings.ts";

/** A source file is given as JSON up to this size, in bytes. */
const fileJsonBytesMax = 32 * 1024 * 1024;

const states: readonly DeploymentState[] = ["QUEUED", "BUILDING", "READY", "ERROR", "CANCELED"];

const createSchema = object({
  name: optional(string),
  project: optional(string),
  files: list({ type: "object" }),
  /** Of an earlier deployment, to do it again. */
  deploymentId: optional(string),
  target: { enum: ["production", "preview", null] },
  env: strings,
  build: optional(object({ env: strings })),
  meta: strings,
  gitMetadata: optional(object({})),
  projectSettings: optional(object(settingsSchema)),
  autoAssignCustomDomains: boolean,
  customEnvironmentSlugOrId: optional(string),
});

export const deploymentEndpoints: readonly Endpoint[] = [
  ofProjects({
    method: "POST",
    path: "/deployments",
    summary: "Create a deployment; answers with the digests of files that must be uploaded first",
    access: "write",
    query: { forceNew: oneOf("0", "1"), prebuilt: oneOf("0", "1"), skipAutoDetectionConfirmation: string },
    body: createSchema,
    async handle(call) {
      const { context, identity, queue, body, query } = call;
      const key = idempotencyKeyOf(call);
      const made = key === undefined ? null : await findByIdempotencyKey(context.store, identity.team.id, key);
      if (made !== null && !maySee(identity, made.projectId)) throw new MayflyError("forbidden", "This token is for another project.");
      if (made !== null) return deploymentJson(call, made, []);
      const request = parseCreateRequest(body, query);
      queue.refuseWhenFull();
      const creator = { teamId: identity.team.id, userId: identity.user.id, projectId: identity.token.projectId };
      const deployment = await createDeployment(context, creator, { ...request, ...(key === undefined ? {} : { idempotencyKey: key }) });
      queue.enqueue(deployment);
      return deploymentJson(call, deployment, []);
    },
  }),
  ofProjects({
    method: "GET",
    path: "/deployments",
    summary: "List deployments, the newest first; `meta-<key>` filters by metadata",
    access: "read",
    query: {
      ...paging,
      projectId: string,
      app: string,
      target: string,
      state: string,
      branch: string,
      users: string,
    },
    async handle(call) {
      const { context, identity, query } = call;
      const limit = pageSize(query);
      const nameOrId = query["projectId"] ?? query["app"] ?? identity.token.projectId ?? undefined;
      const project = nameOrId === undefined ? undefined : await findProject(context.store, identity.team.id, nameOrId);
      const visible = project !== null && (project === undefined || maySee(identity, project.id));
      const chosen = query["state"]?.toUpperCase().split(",");
      const deployments = !visible
        ? []
        : await listDeployments(context.store, {
            teamId: identity.team.id,
            limit,
            ...(project === undefined ? {} : { projectId: project.id }),
            ...(query["target"] === "production" || query["target"] === "preview" ? { target: query["target"] } : {}),
            ...(chosen === undefined ? {} : { states: states.filter((state) => chosen.includes(state)) }),
            ...(query["branch"] === undefined ? {} : { branch: query["branch"] }),
            ...(query["users"] === undefined ? {} : { creatorId: query["users"] }),
            ...(Number(query["until"]) > 0 ? { untilMs: Number(query["until"]) } : {}),
            ...(Number(query["since"]) > 0 ? { sinceMs: Number(query["since"]) } : {}),
            meta: metaFilter(query),
          });
      const creators = await creatorNames(call);
      return {
        deployments: deployments.map((deployment) => ({ uid: deployment.id, ...deploymentJson(call, deployment, [], creators) })),
        pagination: pagination(deployments, limit, ({ createdAt }) => createdAt),
      };
    },
  }),
  ofDeployment({
    method: "GET",
    path: "/deployments/:deployment",
    summary: "Get a deployment by id, host or alias",
    access: "read",
    async handle(call) {
      const { deployment, context } = call;
      const aliases = await listAliases(context.store, { deploymentId: deployment.id });
      return deploymentJson(call, deployment, aliases, await creatorNames(call));
    },
  }),
  ofDeployment({
    method: "PATCH",
    path: "/deployments/:deployment/cancel",
    summary: "Cancel a deployment that is not final",
    access: "write",
    async handle(call) {
      const { deployment, queue, identity } = call;
      const { store, clock } = call.context;
      if (!(await finishUnready(store, deployment.id, "CANCELED", null, clock.now()))) {
        throw new MayflyError("conflict", `The deployment is ${deployment.state} and can no longer be canceled.`);
      }
      await queue.cancel(deployment.id);
      return deploymentJson(call, (await findDeployment(store, identity.team.id, deployment.id)) ?? deployment, []);
    },
  }),
  ofDeployment({
    method: "DELETE",
    path: "/deployments/:deployment",
    summary: "Delete a deployment with its aliases, logs and usage",
    access: "write",
    async handle({ deployment, queue, context: { store, logs, usage, clock } }) {
      await finishUnready(store, deployment.id, "CANCELED", null, clock.now());
      await queue.cancel(deployment.id);
      await deleteDeployments(store, [deployment.id]);
      await logs.deleteDeployment(deployment.id);
      await usage.deleteDeployment(deployment.id);
      return { uid: deployment.id, state: "DELETED" };
    },
  }),
  ofDeployment({
    method: "GET",
    path: "/deployments/:deployment/builds",
    summary: "What a deployment consists of: its build and the outputs",
    access: "read",
    async handle({ deployment, context }) {
      const manifest = deployment.manifestDigest === null ? null : await readManifest(context.blobs, deployment.manifestDigest);
      return {
        builds: [
          {
            id: `bld_${deployment.id.slice(4)}`,
            entrypoint: ".",
            readyState: deployment.state,
            createdAt: deployment.createdAt,
            readyStateAt: deployment.readyAt,
            output: manifest === null ? [] : outputsJson(manifest),
            // Ours: what was built and what re-used.
            entrypoints: await readBuildReport(context.blobs, deployment),
          },
        ],
      };
    },
  }),
  ofDeployment({
    method: "GET",
    path: "/deployments/:deployment/files",
    summary: "The source of a deployment as a tree of files",
    access: "read",
    handle: async ({ deployment, context }) => treeJson(await readSource(context, deployment)),
  }),
  ofDeployment({
    method: "GET",
    path: "/deployments/:deployment/files/:uid",
    summary: "One file of a deployment's source, by the `uid` of the tree",
    access: "read",
    async handle({ deployment, context, params }) {
      const file = Object.values(await readSource(context, deployment)).find(({ digest }) => digest === params["uid"]);
      if (file === undefined) throw new MayflyError("not_found", "The deployment's source has no such file.");
      if (file.size > fileJsonBytesMax) {
        throw new MayflyError("payload_too_large", `A file of ${file.size} bytes is not given here; ${fileJsonBytesMax} may be.`);
      }
      return { data: (await context.blobs.read(file.digest)).toString("base64") };
    },
  }),
];

export function deploymentJson(
  { publicUrlOf, identity, context }: EndpointCall,
  deployment: Deployment,
  aliases: readonly Alias[],
  creators: ReadonlyMap<string, string> = new Map([[identity.user.id, identity.user.username]]),
) {
  const { team } = identity;
  const { git } = deployment;
  const ready = deployment.state === "READY";
  const production = deployment.target === "production";
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
    ...(ready && production ? { readySubstate: deployment.promotedAt === null ? "STAGED" : "PROMOTED" } : {}),
    projectId: deployment.projectId,
    ownerId: deployment.teamId,
    target: production ? "production" : null,
    alias: aliases.map(({ host }) => host),
    aliasAssigned: ready ? deployment.readyAt : null,
    aliasError: null,
    createdAt: deployment.createdAt,
    created: deployment.createdAt,
    buildingAt: deployment.buildingAt,
    ready: ready ? deployment.readyAt : undefined,
    creator: { uid: deployment.creatorId, username: creators.get(deployment.creatorId) ?? deployment.creatorId },
    meta: deployment.meta,
    source: git !== null ? "git" : deployment.request.originId === undefined ? "cli" : "redeploy",
    ...(git === null
      ? {}
      : { gitSource: { type: git.provider, repository: git.repository, ref: git.branch, sha: git.commitSha, prId: git.pullRequest } }),
    regions: [context.config.region],
    team: { id: team.id, slug: team.slug, name: team.name },
    buildSummary: deployment.summary,
    ...(deployment.state === "CANCELED" && deployment.errorMessage !== null ? { readyStateReason: deployment.errorMessage } : {}),
    ...(deployment.state === "ERROR" ? { errorCode: deployment.errorCode, errorMessage: deployment.errorMessage, errorStep: "build" } : {}),
  };
}

async function creatorNames({ context, identity }: EndpointCall): Promise<ReadonlyMap<string, string>> {
  return new Map((await listMembers(context.store, identity.team.id)).map(({ user }) => [user.id, user.username]));
}

/** `meta-branch=main` → `{branch: "main"}` */
function metaFilter(query: EndpointCall["query"]): Record<string, string> {
  const entries = Object.entries(query).filter(([name, value]) => name.startsWith("meta-") && typeof value === "string");
  return Object.fromEntries(entries.map(([name, value]) => [name.slice("meta-".length), value!]));
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

async function readBuildReport(blobs: BlobStore, { summary }: Deployment): Promise<readonly EntrypointReport[]> {
  if (summary?.reportDigest === undefined) return [];
  return JSON.parse((await blobs.read(summary.reportDigest)).toString()) as readonly EntrypointReport[];
}

async function readSource({ blobs }: EndpointCall["context"], { sourceDigest }: Deployment): Promise<SourceTree> {
  return JSON.parse((await blobs.read(sourceDigest)).toString()) as SourceTree;
}

interface TreeNode {
  readonly name: string;
  readonly type: "directory" | "file" | "symlink";
  /** What a file is asked for by. */
  readonly uid?: string;
  readonly mode: number;
  readonly size?: number;
  readonly children?: TreeNode[];
}

function treeJson(tree: SourceTree): TreeNode[] {
  const root: TreeNode[] = [];
  const directories = new Map<string, TreeNode[]>([["", root]]);
  const childrenOf = (path: string): TreeNode[] => {
    const known = directories.get(path);
    if (known !== undefined) return known;
    const slash = path.lastIndexOf("/");
    const children: TreeNode[] = [];
    directories.set(path, children);
    childrenOf(slash === -1 ? "" : path.slice(0, slash)).push({ name: path.slice(slash + 1), type: "directory", mode: 0o40755, children });
    return children;
  };
  for (const [path, { digest, size, mode }] of Object.entries(tree).toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const slash = path.lastIndexOf("/");
    const type = mode === 0o120777 ? "symlink" : "file";
    childrenOf(slash === -1 ? "" : path.slice(0, slash)).push({ name: path.slice(slash + 1), type, uid: digest, mode, size });
  }
  return root;
}

/** @throws MayflyError bad_request */
function idempotencyKeyOf({ request, body, query }: EndpointCall): IdempotencyKey | undefined {
  const key = request.headers["idempotency-key"];
  if (key === undefined) return undefined;
  if (typeof key !== "string" || !/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new MayflyError("bad_request", "An Idempotency-Key has 1 to 255 printable characters.");
  }
  return {
    key,
    requestDigest: createHash("sha256")
      .update(JSON.stringify([body, query]))
      .digest("hex"),
  };
}

function parseCreateRequest(body: JsonObject, query: Readonly<Record<string, string | undefined>>): CreateRequest {
  const { build, projectSettings: settings, customEnvironmentSlugOrId: environment } = body;
  if (typeof environment === "string" && !["production", "preview"].includes(environment)) {
    throw new MayflyError(
      "bad_request",
      `There is no environment ${JSON.stringify(environment.slice(0, 100))}: use production or preview.`,
    );
  }
  const deploymentId = stringOf(body, "deploymentId");
  return {
    name: stringOf(body, "name"),
    project: stringOf(body, "project"),
    source: deploymentId === null ? { files: ((body["files"] as unknown[] | undefined) ?? []).map(parseFile) } : { deploymentId },
    target: body["target"] === "production" || environment === "production" ? "production" : "preview",
    prebuilt: query["prebuilt"] === "1",
    force: query["forceNew"] === "1" && deploymentId === null,
    env: stringsOf(body, "env"),
    buildEnv: isObject(build) ? stringsOf(build, "env") : {},
    settings: isObject(settings) ? settingsOf(settings) : {},
    meta: { ...gitMeta(body["gitMetadata"]), ...stringsOf(body, "meta") },
    autoAssign: body["autoAssignCustomDomains"] !== false,
  };
}

/** What a client knows of the commit it deploys, as metadata to filter by. Only a Git host's word makes a branch's deployment. */
function gitMeta(git: unknown): Record<string, string> {
  if (!isObject(git)) return {};
  const names = {
    commitRef: "gitCommitRef",
    commitSha: "gitCommitSha",
    commitMessage: "gitCommitMessage",
    commitAuthorName: "gitCommitAuthorName",
  };
  const known = Object.entries(names).filter(([name]) => typeof git[name] === "string");
  const meta = Object.fromEntries(known.map(([name, key]) => [key, (git[name] as string).slice(0, 2048)]));
  return git["dirty"] === true ? { ...meta, gitDirty: "1" } : meta;
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
