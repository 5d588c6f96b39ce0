/**
 * The journey of a request: address → host → route → static file, Function, control plane or error page. This file lists
 * the steps and nothing else; each has its own file, and its name in `Server-Timing`. Invariant: what answers is decided
 * by the host's manifest alone, so a deployment answers the same for ever.
 */
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import type { Functions } from "../functions/functions.ts";
import type { Optimiser } from "../images/optimiser.ts";
import type { LogStore } from "../logs/log-store.ts";
import type { Certificates } from "./certificates.ts";
import type { CacheStore } from "./cache-store.ts";
import { EdgeCache } from "./cache.ts";
import { Control, type ControlPlane } from "./control.ts";
import { codeOfStatus, renderErrorPage } from "./error-page.ts";
import type { Exchange } from "./exchange.ts";
import { Forward } from "./forward.ts";
import type { GatewayFigures } from "./figures.ts";
import { openFront, type Front } from "./front.ts";
import { parseImageRequest } from "./image-request.ts";
import { Images } from "./images.ts";
import { isPlatformRequestHeader } from "./headers.ts";
import { hopNames } from "./hop.ts";
import { isControlHost, parseAddress, type HostIndex, type ServedDeployment } from "./host.ts";
import { Inspection, type InspectionParts } from "./inspection.ts";
import { renderListing } from "./listing.ts";
import { contentSecurityPolicy } from "./html.ts";
import { revalidateAlways } from "./freshness.ts";
import { Middleware } from "./middleware.ts";
import { Origins } from "./origin.ts";
import { Prerenders } from "./prerender.ts";
import type { PurgeLog } from "./purge-log.ts";
import { PurgingFunctions } from "./purging.ts";
import { openRegions, type Regions } from "./regions.ts";
import { RequestLog } from "./request-log.ts";
import { changeHeaders } from "./header-change.ts";
import type { Resolution, RouteHeader, RouteRequest } from "./route.ts";
import { SettledAnswers } from "./settled.ts";
import { StaticFiles } from "./static.ts";

export interface GatewayParts {
  readonly config: Config;
  readonly clock: Clock;
  /** null: the gateway speaks no TLS. */
  readonly certificates: Certificates | null;
  readonly functions: Pick<Functions, "invoke">;
  readonly hosts: HostIndex;
  readonly blobs: Pick<BlobStore, "read" | "open">;
  readonly logs: Pick<LogStore, "append" | "appendRequest">;
  /** null: there is none, and every host is a deployment's. */
  readonly control: ControlPlane | null;
  readonly cache: CacheStore;
  readonly purges: PurgeLog;
  /** null: pictures are given as they are. */
  readonly optimiser: Optimiser | null;
  /** Counts what is answered, for whoever wants to know. */
  readonly figures?: GatewayFigures;
  /** For the pages of a deployment's source and build log; null: there are none. */
  readonly inspection: InspectionParts | null;
}

/** Live once it listens. `close` lets requests in flight finish within `drainMs`; the parts are their owner's to close. */
export type Gateway = Front;

/** @param open the front that brings the exchanges */
export function openGateway(parts: GatewayParts, open: typeof openFront = openFront): Gateway {
  const journey = new Journey(parts);
  const front = open(parts, (exchange) => journey.answer(exchange));
  return {
    listen: (inherited) => front.listen(inherited),
    get servers() {
      return front.servers;
    },
    get connections() {
      return front.connections;
    },
    async close(drainMs) {
      await front.close(drainMs);
      journey.close();
    },
  };
}

class Journey {
  readonly #parts: GatewayParts;
  readonly #settled: SettledAnswers;
  readonly #static: StaticFiles;
  readonly #cache: EdgeCache;
  readonly #prerenders: Prerenders;
  readonly #middleware: Middleware;
  readonly #origins: Origins;
  readonly #images: Images;
  readonly #inspection: Inspection | null;
  readonly #control: Control | null;
  readonly #regions: Regions | null;
  readonly #requestLog: RequestLog;

