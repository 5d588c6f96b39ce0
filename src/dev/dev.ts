/**
 * `mayfly dev`: one directory served as a deployment would be, from this process alone: the same gateway, routes,
 * Functions and sandboxes, no control plane. A change is looked at, planned and built, and the next request sees it.
 *
 *   change ─▶ look (live-tree) ─▶ plan ─▶ quick build │ sandboxed build │ the framework's own server ─▶ manifest
 *
 * Invariants: a request never sees a state older than the change before it; what is wrong with the project is a page and
 * a line in the terminal until it is mended; everything but the project's own files is in a scratch directory.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseEnv } from "node:util";
import type { BlobBatch } from "../blobs/blob-store.ts";
import { runBuild } from "../build/build.ts";
import { configurationNames, documents, parseDocument } from "../build/configuration.ts";
import { planSource } from "../build/configuration-program.ts";
import type { Plan } from "../build/plan.ts";
import type { SourceRequest } from "../build/source-command.ts";
import { MayflyError, messageOf } from "../errors.ts";
import { renderErrorPage } from "../gateway/error-page.ts";
import type { HostIndex, ServedDeployment } from "../gateway/host.ts";
import { compileRoutes } from "../gateway/route.ts";
import { noSettings, type LogLine, type Manifest, type SourceTree } from "../model.ts";
import { randomId } from "../names.ts";
import { openDevPlane, type DevPlane } from "./dev-plane.ts";
import type { Config } from "../config.ts";
import { DevServer } from "./dev-server.ts";
import { openDevFront, type DevFront } from "./front.ts";
import { LiveTree } from "./live-tree.ts";
import { QuickBuild } from "./quick-build.ts";

export interface DevOptions {
  readonly directory: string;
  /** Its data directory is a scratch directory that the caller removes. */
  readonly config: Config;
  /** Of the person: what a development server's process gets. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly onEvent: (event: DevEvent) => void;
}

/** For who shows it. */
export type DevEvent =
  | { readonly type: "built"; readonly changed: readonly string[]; readonly functions: number; readonly built: number; readonly ms: number }
  | { readonly type: "failed"; readonly code: string; readonly message: string }
  | { readonly type: "server"; readonly command: string }
  | { readonly type: "note"; readonly text: string }
  /** A Function has answered. */
  | { readonly type: "request"; readonly method: string; readonly path: string; readonly status: number; readonly ms: number }
  | { readonly type: "line"; readonly from: string; readonly stream: LogLine["stream"]; readonly text: string };

export interface DevSession extends AsyncDisposable {
  readonly port: number;
  readonly sandbox: string;
}

/** Read when anything changes, later ones win: https://vercel.com/docs/environment-variables */
const envFiles = [".env", ".env.development", ".env.local", ".env.development.local"];

