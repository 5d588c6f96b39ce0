/** A data directory in this process with deployments put straight into the store, for what works on stored ones. */
import { join } from "node:path";
import { atEnd } from "../../test/at-end.ts";
import { scratchDirectory } from "../../test/scratch.ts";
import { openDiskBlobs } from "../blobs/disk.ts";
import type { BlobStore } from "../blobs/blob-store.ts";
import { loadConfig, type Config } from "../config.ts";
import { noSettings, type Deployment, type Manifest, type Target } from "../model.ts";
import { newDeploymentId } from "../names.ts";
import { beginBuilding, findDeploymentById, finishReady, insertDeployment } from "../store/deployments.ts";
import { ensureProject } from "../store/projects.ts";
import { envPlace, openSeal, type Seal } from "../store/seal.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import type { Store } from "../store/store.ts";
import { ensureFirstIdentity } from "../store/teams.ts";
import { hostsOf } from "./alias.ts";

export interface Data {
  readonly directory: string;
  readonly config: Config;
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly seal: Seal;
  readonly teamId: string;
  readonly userId: string;
  /** Another store on the same database, as another control plane has. */
  another(): Promise<Store>;
  /** Writes a deployment down; `ready` unless told otherwise. */
  deployment(project: string, options?: DeploymentOptions): Promise<Deployment>;
}

export interface DeploymentOptions {
  readonly createdAt?: number;
  readonly readyAt?: number;
  readonly target?: Target;
  readonly ready?: boolean;
  readonly manifest?: Partial<Manifest>;
  readonly env?: Readonly<Record<string, string>>;
  readonly more?: Partial<Deployment>;
}

export async function openData(env: Readonly<Record<string, string>> = {}): Promise<Data> {
  const directory = scratchDirectory();
  const config = loadConfig({ data: directory }, env);
  const path = join(directory, "mayfly.db");
  const another = async () => {
    const store = await openSqliteStore({ path });
    atEnd(() => store.close());
    return store;
  };
  const store = await another();
  const blobs = openDiskBlobs({ directory: join(directory, "blobs") });
  const seal = openSeal(join(directory, "secret.key"));
  const { team, user } = await ensureFirstIdentity(store, "ann");
  return {
    directory,
    config,
    store,
    blobs,
    seal,
    another,
    teamId: team.id,
    userId: user.id,
    async deployment(name, options = {}) {
      const { createdAt = 1000, target = "production", readyAt = createdAt } = options;
      const { project } = await ensureProject(store, team.id, name, noSettings, 1);
      const id = newDeploymentId();
      const host = `${name}-${id.slice(4, 13)}.localhost`;
      const sealed = Object.entries(options.env ?? {}).map(([key, value]) => [key, seal.close(value, envPlace(id, key))]);
      const deployment: Deployment = {
        id,
        teamId: team.id,
        projectId: project.id,
        name,
        host,
        target,
        state: "QUEUED",
        creatorId: user.id,
        meta: {},
        createdAt,
        buildingAt: null,
        readyAt: null,
        errorCode: null,
        errorMessage: null,
        sourceDigest: (await blobs.put("{}")).digest,
        manifestDigest: null,
        git: null,
        promotedAt: null,
        request: { settings: noSettings, prebuilt: false, force: false, env: Object.fromEntries(sealed), buildEnv: {} },
        summary: null,
        attempts: 0,
        ...options.more,
      };
      await insertDeployment(store, deployment);
      if (options.ready === false) return deployment;
      await beginBuilding(store, id, createdAt);
      const manifest: Manifest = {
        version: 1,
        deploymentId: id,
        projectId: project.id,
        teamId: team.id,
        name,
        host,
        target,
        createdAt,
        routes: [],
        caseSensitive: false,
        outputs: {},
        functions: {},
        env: deployment.request.env,
        ...options.manifest,
      };
      const { digest } = await blobs.put(JSON.stringify(manifest));
      const done = { manifestDigest: digest, summary: { functions: 0, built: 0, cached: 0, ms: 1 } };
      await finishReady(store, id, { ...done, ...hostsOf(deployment, name, config.domain) }, readyAt);
      return (await findDeploymentById(store, id))!;
    },
  };
}
