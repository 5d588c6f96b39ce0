/**
 * A deployment's beginning: check what the client asks for, say which files are missing, or write the deployment down.
 * When this has returned a deployment, it is on disk and will end in a final state whatever happens to the process.
 */
import type { BlobInfo, BlobTarget } from "../blobs/blob-store.ts";
import { outputDirectory } from "../build/builder.ts";
import { MayflyError } from "../errors.ts";
import {
  noSettings,
  type Deployment,
  type Digest,
  type FileRef,
  type GitSource,
  type Project,
  type ProjectSettings,
  type SourceTree,
  type Target,
} from "../model.ts";
import { checkFilePath, newDeploymentId, projectName } from "../names.ts";
import { findDeployment, hasProduction, insertDeployment, type IdempotencyKey } from "../store/deployments.ts";
import { ensureProject, findProject } from "../store/projects.ts";
import { findUploads, recordUpload } from "../store/uploads.ts";
import { immutableHost } from "./alias.ts";
import { archiveParts, unpackArchive } from "./archive.ts";
import type { DeployContext } from "./deploy.ts";
import { givenEnvironment, projectVariables, sealEnvironment, systemEnvironment } from "./environment.ts";
import { refuseFullDisk } from "./upload.ts";

/** A file as the client names it: by the SHA-1 of an upload, or with its bytes. */
export interface RequestedFile {
  readonly path: string;
  readonly mode: number;
  readonly content: { readonly sha1: string; readonly size: number } | { readonly bytes: Buffer };
}

/** What is deployed: files that a client names, a tree whose blobs are stored, or an earlier deployment once more. */
export type CreateSource =
  | { readonly files: readonly RequestedFile[] }
  | { readonly tree: SourceTree; readonly git: GitSource | null }
  | { readonly deploymentId: string };

export interface CreateRequest {
  readonly name: string | null;
  /** Id or name of an existing project; the name makes one when there is none. */
  readonly project: string | null;
  readonly source: CreateSource;
  /** The first deployment of a project becomes production, unless it comes from a Git host. */
  readonly target: Target;
  readonly prebuilt: boolean;
  readonly force: boolean;
  /** Beside the project's variables; they win over those. */
  readonly env: Readonly<Record<string, string>>;
  readonly buildEnv: Readonly<Record<string, string>>;
  readonly settings: Partial<ProjectSettings>;
  readonly meta: Readonly<Record<string, string>>;
  /** false: it becomes production only by a promote. Absent: true. */
  readonly autoAssign?: boolean;
  /** A repeated call with the same key yields the deployment of the first. */
  readonly idempotencyKey?: IdempotencyKey;
}

/** Who makes it. */
export interface Creator {
  readonly teamId: string;
  readonly userId: string;
  /** The only project that it may be made in; null: any of the team's. */
  readonly projectId: string | null;
}

/**
 * @throws MayflyError missing_files (details.missing: SHA-1s to upload first), no_files, too_many_files, invalid_path,
 * invalid_file, invalid_name, invalid_env, size_mismatch, payload_too_large, disk_full, not_found (project, deployment),
 * forbidden (another project than the creator may use)
 */
export async function createDeployment(context: DeployContext, creator: Creator, request: CreateRequest): Promise<Deployment> {
  const { config, store, clock, seal } = context;
  await refuseFullDisk(context);
  await using batch = context.blobs.batch();
  const source = await resolveSource(context, batch, creator.teamId, request);
  const project = await resolveProject(context, creator, request, source.origin);
  const { origin, git } = source;
  const id = newDeploymentId();
  const target = git === null && !(await hasProduction(store, project.id)) ? "production" : request.target;
  const given = origin === null ? { env: {}, buildEnv: {} } : givenEnvironment(seal, origin);
  const deployment: Deployment = {
    id,
    teamId: creator.teamId,
    projectId: project.id,
    name: project.name,
    host: immutableHost(project.name, config.domain),
    target,
    state: "QUEUED",
    creatorId: creator.userId,
    meta: { ...origin?.meta, ...request.meta },
    createdAt: clock.now(),
    buildingAt: null,
    readyAt: null,
    errorCode: null,
    errorMessage: null,
    sourceDigest: source.digest,
    manifestDigest: null,
    git,
    promotedAt: null,
    request: {
      settings: { ...settingsOf(project, origin), ...request.settings },
      // Older clients do not say so.
      prebuilt: origin?.request.prebuilt ?? (request.prebuilt || source.hasOutput),
      force: request.force,
      ...sealEnvironment(context, id, await projectVariables(store, project.id, target, git), {
        env: { ...given.env, ...request.env },
        buildEnv: { ...given.buildEnv, ...request.buildEnv },
      }),
      systemEnv: systemEnvironment(project, id, git, config.domain),
      ...(request.autoAssign === false ? { autoAssign: false } : {}),
      ...(origin === null ? {} : { originId: origin.id }),
    },
    summary: null,
    attempts: 0,
  };
  await batch.commit();
  const [inserted] = await Promise.all([
    insertDeployment(store, deployment, request.idempotencyKey),
    ...source.sent.map((file) => recordUpload(store, creator.teamId, file, clock.now())),
  ]);
  return inserted;
}

