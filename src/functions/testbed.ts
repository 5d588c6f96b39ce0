/** For tests: the Functions of a node on real sandboxes, blobs and logs, with a clock that the test moves. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { ManualClock } from "../../test/manual-clock.ts";
import { scratchDirectory } from "../../test/scratch.ts";
import { openDiskBlobs } from "../blobs/disk.ts";
import type { BlobStore } from "../blobs/blob-store.ts";
import { systemClock } from "../clock.ts";
import { loadConfig, type Config } from "../config.ts";
import type { LogStore } from "../logs/log-store.ts";
import { openSqliteLogs } from "../logs/sqlite.ts";
import type { FileRef, FunctionSpec, Manifest, StoredLogLine } from "../model.ts";
import { newDeploymentId, newRequestId } from "../names.ts";
import { openOciSandboxes, whyNoOci } from "../sandbox/oci.ts";
import { openProcessSandboxes } from "../sandbox/process.ts";
import type { SandboxDriver } from "../sandbox/sandbox.ts";
import { openSqliteUsage } from "../usage/sqlite.ts";
import type { UsageRow, UsageStore } from "../usage/usage-store.ts";
import type { BodySource, InvocationStart, ResponseHead } from "./functions.ts";
import { openPools, type Pools } from "./pools.ts";

/** Milliseconds that anything in a test may take. */
const patienceMs = 15_000;

/** The drivers that work here, opened on first use and closed with the test file. */
export async function openTestDrivers(): Promise<readonly SandboxDriver[]> {
  const options = { dataDirectory: scratchDirectory(), nodeBinary: process.execPath, networkAllow: [] };
  const drivers = [await openProcessSandboxes(options)];
  if ((await whyNoOci(options)) === null) drivers.push(await openOciSandboxes(options));
  after(() => Promise.all(drivers.map((driver) => driver.close())));
  return drivers;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  readonly start: InvocationStart;
  readonly timings: Readonly<Record<string, number>>;
}

export interface BegunResponse extends ResponseHead {
  readonly body: Readable;
}

export interface CallOptions {
  readonly id?: string;
  readonly method?: string;
  readonly url?: string;
  readonly headers?: readonly string[];
  readonly body?: Readable | string;
  readonly signal?: AbortSignal;
  readonly upgrade?: string;
}

export interface StageOptions {
  /** `real`: the pools' clock is not the one that the test moves. */
  readonly time?: "manual" | "real";
  readonly dataDirectory?: string;
}

/** One Function of a deployment. */
export interface TestFunction {
  readonly manifest: Manifest;
  readonly spec: FunctionSpec;
}

export class Stage {
  readonly clock: ManualClock;
  readonly blobs: BlobStore;
  readonly logs: LogStore;
  readonly usage: UsageStore;
  readonly pools: Pools;

  private constructor(clock: ManualClock, blobs: BlobStore, logs: LogStore, usage: UsageStore, pools: Pools) {
    this.clock = clock;
    this.blobs = blobs;
    this.logs = logs;
    this.usage = usage;
    this.pools = pools;
  }

  /** @param settings over the defaults; by default nothing stands by and what is idle is frozen at once */
  static async open(sandboxes: SandboxDriver, settings: Partial<Config> = {}, options: StageOptions = {}): Promise<Stage> {
    const { time = "manual", dataDirectory = scratchDirectory() } = options;
    const blobs = openDiskBlobs({ directory: join(dataDirectory, "blobs") });
    const logs = await openSqliteLogs({
      path: join(dataDirectory, "logs.db"),
      clock: systemClock,
      linesMax: 1000,
      requestsMax: 1000,
      bufferLinesMax: 10_000,
    });
    const usage = await openSqliteUsage({
      path: join(dataDirectory, "usage.db"),
      clock: systemClock,
      daysMax: 3650,
      bufferRowsMax: 10_000,
    });
    const clock = new ManualClock();
    const pools = await openPools({
      config: { ...loadConfig({}, {}), poolSize: 0, freezeDelayMs: 0, ...settings },
      clock: time === "real" ? systemClock : clock,
      sandboxes,
      blobs,
      logs,
      usage,
      dataDirectory,
      runtimeDirectory: fileURLToPath(new URL("../runtime", import.meta.url)),
      nodeGuestPath: "/var/lang/bin/node",
      unseal: (manifest) => ({ ...manifest.env }) as Record<string, string>,
    });
    return new Stage(clock, blobs, logs, usage, pools);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pools.close(0);
    await this.logs.close();
    await this.usage.close();
    await this.blobs.close();
  }

