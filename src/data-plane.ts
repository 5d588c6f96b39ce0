/**
 * The data plane: gateway and Functions, put together for a node or for a directory under development. It answers requests,
 * whether a control plane lives beside it or not, and loads nothing of one.
 */
import { join } from "node:path";
import type { NodeFigures } from "./api/endpoint.ts";
import { systemClock } from "./clock.ts";
import type { Config } from "./config.ts";
import { openPools } from "./functions/pools.ts";
import { openCertificates } from "./gateway/certificates.ts";
import type { ControlPlane as GatewayControl } from "./gateway/control.ts";
import type { FrontPorts } from "./gateway/front.ts";
import { openCacheStore } from "./gateway/cache-store.ts";
import { GatewayFigures } from "./gateway/figures.ts";
import { openGateway } from "./gateway/gateway.ts";
import { openHostIndex } from "./gateway/host.ts";
import { openPurgeLog } from "./gateway/purge-log.ts";
import { StoreRevision } from "./gateway/revision.ts";
import { descriptorOf, type Listeners } from "./handover.ts";
import { openOptimiser, type Optimiser } from "./images/optimiser.ts";
import { collectAll } from "./memory.ts";
import type { Manifest } from "./model.ts";
import { openData, openSandboxes, type Log } from "./platform.ts";
import type { SandboxDriver } from "./sandbox/sandbox.ts";
import { envPlace } from "./store/seal.ts";

/** What runs inside sandboxes, and where its Node lies there. */
export const runtimeDirectory = join(import.meta.dirname, "runtime");
export const nodeGuestPath = "/var/lang/bin/node";

/** null, said to whoever starts it: pictures are given as they are. */
export function openImages(config: Config, sandboxes: SandboxDriver, log: Log): Optimiser | null {
  const optimiser = openOptimiser({ config, clock: systemClock, sandboxes });
  if (!("missing" in optimiser)) return optimiser;
  log(`Pictures are not made smaller: there is no sharp for ${process.platform}-${process.arch}. (${optimiser.missing})`);
  return null;
}

/** So long after its start the pool is full and nothing of it is needed any more. */
const settledMs = 2000;

export interface DataPlane extends FrontPorts {
  /** Certificate of the local authority that people may trust; null: there is none. */
  readonly authorityPath: string | null;
  /** What it has done, and what lives now. */
  readonly figures: () => NodeFigures;
  /** Takes no more connections; resolves when those that there are have ended, or their time has. */
  readonly drain: () => Promise<void>;
  /** For the node that takes this one's place. */
  readonly listeners: () => Listeners;
  readonly sandbox: SandboxDriver;
  close(): Promise<void>;
}

/** Gateway and Functions. The control plane may come and go. @param inherited sockets that listen already */
export async function openDataPlane(
  config: Config,
  control: GatewayControl,
  log: Log,
  inherited: Listeners | undefined,
): Promise<DataPlane> {
  await using opened = new AsyncDisposableStack();
  const data = await openData(config);
  opened.defer(data.close);
  const { clock, store, blobs, logs, usage, seal } = data;
  const sandbox = await openSandboxes(config, log);
  opened.defer(() => sandbox.close());
  const unseal = (manifest: Manifest) =>
    Object.fromEntries(
      Object.entries(manifest.env).map(([name, value]) => [name, seal.open(value, envPlace(manifest.deploymentId, name))]),
    );
  const functions = await openPools({
    config,
    clock,
    sandboxes: sandbox,
    blobs,
    logs,
    usage,
    dataDirectory: data.directory,
    runtimeDirectory,
    nodeGuestPath,
    unseal,
  });
  opened.defer(() => functions.close(0));
  const revision = new StoreRevision(store);
  const hosts = openHostIndex({ store, revision, blobs, config, environment: unseal });
  const serves = async (host: string): Promise<boolean> => (await hosts.resolve(host)) !== null;
  const certificates =
    config.httpsPort === 0 ? null : await openCertificates({ config, clock, directory: join(data.directory, "tls"), serves });
  const purges = openPurgeLog(store, revision);
  const cache = openCacheStore({ config, purges, directory: data.directory });
  opened.defer(() => cache.close());
  const optimiser = openImages(config, sandbox, log);
  opened.defer(async () => optimiser?.close());
  const figures = new GatewayFigures();
  const gateway = openGateway({
    config,
    clock,
    certificates,
    figures,
    functions,
    hosts,
    blobs,
    logs,
    cache,
    purges,
    optimiser,
    inspection: { store, seal, logs, blobs, hosts, config, clock },
    control,
  });
  const ports = await gateway.listen(inherited);
  const drain = (): Promise<void> => gateway.close(config.drainMs);
  opened.defer(drain);
  const cancelCollection = clock.after(settledMs, collectAll);
  opened.defer(cancelCollection);
  const close = opened.move();
  const listeners = (): Listeners => {
    const { http, https } = gateway.servers;
    return { http: descriptorOf(http), https: https === null ? null : descriptorOf(https) };
  };
  const figuresNow = (): NodeFigures => {
    const { instances, resting, standby, functions: known, waiting, memoryMB } = functions.status;
    return { ...figures, instances: { live: instances, resting, standby }, functions: known, waiting, memoryMB };
  };
  return {
    ...ports,
    figures: figuresNow,
    drain,
    listeners,
    authorityPath: certificates?.authorityPath ?? null,
    sandbox,
    close: () => close.disposeAsync(),
  };
}