/** @throws MayflyError port_in_use, sandbox_unavailable, not_a_directory */
export async function openDev(options: DevOptions): Promise<DevSession> {
  await using opened = new AsyncDisposableStack();
  const { config } = options;
  const project = new DevProject(options);
  opened.use(project);
  const isFramework = (await project.command()) !== null;
  // With a server of the project's own the gateway is behind the front, on a port of its own.
  const gatewayConfig = isFramework ? { ...config, port: 0, host: "127.0.0.1" } : config;
  const plane = await openDevPlane(gatewayConfig, {
    hosts: project,
    append: (lines) => {
      for (const { functionName, stream, text } of lines) options.onEvent({ type: "line", from: functionName, stream, text });
    },
    appendRequest: ({ method, path, status, durationMs }) => options.onEvent({ type: "request", method, path, status, ms: durationMs }),
    environment: () => project.environment,
    log: (text) => options.onEvent({ type: "note", text }),
  });
  opened.use(plane);
  await project.begin(plane);
  const front = isFramework ? opened.use(await project.openFront(plane.port)) : undefined;
  const stack = opened.move();
  return { port: front?.port ?? plane.port, sandbox: plane.sandboxes.name, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

class DevProject implements HostIndex, AsyncDisposable {
  readonly #options: DevOptions;
  /** One for the session, so that a Function that did not change keeps its instances; a new one when the environment changed. */
  #deploymentId = newId();
  #environment: Readonly<Record<string, string>> = {};
  #plane: DevPlane | undefined;
  #live: LiveTree | undefined;
  #quick: QuickBuild | undefined;
  #server: DevServer | undefined;
  #command: string | null | undefined;
  /** The state that requests see, once it has settled. */
  #current: Promise<ServedDeployment> = Promise.reject(new MayflyError("DEPLOYMENT_NOT_READY"));
  #building: Promise<void> = Promise.resolve();
  /** Changed since the last build that came to its end. */
  #pending = new Set<string>();
  #stale = false;
  readonly #closing = new AbortController();

  constructor(options: DevOptions) {
    this.#options = options;
    this.#current.catch(() => undefined);
  }

  get environment(): Readonly<Record<string, string>> {
    return this.#environment;
  }

  /** The development server's command; null: there is none, files and Functions are all. */
  async command(): Promise<string | null> {
    if (this.#command === undefined) this.#command = await findDevCommand(this.#options.directory);
    return this.#command;
  }

  /** Looks for the first time, and from then on at every change. */
  async begin(plane: DevPlane): Promise<void> {
    const { directory, config, env, onEvent } = this.#options;
    this.#plane = plane;
    this.#live = await LiveTree.open(directory, plane.blobs, config.filesMax);
    this.#quick = new QuickBuild({ repository: this.#live.root, scratch: join(plane.directory, "quick"), blobs: plane.blobs, config });
    const command = await this.command();
    if (command !== null) {
      onEvent({ type: "server", command });
      this.#server = new DevServer({
        command,
        cwd: this.#live.root,
        env,
        print: (text) => onEvent({ type: "line", from: "", stream: "stdout", text }),
      });
    }
    this.#live.watch(() => this.#changed());
    this.#changed();
    await this.#building;
  }

  /** SEAM of the gateway: every host is this project. */
  /** Nothing is settled: files change. */
  recall(): null {
    return null;
  }

  async resolve(): Promise<ServedDeployment> {
    await this.#building;
    return this.#current;
  }

  openFront(gatewayPort: number): Promise<DevFront> {
    const { host, port } = this.#options.config;
    return openDevFront({
      port,
      host,
      choose: async (request) => {
        const { routes } = await this.resolve();
        const [path = "/", query = ""] = (request.url ?? "/").split(/\?(.*)/s);
        const headers = request.headers;
        const resolution = routes.resolve({
          method: request.method ?? "GET",
          host: headers.host ?? "",
          path,
          query,
          header: (name) => headers[name]?.toString(),
        });
        const isFunction = resolution.kind === "output" && resolution.output.kind === "function";
        return isFunction ? { host: "127.0.0.1", port: gatewayPort } : this.#server!.address();
      },
      page: (error, accept) => {
        const known = error instanceof MayflyError ? error : new MayflyError("INTERNAL_ERROR", messageOf(error));
        return { status: 500, ...renderErrorPage({ status: 500, code: known.code, message: known.message, id: "dev" }, accept) };
      },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#live?.[Symbol.dispose]();
    await this.#server?.[Symbol.asyncDispose]();
    await this.#building;
  }

  /** One build at a time; what changes meanwhile makes one more. */
  #changed(): void {
    if (this.#stale) return;
    this.#stale = true;
    this.#building = this.#building.then(() => {
      this.#stale = false;
      return this.#closing.signal.aborted ? undefined : this.#build();
    });
  }

  async #build(): Promise<void> {
    const startedMs = performance.now();
    const { onEvent } = this.#options;
    try {
      const { tree, changed } = await this.#live!.look();
      const envChanged = await this.#readEnvironment();
      if (changed.length === 0 && !envChanged && !(await this.#failed())) return;
      for (const path of changed) this.#pending.add(path);
      const { manifest, built } = await this.#manifestOf(tree, [...this.#pending]);
      this.#pending.clear();
      this.#current = Promise.resolve({ manifest, routes: compileRoutes(manifest, () => this.#environment) });
      const functions = Object.keys(manifest.functions).length;
      onEvent({ type: "built", changed, functions, built, ms: performance.now() - startedMs });
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      const known = error instanceof MayflyError ? error : new MayflyError("INTERNAL_ERROR", messageOf(error), { cause: error });
      // The gateway shows pages for upper-case codes only.
      const shown = /^[A-Z]/.test(known.code) ? known : new MayflyError("BUILD_FAILED", known.message);
      this.#current = Promise.reject(shown);
      this.#current.catch(() => undefined);
      onEvent({ type: "failed", code: known.code, message: known.message });
    }
  }

  async #failed(): Promise<boolean> {
    return this.#current.then(
      () => false,
      () => true,
    );
  }

  async #manifestOf(tree: SourceTree, changed: readonly string[]): Promise<{ readonly manifest: Manifest; readonly built: number }> {
    const { sandboxes, blobs, directory, clock } = this.#plane!;
    await using output = blobs.batch();
    const source = {
      tree,
      deployment: { id: this.#deploymentId, host: "localhost", projectId: "prj_dev", target: "preview" },
      env: {},
      buildEnv: this.#environment,
      sandboxes,
      blobs,
      output,
      config: this.#options.config,
      workRoot: join(directory, "builds"),
      clock,
      signal: this.#closing.signal,
      log: (text, stream) => this.#options.onEvent({ type: "line", from: "build", stream, text }),
    } satisfies SourceRequest;
    const plan = await planSource(source, { settings: noSettings, prebuilt: false });
    if (changed.some((path) => configurationNames.has(path)))
      for (const text of plan.warnings) this.#options.onEvent({ type: "note", text });
    const parts = await this.#parts(plan, source, changed);
    const manifest: Manifest = {
      version: 1,
      deploymentId: this.#deploymentId,
      projectId: "prj_dev",
      teamId: "team_dev",
      name: "dev",
      host: "localhost",
      target: "preview",
      createdAt: 0,
      caseSensitive: plan.caseSensitive,
      env: {},
      routes: parts.routes,
      outputs: parts.outputs,
      functions: parts.functions,
    };
    return { manifest, built: parts.built };
  }

  async #parts(
    plan: Plan,
    source: SourceRequest & { readonly output: BlobBatch },
    changed: readonly string[],
  ): Promise<Pick<Manifest, "routes" | "outputs" | "functions"> & { readonly built: number }> {
    const { job } = plan;
    if (job === null) return { ...plan, functions: {}, built: 0 };
    // What the framework's own server does is not built; Functions beside it are.
    const steps = this.#server === undefined ? job.steps : job.steps.filter(({ builder, server }) => builder === "node" && !server);
    const ownJob = { ...job, steps, installs: [] };
    if (QuickBuild.can(ownJob)) {
      const quick = await this.#quick!.build(ownJob, changed);
      return { ...quick, outputs: { ...plan.outputs, ...quick.outputs } };
    }
    await using build = await runBuild({ ...source, plan, toolchains: this.#plane!.toolchains });
    await source.output.commit();
    return { ...build.result, built: Object.keys(build.result.functions).length };
  }

  /** Whether it has changed: then no instance that knows the old one may answer. */
  async #readEnvironment(): Promise<boolean> {
    const { directory } = this.#options;
    const texts = await Promise.all(envFiles.map((name) => readFile(join(directory, name), "utf8").catch(() => "")));
    const environment = { VERCEL_ENV: "development", ...Object.assign({}, ...texts.map((text) => parseEnv(text))) } as Record<
      string,
      string
    >;
    if (JSON.stringify(environment) === JSON.stringify(this.#environment)) return false;
    this.#environment = environment;
    this.#deploymentId = newId();
    return true;
  }
}

const newId = (): string => `dpl_dev${randomId(20)}`;

/** The configuration's `devCommand` (a program's is not asked), else the framework's, else the project's own script `dev` when a script builds it. */
async function findDevCommand(directory: string): Promise<string | null> {
  const readJson = async (name: string): Promise<Readonly<Record<string, unknown>>> => {
    try {
      const value = parseDocument(name, await readFile(join(directory, name), "utf8"));
      return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
    } catch {
      return {}; // the build will say what is wrong with it
    }
  };
  const [packageJson, ...said] = await Promise.all(["package.json", ...documents].map(readJson));
  const configuration = Object.assign({}, ...said) as Readonly<Record<string, unknown>>;
  if (typeof configuration["devCommand"] === "string") return configuration["devCommand"] || null;
  const scripts = (packageJson?.["scripts"] ?? {}) as Readonly<Record<string, unknown>>;
  const [{ detectFrameworkRecord, LocalFileSystemDetector }, { frameworkList }] = await Promise.all([
    import("@vercel/fs-detectors"),
    import("@vercel/frameworks"),
  ]);
  const named = configuration["framework"];
  const framework =
    typeof named === "string"
      ? frameworkList.find(({ slug }) => slug === named)
      : await detectFrameworkRecord({ fs: new LocalFileSystemDetector(directory), frameworkList });
  const command = framework?.settings.devCommand?.value;
  if (typeof command === "string") return command;
  return typeof scripts["dev"] === "string" && typeof scripts["build"] === "string" ? "npm run dev" : null;
}