  constructor(parts: GatewayParts) {
    this.#parts = parts;
    this.#requestLog = new RequestLog(parts);
    this.#regions = openRegions(parts);
    const functions = new PurgingFunctions(this.#regions ?? parts.functions, parts);
    this.#settled = new SettledAnswers(parts.hosts, parts.config);
    this.#static = new StaticFiles(parts.blobs, parts.config);
    const forward = new Forward({ ...parts, functions });
    this.#cache = new EdgeCache({ ...parts, functions, store: parts.cache, forward });
    this.#prerenders = new Prerenders({ ...parts, cache: this.#cache, forward });
    this.#middleware = new Middleware({ ...parts, functions });
    this.#origins = new Origins(parts.config);
    this.#images = new Images({
      ...parts,
      origins: this.#origins,
      answer: (exchange, deployment, resolution) => this.#follow(exchange, deployment, resolution),
    });
    this.#inspection = parts.inspection === null ? null : new Inspection(parts.inspection);
    this.#control = parts.control === null ? null : new Control(parts.control);
  }

  /** After the last request. */
  close(): void {
    this.#regions?.close();
  }

  answer(exchange: Exchange): void {
    const begunMs = performance.now();
    try {
      // What a peer has handed on is an invocation, whatever its address.
      const isSettled = exchange.header(hopNames.hop) === undefined && this.#settled.give(exchange);
      if (!isSettled) return void this.#travel(exchange, begunMs);
    } catch (error) {
      this.#fail(exchange, error);
    }
    return this.#count(exchange, begunMs);
  }

  async #travel(exchange: Exchange, begunMs: number): Promise<void> {
    try {
      await this.#steps(exchange);
    } catch (error) {
      this.#fail(exchange, error);
    }
    this.#count(exchange, begunMs);
  }

  #count(exchange: Exchange, begunMs: number): void {
    const durationMs = performance.now() - begunMs;
    this.#parts.figures?.count(exchange.status, exchange.start, durationMs);
    this.#requestLog.take(exchange, durationMs);
  }

  async #steps(exchange: Exchange): Promise<void> {
    const { config, hosts } = this.#parts;
    if (exchange.request.target.length > config.urlBytesMax) throw new MayflyError("URI_TOO_LONG");
    const hop = this.#regions?.hopOf(exchange) ?? null;
    if (hop !== null) return this.#regions!.answer(exchange, hop);
    exchange.address = parseAddress(exchange.request);
    if (exchange.address.path === "/_mayfly/health") return this.#health(exchange);

    const { host } = exchange.address;
    const { serverName } = exchange.request;
    if (serverName !== null && serverName !== host) throw new MayflyError("MISDIRECTED_REQUEST");
    if (this.#inspection?.isSignIn(exchange) === true) return this.#inspection.signIn(exchange);
    if (this.#control !== null && isControlHost(host, config)) return this.#control.answer(exchange);
    const deployment = await exchange.step("host", () => hosts.resolve(host));
    if (deployment === null) throw new MayflyError("DEPLOYMENT_NOT_FOUND");

    exchange.deploymentId = deployment.manifest.deploymentId;
    if (this.#inspection?.isView(exchange) === true) return this.#inspection.answer(exchange, deployment.manifest);

    const request = new JourneyRequest(exchange);
    const resolution = await exchange.step("route", () => deployment.routes.resolve(request));
    try {
      await this.#follow(exchange, deployment, resolution);
      if (!request.isLookedAt) this.#settle(exchange, deployment, resolution);
    } catch (error) {
      // The deployment's own page for what went wrong in it, if it has one.
      if (!(error instanceof MayflyError) || error.status < 500 || exchange.headSent || exchange.gone) throw error;
      const page = deployment.routes.resolveError(request, error.status);
      if (page.kind !== "output") throw error;
      if (error.code === "INTERNAL_ERROR") report(exchange, error);
      await this.#follow(exchange, deployment, page, error);
    }
    return undefined;
  }

  /** Takes note of an answer that the next request may be given at once. */
  #settle(exchange: Exchange, deployment: ServedDeployment, resolution: Resolution): void {
    if (resolution.kind !== "output" || resolution.status !== undefined || !exchange.ended) return;
    const { output } = resolution;
    const { manifest } = deployment;
    const settled =
      output.kind === "static"
        ? this.#static.settle({ ...resolution, output })
        : output.kind === "prerender"
          ? this.#prerenders.settle(exchange, { ...resolution, output, manifest, functionId: output.functionId })
          : this.#cache.settle(exchange, { ...resolution, manifest, functionId: output.functionId });
    if (settled !== null) this.#settled.note(exchange, deployment, settled);
  }

  /** Answers as routing says. `error`: what led here. */
  async #follow(exchange: Exchange, deployment: ServedDeployment, resolution: Resolution, error?: MayflyError): Promise<void> {
    const { manifest } = deployment;
    const listing = error === undefined && isMissing(resolution) ? renderListing(manifest, exchange.address.path) : null;
    if (listing !== null) return exchange.send(200, listingHeaders, listing);
    switch (resolution.kind) {
      case "output": {
        const errorCode =
          error?.code ?? (resolution.status !== undefined && resolution.status >= 400 ? codeOfStatus(resolution.status) : undefined);
        const platformHeaders = errorCode === undefined ? [] : ["x-vercel-error", errorCode, ...retryAfter(error ?? {})];
        const { output } = resolution;
        if (output.kind === "static") {
          exchange.answeredBy = "static";
          exchange.cache = "HIT";
          return exchange.step("static", () => this.#static.answer(exchange, { ...resolution, output, platformHeaders }));
        }
        const { functionId } = output;
        exchange.answeredBy = "function";
        exchange.functionName = manifest.functions[functionId]?.name ?? "";
        const answer = { ...resolution, manifest, functionId, isErrorPage: error !== undefined, platformHeaders };
        return output.kind === "prerender"
          ? this.#prerenders.answer(exchange, { ...answer, output })
          : this.#cache.answer(exchange, answer);
      }
      case "picture": {
        exchange.answeredBy = "image";
        const request = parseImageRequest(manifest.images!, resolution.query, exchange.header("accept"));
        return this.#images.answer(exchange, deployment, request, changed(resolution));
      }
      case "redirect": {
        const { status, location } = resolution;
        exchange.answeredBy = "redirect";
        const refresh = status === 308 ? ["refresh", `0;url=${location}`] : [];
        const headers = [...changed(resolution), "location", location, ...refresh, "content-type", "text/plain; charset=utf-8"];
        return exchange.send(status, headers, "Redirecting...\n");
      }
      case "empty":
        exchange.head(resolution.status, changed(resolution));
        exchange.end();
        return undefined;
      case "external":
        exchange.answeredBy = "external";
        exchange.cache = "MISS";
        return exchange.step("origin", () => this.#origins.answer(exchange, resolution));
      case "middleware": {
        const verdict = await exchange.step("middleware", () => this.#middleware.ask(exchange, manifest, resolution));
        if (verdict.kind === "answered") {
          exchange.answeredBy = "middleware";
          exchange.functionName = manifest.functions[resolution.functionId]?.name ?? "";
          return undefined;
        }
        const { effect } = verdict;
        if (verdict.kind === "go") return this.#follow(exchange, deployment, resolution.resume(effect));
        const { requestHeaders, responseHeaders } = effect;
        const headers = [...resolution.headers, ...responseHeaders];
        return this.#follow(exchange, deployment, { kind: "external", url: verdict.url, headers, requestHeaders });
      }
      case "error":
        if (resolution.timedOut === true) throw new MayflyError("ROUTE_TIMEOUT");
        return errorPage(exchange, { status: resolution.status, code: codeOfStatus(resolution.status) }, resolution.headers);
    }
  }

  #health(exchange: Exchange): void {
    const body = JSON.stringify({ status: "ok", region: this.#parts.config.region });
    exchange.send(200, ["content-type", "application/json; charset=utf-8", "cache-control", "no-store"], `${body}\n`);
  }

  #fail(exchange: Exchange, error: unknown): void {
    if (!(error instanceof MayflyError) || error.code === "INTERNAL_ERROR") report(exchange, error);
    if (exchange.headSent || exchange.gone) {
      exchange.abort();
      return;
    }
    const known = error instanceof MayflyError && /^[A-Z]/.test(error.code) ? error : new MayflyError("INTERNAL_ERROR");
    errorPage(exchange, known, []);
  }
}

/** What routing may see of a request: never a header that only the platform may set. */
class JourneyRequest implements RouteRequest {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly query: string;
  readonly #exchange: Exchange;
  /** Routing asked for more than method, host and target: another request for them may be answered otherwise. */
  isLookedAt = false;

  constructor(exchange: Exchange) {
    this.#exchange = exchange;
    this.method = exchange.method;
    ({ host: this.host, path: this.path, query: this.query } = exchange.address);
  }

  header(name: string): string | undefined {
    this.isLookedAt = true;
    return isPlatformRequestHeader(name) ? undefined : this.#exchange.header(name);
  }

  headerNames(): string[] {
    this.isLookedAt = true;
    return this.#exchange.request.headers.filter((name, index) => index % 2 === 0 && !isPlatformRequestHeader(name));
  }
}

function errorPage(
  exchange: Exchange,
  error: {
    readonly status: number;
    readonly code: string;
    readonly message?: string;
    readonly details?: Readonly<Record<string, unknown>>;
  },
  routeHeaders: readonly RouteHeader[],
): void {
  const { status, code, message, details } = error;
  const page = renderErrorPage(
    { status, code, id: exchange.publicId, ...(message === undefined ? {} : { message }) },
    exchange.header("accept"),
  );
  const headers = [
    ...flat(routeHeaders),
    "content-type",
    page.contentType,
    "cache-control",
    "no-store",
    "vary",
    "accept",
    "x-vercel-error",
    code,
  ];
  headers.push("x-content-type-options", "nosniff", "content-security-policy", contentSecurityPolicy);
  if (code === "METHOD_NOT_ALLOWED") headers.push("allow", "GET, HEAD");
  headers.push(...retryAfter(error));
  if (code === "RANGE_NOT_SATISFIABLE") headers.push("content-range", `bytes */${String(details?.size)}`);
  exchange.send(status, headers, page.body);
}

/** When to come again, for errors that pass. */
function retryAfter({ details }: { readonly details?: Readonly<Record<string, unknown>> }): string[] {
  return typeof details?.retryAfterS === "number" ? ["retry-after", String(details.retryAfterS)] : [];
}

/** Nothing is at this path: a directory may be. */
function isMissing(resolution: Resolution): boolean {
  return (resolution.kind === "error" || resolution.kind === "output") && resolution.status === 404;
}

const listingHeaders = [
  "content-type",
  "text/html; charset=utf-8",
  "cache-control",
  revalidateAlways,
  "content-security-policy",
  contentSecurityPolicy,
];

/** What routes say of a response that has no headers of its own. */
function changed({ headers, responseChanges }: Resolution): string[] {
  return responseChanges === undefined ? flat(headers) : changeHeaders(flat(headers), responseChanges);
}

function flat(headers: readonly RouteHeader[]): string[] {
  return headers.flatMap(({ name, value }) => [name, value]);
}

/** For whoever runs the platform: the client sees only that something went wrong, and the id. */
function report(exchange: Exchange, error: unknown): void {
  console.error(`gateway: request ${exchange.id} failed:`, error);
}
