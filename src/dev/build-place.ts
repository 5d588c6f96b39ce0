/** What a build outside a node needs, in a data directory of its own: `mayfly build` and `mayfly dev`. */
import { join, resolve } from "node:path";
import type { BlobStore } from "../blobs/blob-store.ts";
import { createToolchains, type Toolchains } from "../build/toolchain.ts";
import { systemClock, type Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { openBlobs, openSandboxes, type Log } from "../platform.ts";
import type { SandboxDriver } from "../sandbox/sandbox.ts";

export interface BuildPlace extends AsyncDisposable {
  readonly blobs: BlobStore;
  readonly sandboxes: SandboxDriver;
  readonly toolchains: Toolchains;
  readonly clock: Clock;
}

/** `config.data` is a scratch directory that is the caller's to remove. */
export async function openBuildPlace(config: Config, log: Log): Promise<BuildPlace> {
  await using opened = new AsyncDisposableStack();
  const directory = resolve(config.data);
  const blobs = openBlobs(directory);
  opened.defer(() => blobs.close());
  const sandboxes = await openSandboxes(config, log);
  opened.defer(() => sandboxes.close());
  const toolchains = createToolchains({ directory: join(directory, "toolchains"), npmRegistry: config.npmRegistry, clock: systemClock });
  const stack = opened.move();
  return { blobs, sandboxes, toolchains, clock: systemClock, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}
