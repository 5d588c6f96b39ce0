/** A gateway for its tests: real sockets, real blobs; deployments in memory, Functions as callbacks. */
import { mkdtempSync, rmSync } from "node:fs";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { ManualClock } from "../../test/manual-clock.ts";
import { openDiskBlobs } from "../blobs/disk.ts";
import { systemClock, type Clock } from "../clock.ts";
import { loadConfig, type Config } from "../config.ts";
import type { MayflyError } from "../errors.ts";
import type { Functions, Invocation, ResponseHead } from "../functions/functions.ts";
import type { Optimiser } from "../images/optimiser.ts";
import type { LogStore } from "../logs/log-store.ts";
import type { LoggedRequest, LogLine, Manifest, Output, Route } from "../model.ts";
import type { Purge, PurgeMode } from "../store/purges.ts";
import { openCertificates } from "./certificates.ts";
import { openCacheStore } from "./cache-store.ts";
import { openGateway, type Gateway } from "./gateway.ts";
import type { HostIndex } from "./host.ts";
import type { PurgeLog, PurgeScope } from "./purge-log.ts";
import { PurgeTellings } from "./purge-tellings.ts";
import { compileRoutes } from "./route.ts";

export interface FakeResponse extends ResponseHead {
  readonly body: Readable;
}

/** A Function that speaks in streams. */
export type FakeFunction = (
  invocation: Omit<Invocation, "body"> & { readonly body: Readable | null; readonly signal: AbortSignal },
) => FakeResponse | Promise<FakeResponse>;

/** @param find the Function of an id */
function fakeFunctions(find: (id: string) => FakeFunction): Pick<Functions, "invoke"> {
  return {
    invoke(invocation, sink) {
      const gone = new AbortController();
      const source = invocation.body;
      const body = source === null ? null : new PassThrough();
      body?.on("error", () => {}).on("drain", () => source!.resume());
      let response: Readable | undefined;
      const run = async (): Promise<void> => {
        const read = (): void =>
          source?.read({
            onData: (chunk) => {
              if (!body!.write(chunk)) source.pause();
            },
            onEnd: () => void body!.end(),
            onError: (error) => void body!.destroy(error),
          });
        if (invocation.upgrade === undefined) read();
        const answered = await find(invocation.spec.id)({ ...invocation, body, signal: gone.signal });
        if (gone.signal.aborted) return void answered.body.destroy();
        response = answered.body;
        sink.head(answered);
        if (answered.status === 101) read();
        response.on("data", (chunk: Buffer) => {
          if (!sink.data(chunk)) response!.pause();
        });
        response.once("end", () => sink.end()).on("error", (error) => sink.fail(error as MayflyError));
      };
      queueMicrotask(() => {
        run().catch((error: unknown) => {
          if (!gone.signal.aborted) sink.fail(error as MayflyError);
        });
      });
      return {
        resume: () => void response?.resume(),
        cancel() {
          gone.abort();
          response?.destroy();
        },
      };
    },
  };
}

export interface SiteParts {
  /** Output path → content. */
  readonly files?: Readonly<Record<string, string | Buffer | { readonly content: string; readonly contentType: string }>>;
  /** Output path → Function. */
  readonly functions?: Readonly<Record<string, FakeFunction>>;
  readonly routes?: readonly Route[];
  /** More of the manifest. */
  readonly manifest?: (made: Manifest) => Partial<Manifest>;
}

export interface TestbedOptions {
  readonly optimiser?: Optimiser;
  /** Takes what is logged; absent: {@link Testbed.logged} and {@link Testbed.requests} have it. */
  readonly logs?: Pick<LogStore, "append" | "appendRequest">;
  /** The gateway's clock moves by `skip` only. */
  readonly stillClock?: boolean;
  /** Of an earlier testbed; kept at the end. */
  readonly directory?: string;
  /** Takes the place of the index in memory. */
  readonly index?: (index: HostIndex) => HostIndex;
}

/** Purges that are not stored. */
export class MemoryPurges implements PurgeLog {
  readonly #tellings = new PurgeTellings();
  readonly #purges: { readonly tag: string | null; readonly mode: PurgeMode; readonly at: number }[] = [];