  /** @param files path → content; the handler is the first of them */
  async deploy(
    files: Readonly<Record<string, string | Buffer>>,
    settings: Partial<FunctionSpec> & { env?: Record<string, string> } = {},
  ): Promise<TestFunction> {
    const tree: Record<string, FileRef> = {};
    for (const [path, text] of Object.entries(files)) {
      const { digest, size } = await this.blobs.put(text);
      tree[path] = { digest, size, mode: 0o100644 };
    }
    const { digest } = await this.blobs.put(JSON.stringify(tree));
    const { env = {}, ...rest } = settings;
    const spec: FunctionSpec = {
      id: createHash("sha256")
        .update(digest + JSON.stringify(rest))
        .digest("hex"),
      name: "api/test",
      bundleDigest: digest,
      bundleSize: 1,
      handler: Object.keys(files)[0]!,
      runtime: "nodejs24.x",
      helpers: true,
      awsHandler: "",
      memoryMB: 1769,
      maxDurationS: 10,
      regions: [],
      environment: {},
      ...rest,
    };
    const id = newDeploymentId();
    const manifest: Manifest = {
      version: 1,
      deploymentId: id,
      projectId: "prj_test",
      teamId: "team_test",
      name: "test",
      host: "test-abc.localhost",
      target: "production",
      createdAt: 0,
      routes: [],
      caseSensitive: false,
      outputs: {},
      functions: { [spec.id]: spec },
      env,
    };
    return { manifest, spec };
  }

  /** The head of the response; the body is the caller's to read. */
  begin({ manifest, spec }: TestFunction, options: CallOptions = {}): Promise<BegunResponse> {
    const { body, signal } = options;
    const length = typeof body === "string" ? ["content-length", String(Buffer.byteLength(body))] : [];
    const { promise, resolve, reject } = Promise.withResolvers<BegunResponse>();
    let reading: Readable | undefined;
    const running = this.pools.invoke(
      {
        id: options.id ?? newRequestId(),
        manifest,
        spec,
        method: options.method ?? (body === undefined ? "GET" : "POST"),
        url: options.url ?? "/",
        headers: ["host", "test.localhost", ...length, ...(options.headers ?? [])],
        ...(options.upgrade === undefined ? {} : { upgrade: options.upgrade }),
        body: body === undefined ? null : sourceOf(typeof body === "string" ? Readable.from([Buffer.from(body)]) : body),
      },
      {
        head(head) {
          reading = new Readable({
            read: () => running.resume(),
            destroy(error, callback) {
              running.cancel();
              callback(error);
            },
          });
          resolve({ ...head, body: reading });
        },
        data: (chunk) => reading!.push(chunk),
        end: () => void reading!.push(null),
        fail(error) {
          reject(error);
          reading?.destroy(error);
        },
      },
    );
    const onAbort = (): void => {
      running.cancel();
      reject(signal!.reason);
      reading?.destroy(signal!.reason as Error);
    };
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener("abort", onAbort, { once: true });
    return promise;
  }

  async call(target: TestFunction, options: CallOptions = {}): Promise<Answer> {
    const { status, headers, body, start, timings } = await this.begin(target, options);
    const named: Record<string, string> = {};
    for (let index = 0; index < headers.length; index += 2) named[headers[index]!] = headers[index + 1]!;
    return { status, headers: named, text: await textOf(body), start, timings };
  }

  /** What a deployment's Functions have used, as far as it was handed on: `clock.advance(1000)` asks for the rest. */
  async used({ manifest }: TestFunction): Promise<readonly UsageRow[]> {
    const all = { sinceMs: 0, untilMs: Number.MAX_SAFE_INTEGER, bucketMs: 60_000 };
    return await this.usage.query({ ...all, deploymentId: manifest.deploymentId });
  }

  /** Waits until the log has what `complete` asks for. */
  async log({ manifest }: TestFunction, complete: (lines: readonly StoredLogLine[]) => boolean): Promise<readonly StoredLogLine[]> {
    let lines: readonly StoredLogLine[] = [];
    await until(
      async () => {
        await this.logs.flush();
        lines = (await this.logs.query({ deploymentId: manifest.deploymentId })).lines;
        return complete(lines);
      },
      () => `the log is ${JSON.stringify(lines.map((line) => [line.invocationId, line.stream, line.text]))}`,
    );
    return lines;
  }
}

/** A stream as a request's body. */
export function sourceOf(stream: Readable): BodySource {
  return {
    read(reader) {
      stream.on("data", (chunk: Buffer | string) => reader.onData(Buffer.from(chunk)));
      stream.once("end", () => reader.onEnd());
      stream.on("error", (error) => reader.onError(error));
      stream.once("close", () => {
        if (!stream.readableEnded) reader.onError(new Error("It was destroyed."));
      });
      if (stream.destroyed) reader.onError(new Error("It was destroyed."));
    },
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
  };
}

export async function textOf(body: Readable): Promise<string> {
  return Buffer.concat((await body.toArray()) as Buffer[]).toString();
}

/** Looks again and again until `condition` holds; bounded. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  otherwise: () => string = () => "it did not come about",
): Promise<void> {
  const deadline = Date.now() + patienceMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`After ${patienceMs} ms ${otherwise()}`);
    await sleep(5);
  }
}