/** A deployment done again has its own settings, but for those that the project has set. */
function settingsOf({ settings }: Project, origin: Deployment | null): ProjectSettings {
  if (origin === null) return settings;
  return { ...origin.request.settings, ...Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== null)) };
}

interface ResolvedSource {
  readonly digest: Digest;
  readonly git: GitSource | null;
  /** The deployment that is done again. */
  readonly origin: Deployment | null;
  /** A client sent a build's output: no client sends one beside a source. */
  readonly hasOutput: boolean;
  /** Files that came with the call: the team has them from now on. */
  readonly sent: readonly BlobInfo[];
}

async function resolveSource(
  context: DeployContext,
  batch: BlobTarget,
  teamId: string,
  { source }: CreateRequest,
): Promise<ResolvedSource> {
  if ("deploymentId" in source) {
    const origin = await findDeployment(context.store, teamId, source.deploymentId);
    if (origin === null) throw new MayflyError("not_found", "Deployment not found");
    return { digest: origin.sourceDigest, git: origin.git, origin, hasOutput: false, sent: [] };
  }
  const put = async (tree: SourceTree) => (await batch.put(JSON.stringify(tree))).digest;
  if ("tree" in source) return { digest: await put(source.tree), git: source.git, origin: null, hasOutput: false, sent: [] };
  checkFiles(
    source.files.map(({ path, content }) => ({ path, size: "bytes" in content ? content.bytes.length : content.size })),
    context.config,
  );
  const { tree, sent } = await resolveFiles(context, batch, teamId, source.files);
  const hasOutput = Object.hasOwn(tree, `${outputDirectory}/config.json`);
  return { digest: await put(tree), git: null, origin: null, hasOutput, sent };
}

async function resolveProject(
  { store, clock }: DeployContext,
  { teamId, projectId }: Creator,
  request: CreateRequest,
  origin: Deployment | null,
): Promise<Project> {
  const asked = origin?.projectId ?? request.project;
  let project = asked === null ? null : await findProject(store, teamId, asked);
  if (project === null && asked?.startsWith("prj_") === true) {
    throw new MayflyError("not_found", `Project ${JSON.stringify(asked.slice(0, 100))} not found.`);
  }
  if (project === null) {
    const name = projectName(request.name ?? asked ?? "");
    project =
      projectId === null
        ? (await ensureProject(store, teamId, name, { ...noSettings, ...request.settings }, clock.now())).project
        : await findProject(store, teamId, name);
  }
  if (project === null || (projectId !== null && projectId !== project.id)) {
    throw new MayflyError("forbidden", "This token is for another project.");
  }
  return project;
}

function checkFiles(files: readonly { readonly path: string; readonly size: number }[], config: DeployContext["config"]): void {
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
    bytes += file.size;
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
async function resolveFiles(
  context: DeployContext,
  batch: BlobTarget,
  teamId: string,
  files: readonly RequestedFile[],
): Promise<{ readonly tree: SourceTree; readonly sent: readonly BlobInfo[] }> {
  const announced = new Set(files.flatMap(({ content }) => ("sha1" in content ? [content.sha1] : [])));
  const uploads = await findUploads(context.store, teamId, [...announced], context.clock.now());
  const missing = [...announced].filter((sha1) => !uploads.has(sha1));
  if (missing.length > 0) throw new MayflyError("missing_files", undefined, { details: { missing } });

  const entries: [string, FileRef][] = [];
  const sent: BlobInfo[] = [];
  for (const { path, mode, content } of files) {
    if ("bytes" in content) {
      const info = await batch.put(content.bytes, { bytesMax: context.config.fileBytesMax });
      sent.push(info);
      entries.push([path, { digest: info.digest, size: info.size, mode }]);
      continue;
    }
    const { digest, size } = uploads.get(content.sha1)!;
    if (size !== content.size) {
      throw new MayflyError("size_mismatch", `File ${JSON.stringify(path)} is announced with ${content.size} bytes and has ${size}.`);
    }
    entries.push([path, { digest, size, mode }]);
  }
  const parts = archiveParts(entries);
  if (parts === null) return { tree: Object.fromEntries(entries), sent };
  const unpacked = await unpackArchive(parts, context.blobs, context.config);
  checkFiles(
    unpacked.map(([path, { size }]) => ({ path, size })),
    context.config,
  );
  return { tree: Object.fromEntries(unpacked), sent };
}
