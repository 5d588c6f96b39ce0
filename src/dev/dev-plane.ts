/** What serves a directory from one process: gateway and Functions as in a data plane, without a store, and what builds need. */
import { resolve } from "node:path";
import type { Config } from "../config.ts";
import { nodeGuestPath, openImages, runtimeDirectory } from "../data-plane.ts";
import { openPools } from "../functions/pools.ts";
import { openCacheStore } from "../gateway/cache-store.ts";
import { openGateway } from "../gateway/gateway.ts";
import type { HostIndex } from "../gateway/host.ts";
import { noPurges } from "../gateway/purge-log.ts";
import type { LogStore } from "../logs/log-store.ts";
import type { Log } from "../platform.ts";
import { openBuildPlace, type BuildPlace } from "./build-place.ts";

export interface DevPlane extends BuildPlace {
  readonly port: number;
  readonly directory: string;
}

export interface DevParts {
  readonly hosts: HostIndex;
  /** Takes what Functions write. */
  readonly append: LogStore["append"];
  readonly appendRequest: LogStore["appendRequest"];
  /** Of every Function. */
  readonly environment: () => Readonly<Record<string, string>>;
  readonly log: Log;
}

/** `config.data` is a scratch directory that is the caller's to remove. */
export async function openDevPlane(config: Config, parts: DevParts): Promise<DevPlane> {
  await using opened = new AsyncDisposableStack();
  const place = opened.use(await openBuildPlace(config, parts.log));
  const { blobs, sandboxes, clock } = place;
  const directory = resolve(config.data);
  const logs = { append: parts.append, appendRequest: parts.appendRequest };
  const functions = await openPools({
    config,
    clock,
    sandboxes,
    blobs,
    logs,
    usage: { append: () => {} }, // there is nobody to bill
    dataDirectory: directory,
    runtimeDirectory,
    nodeGuestPath,
    unseal: parts.environment,
  });
  opened.defer(() => functions.close(0));
  const cache = openCacheStore({ config, purges: noPurges, directory });
  opened.defer(() => cache.close());
  const optimiser = openImages(config, sandboxes, parts.log);
  opened.defer(async () => optimiser?.close());
  const gateway = openGateway({
    config,
    clock,
    certificates: null,
    functions,
    hosts: parts.hosts,
    blobs,
    logs,
    cache,
    purges: noPurges,
    optimiser,
    inspection: null,
    control: null,
  });
  const { port } = await gateway.listen();
  opened.defer(() => gateway.close(0));
  const stack = opened.move();
  return { ...place, port, directory, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}