  async add(purges: readonly Pick<Purge, "tag" | "mode">[], at: number): Promise<void> {
    for (const { tag, mode } of purges) {
      this.#purges.push({ tag, mode, at });
      this.#tellings.add({ projectId: "prj_1", deploymentId: null, tag, mode, createdAt: at });
    }
  }

  refresh(): null {
    return null;
  }

  told(projectId: string, deploymentId: string): string | null {
    return this.#tellings.of(projectId, deploymentId);
  }

  verdict({ tags, madeAt }: PurgeScope): PurgeMode | null {
    return this.#purges.find(({ tag, at }) => (tag === null || tags.includes(tag)) && madeAt <= at)?.mode ?? null;
  }
}

export interface Testbed extends AsyncDisposable {
  readonly port: number;
  /** Certificate of the authority of its HTTPS port, if there is one. */
  readonly authorityPath: string | null;
  readonly gateway: Gateway;
  readonly logged: LogLine[];
  readonly requests: LoggedRequest[];
  /** Path of the control plane's socket; null until set. */
  controlSocket: string | null;
  readonly directory: string;
  readonly purges: MemoryPurges;
  now(): number;
  /** Lets the gateway's clock jump. */
  skip(ms: number): void;
  /** Calls back when the testbed is disposed of. */
  atEnd(callback: () => void): void;
}

export function answer(body: string | Buffer | Readable, options: { status?: number; headers?: readonly string[] } = {}): FakeResponse {
  return {
    status: options.status ?? 200,
    headers: options.headers ?? ["content-type", "text/plain"],
    body: body instanceof Readable ? body : Readable.from([Buffer.from(body)]),
    start: "hot",
    timings: { queue: 0.1 },
  };
}

/** Opens a gateway with real sockets on port 0 and real blobs on disk; deployments are in memory, Functions callbacks. It serves each of `sites` at `<name>.localhost`. */
export async function openTestbed(
  sites: Readonly<Record<string, SiteParts>>,
  settings: Readonly<Record<string, string>> = {},
  hosts?: HostIndex,
  more: TestbedOptions = {},
): Promise<Testbed> {
  const directory = more.directory ?? mkdtempSync(join(tmpdir(), "mayfly-gateway-"));
  const manual = more.stillClock === true ? new ManualClock() : null;
  let aheadMs = 0;
  const clock: Clock = manual ?? {
    now: () => systemClock.now() + aheadMs,
    elapsed: () => systemClock.elapsed() + aheadMs,
    after: (ms, callback) => systemClock.after(ms, callback),
  };
  const purges = new MemoryPurges();
  const blobs = openDiskBlobs({ directory: join(directory, "blobs") });
  const config: Config = { ...loadConfig({ port: settings["MAYFLY_PORT"] ?? "0" }, settings) };
  const functions = new Map<string, FakeFunction>();
  const served = new Map<string, Manifest>();
  for (const [name, site] of Object.entries(sites)) {
    const outputs: Record<string, Output> = {};
    const specs: Record<string, Manifest["functions"][string]> = {};
    for (const [path, file] of Object.entries(site.files ?? {})) {
      const content = typeof file === "object" && "content" in file ? file.content : file;
      const { digest, size } = await blobs.put(content);
      const override = typeof file === "object" && "contentType" in file ? { contentType: file.contentType } : {};
      outputs[path] = { kind: "static", file: { digest, size, mode: 0o100644 }, ...override };
    }
    for (const [path, run] of Object.entries(site.functions ?? {})) {
      const id = `${name}/${path}`;
      functions.set(id, run);
      outputs[path] = { kind: "function", functionId: id };
      specs[id] = functionSpec(id, path);
    }
    const manifest: Manifest = {
      version: 1,
      deploymentId: `dpl_${name}`,
      projectId: "prj_1",
      teamId: "team_1",
      name,
      host: `${name}-123456789.localhost`,
      target: "production",
      createdAt: 0,
      routes: site.routes ?? [],
      caseSensitive: false,
      outputs,
      functions: specs,
      env: {},
    };
    const whole = { ...manifest, ...site.manifest?.(manifest) };
    served.set(`${name}.localhost`, whole);
    served.set(manifest.host, whole);
  }
  const logged: LogLine[] = [];
  const requests: LoggedRequest[] = [];
  const bed = { controlSocket: null as string | null };
  const cache = openCacheStore({ config, purges, directory });
  const compiled = new Map([...served].map(([host, manifest]) => [host, { manifest, routes: compileRoutes(manifest) }]));
  const inMemory: HostIndex = {
    resolve: async (host) => compiled.get(host) ?? null,
    recall: (host) => compiled.get(host) ?? null,
  };
  const index = hosts ?? more.index?.(inMemory) ?? inMemory;
  const certificates =
    config.httpsPort === 0 ? null : await openCertificates({ config, clock, directory: join(directory, "tls"), serves: async () => true });
  const gateway = openGateway({
    config,
    clock,
    certificates,
    functions: fakeFunctions((id) => functions.get(id)!),
    hosts: index,
    blobs,
    logs: more.logs ?? { append: (lines) => void logged.push(...lines), appendRequest: (request) => void requests.push(request) },
    control: { socketPath: () => bed.controlSocket },
    cache,
    purges,
    optimiser: more.optimiser ?? null,
    inspection: null,
  });
  const { port } = await gateway.listen();
  const authorityPath = certificates?.authorityPath ?? null;
  const atEnd: (() => void)[] = [];
  return Object.assign(bed, {
    atEnd: (callback: () => void) => void atEnd.push(callback),
    port,
    authorityPath,
    gateway,
    logged,
    requests,
    directory,
    purges,
    now: () => clock.now(),
    skip: (ms: number) => (manual === null ? void (aheadMs += ms) : manual.advance(ms)),
    async [Symbol.asyncDispose]() {
      await gateway.close(0);
      for (const callback of atEnd) callback();
      await cache.close();
      await blobs.close();
      if (more.directory === undefined) rmSync(directory, { recursive: true, force: true });
    },
  });
}

