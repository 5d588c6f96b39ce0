/**
 * The Functions of this node: a pool for each Function of each deployment, one budget of instances, memory and boots for
 * all of them, guests that stand by, and the unpacked bundles. Hides where an instance comes from. Invariants: at most
 * `instancesMax` instances and `bootsMax` boots; a pool that waits for room gets it in its turn, at the cost of the idle
 * instance that is cheapest to lose. Memory is counted as it is really used, since frozen instances need a hundredth of
 * what they may use: those at work are looked at every second, and idle ones go when all together need too much.
 */
import { totalmem } from "node:os";
import { join } from "node:path";
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError, messageOf } from "../errors.ts";
import type { LogStore } from "../logs/log-store.ts";
import type { FunctionSpec, Manifest } from "../model.ts";
import { runtimeDirectory as guestRuntimeDirectory } from "../runtime/protocol.js";
import { cpusOf } from "../sandbox/limits.ts";
import type { SandboxDriver } from "../sandbox/sandbox.ts";
import type { UsageStore } from "../usage/usage-store.ts";
import { openBundles, type Bundles } from "./bundles.ts";
import { Call } from "./call.ts";
import type { Functions, Invocation, ResponseSink, RunningInvocation } from "./functions.ts";
import { Guest } from "./guest.ts";
import { Histories, type FunctionHistory } from "./history.ts";
import { Instance } from "./instance.ts";
import { Meter } from "./meter.ts";
import { nodeMajorOf, openNodes, type Nodes } from "./nodes.ts";
import { Pool } from "./pool.ts";
import { Processors } from "./processors.ts";
import { openRecords, type Records } from "./records.ts";
import { EvictionClock } from "./scaling.ts";
import { Standby, type GuestKind } from "./standby.ts";

export interface PoolsOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly sandboxes: SandboxDriver;
  readonly blobs: BlobStore;
  readonly logs: Pick<LogStore, "append">;
  readonly usage: Pick<UsageStore, "append">;
  /** Bundles are unpacked into `bundles/` below it, other Node versions fetched into `nodes/`, records kept in `records/`. */
  readonly dataDirectory: string;
  /** Host path of `src/runtime`. */
  readonly runtimeDirectory: string;
  /** Guest path of `node`. */
  readonly nodeGuestPath: string;
  /** Plain environment of a deployment's Functions. */
  readonly unseal: (manifest: Manifest) => Readonly<Record<string, string>>;
}

/** What a person who runs the node may look at. */
export interface PoolsStatus {
  readonly instances: number;
  /** Instances that are idle. */
  readonly resting: number;
  readonly standby: number;
  /** Requests. */
  readonly waiting: number;
  /** Pools: Functions with an instance or a request that waits. */
  readonly functions: number;
  /** What instances and guests that stand by use, as far as it was looked at. */
  readonly memoryMB: number;
}

/**
 * A boot takes the time of requests in hand, so what was taken from the guests that stand by is replaced a little after
 * the boots under way and their first answers, or when those take too long.
 */
const refillDelayMs = 20;
const refillDelayMsMax = 1000;
/** Share of a Function's memory that its JavaScript heap may take. */
const heapShare = 0.9;
/** Share of the machine's memory for instances when none is configured: the rest is for the platform and for builds. */
const memoryShare = 0.75;
/** Instances at work are looked at so often. */
const memoryLookMs = 1000;
/** Of a generic guest. */
const guestMB = 32;
/** So many may say goodbye at the same time: they use memory that is given away already. */
const leavingMax = 64;

/** What was known of an instance when it was used last, for the day when one has to go. */
interface Value {
  readonly history: FunctionHistory;
  clock: number;
}

