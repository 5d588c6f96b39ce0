/**
 * A deployment's beginning: check what the client asks for, say which files are missing, or write the deployment down.
 * When this has returned a deployment, it is on disk and will end in a final state whatever happens to the process.
 */
import { MayflyError } from "../errors.ts";
import type { Deployment, FileRef, ProjectSettings, Sealed, SourceTree, Target } from "../model.ts";
import { checkFilePath, newDeploymentId, projectName } from "../names.ts";
import { hasProduction, insertDeployment } from "../store/deployments.ts";
import { ensureProject, findProject, noSettings } from "../store/projects.ts";
import { envPlace } from "../store/seal.ts";
import type { Identity } from "../store/teams.ts";
import { findUploads } from "../store/uploads.ts";
import { immutableHost } from "./alias.ts";
import type { DeployContext } from "./deploy.ts";
import { refuseFullDisk } from "./upload.ts";

/** A file as the client names it: by the SHA-1 of an upload, or with its bytes. */
export interface RequestedFile {
  readonly path: string;
  readonly mode: number;
  readonly content: { readonly sha1: string; readonly size: number } | { readonly bytes: Buffer };
}

export interface CreateRequest {
  readonly name: string | null;
  /** Id or name of an existing project; the name makes one when there is none. */
  readonly project: string | null;
  readonly files: readonly RequestedFile[];
  readonly target: Target;
  readonly prebuilt: boolean;
  readonly force: boolean;
  readonly env: Readonly<Record<string, string>>;
  readonly buildEnv: Readonly<Record<string, string>>;
  readonly settings: Partial<ProjectSettings>;
  readonly meta: Readonly<Record<string, string>>;
}

/**
 * @throws MayflyError missing_files (details.missing: SHA-1s to upload first), no_files, too_many_files, invalid_path,
 * invalid_file, invalid_name, invalid_env, size_mismatch, payload_too_large, disk_full, not_found (project id)
 */
export async function createDeployment(context: DeployContext, identity: Identity, request: CreateRequest): Promise<Deployment> {
  const { config, store, clock, blobs, seal } = context;
  await refuseFullDisk(context);
  checkFiles(request.files, config);
  checkEnv(request, config.envBytesMax);
  const tree = await resolveFiles(context, identity.team.id, request.files);

  const project = await resolveProject(context, identity.team.id, request);
  const id = newDeploymentId();
  const sealAll = (env: Readonly<Record<string, string>>): Record<string, Sealed> =>
    Object.fromEntries(Object.entries(env).map(([name, value]) => [name, seal.close(value, envPlace(id, name))]));
  const source = await blobs.put(JSON.stringify(tree));
  const now = clock.now();
  const first = !(await hasProduction(store, project.id));
  const deployment: Deployment = {
    id,
    teamId: identity.team.id,
    projectId: project.id,
    name: project.name,
    host: immutableHost(project.name, config.domain),
    target: first ? "production" : request.target,
    state: "QUEUED",
    creatorId: identity.user.id,
    meta: request.meta,
    createdAt: now,
    buildingAt: null,
    readyAt: null,
    errorCode: null,
    errorMessage: null,
    sourceDigest: source.digest,
    manifestDigest: null,
    request: {
      settings: { ...project.settings, ...request.settings },
      prebuilt: request.prebuilt,
      force: request.force,
      env: sealAll(request.env),
      buildEnv: sealAll(request.buildEnv),
    },
    summary: null,
    attempts: 0,
  };
  await insertDeployment(store, deployment);
  return deployment;
}

async function resolveProject({ store, clock }: DeployContext, teamId: string, request: CreateRequest) {
  if (request.project !== null) {
    const project = await findProject(store, teamId, request.project);
    if (project !== null) return project;
    if (request.project.startsWith("prj_")) throw new MayflyError("not_found", `Project ${JSON.stringify(request.project)} not found.`);
  }
  const name = projectName(request.name ?? request.project ?? "");
  return (await ensureProject(store, teamId, name, { ...noSettings, ...request.settings }, clock.now())).project;
}

function checkFiles(files: readonly RequestedFile[], config: DeployContext["config"]): void {
  if (files.length === 0) throw new MayflyError("no_files");
  if (files.length > config.filesMax) {
    throw new MayflyError("too_many_files", `A deployment may have ${config.filesMax} files; this one has ${files.length}.`);
  }
  const paths = new Set<string>();
  let bytes = 0;
  for (const file of files) {
    checkFilePath(file.path, config.pathBytesMax);
    if (paths.has(file.path)) throw new MayflyError("invalid_path", `File ${JSON.stringify(file.path)} is listed twice.`);
    paths.add(file.path);
    bytes += "bytes" in file.content ? file.content.bytes.length : file.content.size;
  }
  for (const path of paths) {
    for (let end = path.indexOf("/"); end !== -1; end = path.indexOf("/", end + 1)) {
      if (paths.has(path.slice(0, end))) {
        throw new MayflyError("invalid_path", `${JSON.stringify(path.slice(0, end))} is listed as a file and as a directory.`);
      }
    }
  }
  if (bytes > config.deploymentBytesMax) {
    throw new MayflyError("payload_too_large", `A deployment may have ${config.deploymentBytesMax} bytes; this one has ${bytes}.`);
  }
}

/** The source as blobs; a client that must still upload gets the whole list of what is missing. */
async function resolveFiles(context: DeployContext, teamId: string, files: readonly RequestedFile[]): Promise<SourceTree> {
  const announced = new Set(files.flatMap(({ content }) => ("sha1" in content ? [content.sha1] : [])));
  const uploads = await findUploads(context.store, teamId, [...announced]);
  const missing = [...announced].filter((sha1) => !uploads.has(sha1));
  if (missing.length > 0) throw new MayflyError("missing_files", undefined, { details: { missing } });

  const entries: [string, FileRef][] = [];
  for (const { path, mode, content } of files) {
    if ("bytes" in content) {
      const { digest, size } = await context.blobs.put(content.bytes, { bytesMax: context.config.fileBytesMax });
      entries.push([path, { digest, size, mode }]);
      continue;
    }
    const { digest, size } = uploads.get(content.sha1)!;
    if (size !== content.size) {
      throw new MayflyError("size_mismatch", `File ${JSON.stringify(path)} is announced with ${content.size} bytes and has ${size}.`);
    }
    entries.push([path, { digest, size, mode }]);
  }
  return Object.fromEntries(entries);
}

function checkEnv({ env, buildEnv }: CreateRequest, bytesMax: number): void {
  for (const variables of [env, buildEnv]) {
    let bytes = 0;
    for (const [name, value] of Object.entries(variables)) {
      if (!/^[A-Za-z_][A-Za-z0-9_]{0,255}$/.test(name)) {
        throw new MayflyError("invalid_env", `${JSON.stringify(name.slice(0, 100))} cannot be the name of an environment variable.`);
      }
      if (value.includes("\0")) throw new MayflyError("invalid_env", `The value of ${name} has a NUL character.`);
      bytes += name.length + Buffer.byteLength(value);
    }
    if (bytes > bytesMax)
      throw new MayflyError("invalid_env", `Environment variables may have ${bytesMax} bytes together; these have ${bytes}.`);
  }
}