function functionSpec(id: string, name: string): Manifest["functions"][string] {
  return {
    id,
    name,
    bundleDigest: "",
    bundleSize: 0,
    handler: "index.js",
    runtime: "nodejs24.x",
    helpers: true,
    awsHandler: "",
    memoryMB: 128,
    maxDurationS: 10,
    regions: [],
    environment: {},
  };
}

export interface TestResponse {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly rawHeaders: readonly string[];
  readonly body: string;
}

export interface TestRequest {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer | Readable;
  /** The client's own address. */
  readonly from?: string;
}

/** Asks `host` for a path over a connection of its own; resolves with the head, the body unread. */
export function open(
  bed: Testbed,
  host: string,
  path: string,
  { method = "GET", headers = {}, body, from }: TestRequest = {},
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const client = from === undefined ? {} : { localAddress: from };
    const request = httpRequest({
      host: "127.0.0.1",
      port: bed.port,
      method,
      path,
      agent: false,
      headers: { host, ...headers },
      ...client,
    });
    request.on("response", resolve).on("error", reject);
    if (body instanceof Readable) body.pipe(request);
    else request.end(body);
  });
}

/** As {@link open}, and reads the body. */
export async function ask(bed: Testbed, host: string, path: string, request?: TestRequest): Promise<TestResponse> {
  const response = await open(bed, host, path, request);
  const body = (await buffer(response)).toString();
  return { status: response.statusCode ?? 0, headers: response.headers, rawHeaders: response.rawHeaders, body };
}

/** Writes bytes to the gateway and reads until it closes the connection. */
export function talk(bed: Testbed, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect(bed.port, "127.0.0.1", () => socket.write(bytes));
    socket.setEncoding("latin1").setTimeout(5000, () => socket.destroy(new Error(`The gateway keeps the connection open after: ${text}`)));
    socket.on("data", (chunk: string) => (text += chunk)).on("error", reject);
    socket.on("close", () => resolve(text));
  });
}