/** Opens the node's Functions; guests that stand by boot in the background. */
export async function openPools(options: PoolsOptions): Promise<Pools> {
  const { config } = options;
  const nodes = await openNodes({
    directory: join(options.dataDirectory, "nodes"),
    npmRegistry: config.npmRegistry,
    fetchMsMax: config.nodeFetchMsMax,
    clock: options.clock,
  });
  const bundles = await openBundles({
    directory: join(options.dataDirectory, "bundles"),
    blobs: options.blobs,
    bytesMax: config.bundleCacheBytesMax,
    pathBytesMax: config.pathBytesMax,
    filesMax: config.filesMax,
    mounts: options.sandboxes.can.fileIsolation,
  });
  const records = await openRecords({
    directory: join(options.dataDirectory, "records"),
    bytesMax: config.recordsBytesMax,
    recordBytesMax: config.recordBytesMax,
  });
  return new Pools(options, { bundles, nodes, records });
}

/** Of the machine, or of the container that the platform runs in. */
function machineMemoryMB(): number {
  const constrained = process.constrainedMemory();
  const total = totalmem();
  return Math.floor((constrained > 0 && constrained < total ? constrained : total) / (1024 * 1024));
}

export class Pools implements Functions {
  readonly #options: PoolsOptions;
  readonly #bundles: Bundles;
  readonly #nodes: Nodes;
  readonly #records: Records;
  readonly #histories: Histories;
  readonly #memoryBudgetMB: number;
  readonly #processors = new Processors();
  readonly #evictions = new EvictionClock();
  readonly #standby: Standby;
  readonly #meter: Meter;
  readonly #pools = new Map<string, Pool>();
  /** Pools that wait for room to boot, in the order in which they get it. */
  readonly #wanting = new Set<Pool>();
  readonly #live = new Map<Instance, Value>();
  /** Retired, but not gone from the machine yet. */
  readonly #leaving = new Set<Instance>();
  #boots = 0;
  #fetching = 0;
  #cancelLook: (() => void) | undefined;
  #cancelRefill: (() => void) | undefined;
  #granting = false;
  #closed: Promise<void> | undefined;
  #onEmpty: () => void = () => {};

  constructor(options: PoolsOptions, { bundles, nodes, records }: { bundles: Bundles; nodes: Nodes; records: Records }) {
    const { config } = options;
    this.#options = options;
    this.#bundles = bundles;
    this.#nodes = nodes;
    this.#records = records;
    this.#histories = new Histories(config.functionsRememberedMax, {
      failuresMax: config.bootFailuresMax,
      pauseMsMax: config.bootPauseMsMax,
    });
    this.#memoryBudgetMB = config.functionsMemoryBudgetMB || Math.floor(machineMemoryMB() * memoryShare);
    this.#meter = new Meter(options);
    this.#standby = new Standby({
      clock: options.clock,
      size: config.poolSize,
      kind: { memoryMB: config.functionMemoryMBDefault, nodeMajor: nodes.own },
      boot: (kind) => this.#bootGuest(kind, true),
    });
    this.#standby.fill();
  }

  get status(): PoolsStatus {
    let waiting = 0;
    let resting = 0;
    for (const pool of this.#pools.values()) {
      waiting += pool.waiting;
      resting += pool.resting;
    }
    return {
      instances: this.#live.size,
      resting,
      standby: this.#standby.size,
      waiting,
      functions: this.#pools.size,
      memoryMB: this.#memoryMB(),
    };
  }

  invoke(invocation: Invocation, sink: ResponseSink): RunningInvocation {
    const call = new Call(invocation, sink, this.#onFail);
    if (this.#closed !== undefined) call.fail(new MayflyError("SHUTTING_DOWN"));
    else if (this.#nodes.has(nodeMajorOf(invocation.spec.runtime))) this.#poolOf(invocation.manifest, invocation.spec).invoke(call);
    else void this.#fetchNode(call);
    return call;
  }

  readonly #onFail = (call: Call, error: MayflyError): void => this.#meter.failed(call, error);

  /** Gets a Node version that is not on this machine yet; before the request is in any queue, so that no boot waits. */
  async #fetchNode(call: Call): Promise<void> {
    const { clock, config } = this.#options;
    const { manifest, spec } = call.invocation;
    if (this.#fetching >= config.queueMax) {
      return call.fail(new MayflyError("FUNCTION_THROTTLED", undefined, { details: { retryAfterS: 1 } }));
    }
    const enough = Promise.withResolvers<never>();
    const cancel = clock.after(config.queueWaitMsMax, () => enough.reject(new Error(`${spec.runtime} is still being fetched`)));
    call.holder = { canceled: () => enough.reject(new MayflyError("canceled")), resumed: () => {} };
    this.#fetching++;
    try {
      await Promise.race([this.#nodes.fetch(nodeMajorOf(spec.runtime)), enough.promise]);
      if (this.#closed !== undefined) call.fail(new MayflyError("SHUTTING_DOWN"));
      else this.#poolOf(manifest, spec).invoke(call);
    } catch (error) {
      if (call.over) return;
      const message = `Cannot run "${spec.name}" on ${spec.runtime}: ${messageOf(error)}`;
      this.#log(call.invocation, message);
      call.fail(new MayflyError("FUNCTION_UNAVAILABLE", message, { cause: error, details: { retryAfterS: 10 } }));
    } finally {
      this.#fetching--;
      cancel();
    }
  }

  close(drainMs: number): Promise<void> {
    this.#closed ??= this.#close(drainMs);
    return this.#closed;
  }

  async #close(drainMs: number): Promise<void> {
    this.#cancelRefill?.();
    const standby = this.#standby.close();
    const records = this.#records.close();
    this.#wanting.clear();
    for (const pool of this.#pools.values()) pool.beginClose();
    if (drainMs > 0) {
      const late = Promise.withResolvers<void>();
      const cancel = this.#options.clock.after(drainMs, late.resolve);
      await Promise.race([this.#drained(), late.promise]);
      cancel();
    }
    for (const pool of this.#pools.values()) pool.endClose();
    const gone = [...this.#leaving].map((instance) => {
      instance.kill();
      return instance.gone;
    });
    await Promise.all([standby, ...gone]);
    this.#cancelLook?.();
    await this.#nodes.close();
    await this.#bundles.close();
    await records;
  }

  /** Resolves when every instance is gone, those that say goodbye included. */
  async #drained(): Promise<void> {
    if (this.#live.size > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onEmpty = resolve;
      await promise;
    }
    await Promise.all([...this.#leaving].map((instance) => instance.gone));
  }

  // ── pools and their budget ──────────────────────────────────────────────────────────────────────────────────────────

  #poolOf(manifest: Manifest, spec: FunctionSpec): Pool {
    // The environment is the deployment's, so equal Functions of two deployments share nothing.
    const key = `${manifest.deploymentId} ${spec.id}`;
    const history = this.#histories.of(key);
    let pool = this.#pools.get(key);
    if (pool === undefined) {
      const { config, clock, sandboxes } = this.#options;
      pool = new Pool({
        clock,
        queueMax: config.queueMax,
        queueWaitMsMax: config.queueWaitMsMax,
        instancesMax: config.instancesPerFunctionMax,
        keepAlive: { fixedMs: config.instanceIdleMs, msMin: config.keepAliveMsMin, msMax: config.keepAliveMsMax },
        freezeDelayMs: config.freezeDelayMs,
        busyWaitMsMax: config.busyWaitMsMax,
        cpuShare: sandboxes.can.cpuLimit ? cpusOf(spec.memoryMB) : 1,
        history,
        processors: this.#processors,
        boot: (invocation) => this.#boot(invocation, history),
        wantBoot: (wanting) => {
          this.#wanting.add(wanting);
          this.#grant();
        },
        mustYield: () =>
          this.#wanting.size > 0 && this.#isFull() && [...this.#wanting].some((other) => other.size === 0 && other.needsBoot),
        onChange: (changed) => {
          if (changed.needsBoot) this.#wanting.add(changed);
          else if (changed.empty) this.#pools.delete(key);
          if (this.#wanting.size > 0) this.#grant();
          if (this.#live.size === 0) this.#onEmpty();
        },
        log: (text, invocation) => this.#log(invocation, text),
      });
      this.#pools.set(key, pool);
    }
    return pool;
  }

  /** Lets pools boot, in turn, while there is room. */
  #grant(): void {
    // To evict is a change, and a change leads here.
    if (this.#granting) return;
    this.#granting = true;
    try {
      this.#grantInTurn();
    } finally {
      this.#granting = false;
    }
  }

  #grantInTurn(): void {
    for (const pool of this.#wanting) {
      if (!pool.needsBoot) {
        this.#wanting.delete(pool);
        continue;
      }
      if (this.#boots >= this.#options.config.bootsMax) return;
      if (!this.#makeRoom(pool.history.footprintMB)) return;
      // To the end of the line, when it needs more than one.
      this.#wanting.delete(pool);
      this.#wanting.add(pool);
      pool.startBoot();
    }
  }

  /** Gives up idle instances until one more fits. @returns whether it does */
  #makeRoom(memoryMB: number): boolean {
    while (this.#isFull(memoryMB)) {
      // What is at work ends some time. Nothing at all must not be too much.
      if (!this.#evict()) return this.#live.size === 0;
    }
    return true;
  }

  #isFull(moreMB = 0): boolean {
    return this.#live.size >= this.#options.config.instancesMax || this.#memoryMB() + moreMB > this.#memoryBudgetMB;
  }

  /** What was seen, and of those that were not looked at yet what others of their Function had. */
  #memoryMB(): number {
    let sum = this.#standby.size * guestMB;
    for (const [instance, { history }] of this.#live) sum += instance.memoryMB ?? history.footprintMB;
    return sum;
  }

  /** Retires the idle instance that is cheapest to lose. @returns whether there was one */
  #evict(): boolean {
    const idle = [...this.#live.keys()].filter((instance) => instance.state === "idle").sort((a, b) => a.idleSinceMs - b.idleSinceMs);
    const cheapest = this.#evictions.evict(idle, (instance) => {
      const { history, clock } = this.#live.get(instance)!;
      return { clock, uses: instance.answered, bootMs: history.bootMs, memoryMB: instance.memoryMB ?? history.footprintMB };
    });
    cheapest?.retire();
    return cheapest !== undefined;
  }

  /** Looks, again and again, at what uses memory now, and gives up what is idle when that is too much. */
  #lookLater(): void {
    this.#cancelLook ??= this.#options.clock.after(memoryLookMs, () => {
      this.#cancelLook = undefined;
      void this.#look();
    });
  }

  async #look(): Promise<void> {
    const working = [...this.#live.keys()].filter((instance) => instance.state !== "idle");
    await Promise.all(working.map((instance) => instance.measure()));
    while (this.#memoryMB() > this.#memoryBudgetMB && this.#evict());
    this.#grant();
    // What is idle does not grow.
    if (working.length > 0 && this.#closed === undefined) this.#lookLater();
  }

  // ── boots ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  #boot({ id, manifest, spec }: Invocation, history: FunctionHistory): { instance: Instance; booted: Promise<void> } {
    const { config, clock, logs, sandboxes } = this.#options;
    const value: Value = { history, clock: this.#evictions.now };
    const instance: Instance = new Instance(
      {
        clock,
        logs,
        spec,
        manifest,
        env: () => this.#environment(manifest, spec),
        loadMsMax: config.functionLoadMsMax,
        cpuLimit: sandboxes.can.cpuLimit,
        graceMs: () => (this.#leaving.size > leavingMax ? 0 : config.retireMs),
        meter: this.#meter.ofInstance(manifest, spec, history),
        record: this.#records.of(manifest, spec, history),
        onBusy: () => {
          value.clock = this.#evictions.now;
          this.#lookLater();
        },
        onMeasured: (memoryMB) => history.tookMemoryMB(memoryMB),
        onEnd: () => {
          this.#live.delete(instance);
          this.#leaving.add(instance);
        },
      },
      id,
    );
    this.#boots++;
    this.#live.set(instance, value);
    this.#lookLater();
    void instance.gone.then(() => this.#leaving.delete(instance));
    const kind: GuestKind = { memoryMB: spec.memoryMB, nodeMajor: nodeMajorOf(spec.runtime) };
    const standing = this.#standby.take(kind);
    const guest = standing === undefined ? this.#bootGuest(kind, false) : Promise.resolve(standing);
    const booted = instance.boot(guest, this.#bundles.lease(spec.bundleDigest)).finally(() => {
      this.#boots--;
      this.#refillLater();
    });
    return { instance, booted };
  }

  /** One timer for many boots. */
  #refillLater(leftMs = refillDelayMsMax): void {
    this.#cancelRefill ??= this.#options.clock.after(refillDelayMs, () => {
      this.#cancelRefill = undefined;
      if (leftMs > 0 && this.#isStarting()) this.#refillLater(leftMs - refillDelayMs);
      else this.#standby.fill();
    });
  }

  /** Somebody waits for the first answer of an instance. */
  #isStarting(): boolean {
    for (const { state, answered } of this.#live.keys()) if (state === "booting" || (state === "busy" && answered === 0)) return true;
    return false;
  }

  /** @param standby whether it warms itself up and is awaited until it is ready */
  async #bootGuest({ memoryMB, nodeMajor }: GuestKind, standby: boolean): Promise<Guest> {
    const { config, clock, sandboxes, runtimeDirectory, nodeGuestPath } = this.#options;
    const binary = this.#nodes.binary(nodeMajor);
    const sandbox = await sandboxes.create({
      purpose: "function",
      argv: [
        nodeGuestPath,
        `--max-old-space-size=${Math.floor(memoryMB * heapShare)}`,
        `${guestRuntimeDirectory}/node.js`,
        ...(standby ? ["--warm-up"] : []),
      ],
      env: {
        PATH: "/var/lang/bin:/usr/local/bin:/usr/bin:/bin",
        HOME: "/tmp",
        LANG: "en_US.UTF-8",
        TMPDIR: "/tmp",
        TZ: ":UTC",
        NODE_ENV: "production",
      },
      cwd: "/tmp",
      mounts: [
        { source: runtimeDirectory, target: guestRuntimeDirectory, writable: false },
        ...(binary === null ? [] : [{ source: binary, target: nodeGuestPath, writable: false }]),
      ],
      limits: { memoryMB, cpuByMemory: false },
      tmpBytes: config.tmpBytesMax,
      processesMax: config.processesMax,
      openFilesMax: config.openFilesMax,
      network: "internet",
    });
    const guest = new Guest(sandbox, {
      clock,
      lineBytesMax: config.logLineBytesMax,
      headBytesMax: config.headersBytesMax,
      linesPerSecond: config.logRateLinesMax,
    });
    if (!standby) return guest;
    const late = Promise.withResolvers<never>();
    const cancel = clock.after(config.functionLoadMsMax, () => late.reject(new Error(`not ready within ${config.functionLoadMsMax} ms`)));
    try {
      await Promise.race([guest.ready, late.promise]);
      return guest;
    } catch (error) {
      await sandbox.destroy();
      throw error;
    } finally {
      cancel();
      late.promise.catch(() => {});
    }
  }

  #log({ id, manifest, spec }: Invocation, text: string): void {
    const { clock, logs } = this.#options;
    logs.append([
      {
        deploymentId: manifest.deploymentId,
        source: "function",
        functionName: spec.name,
        invocationId: id,
        stream: "system",
        timestampMs: clock.now(),
        text,
      },
    ]);
  }

  #environment(manifest: Manifest, spec: FunctionSpec): Record<string, string> {
    const { config } = this.#options;
    return {
      NODE_ENV: "production",
      TZ: ":UTC",
      ...spec.environment,
      ...this.#options.unseal(manifest),
      ...manifest.systemEnv,
      VERCEL: "1",
      VERCEL_ENV: manifest.target,
      VERCEL_URL: manifest.host,
      VERCEL_REGION: config.region,
      NOW_REGION: config.region,
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(spec.memoryMB),
    };
  }
}
