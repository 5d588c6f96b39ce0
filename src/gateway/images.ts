/**
 * Answers with a picture in the size and format that a page asks for: kept in the edge cache, made at most once at a time,
 * from a file of the deployment, an answer of its Functions, or another host that its configuration names. Invariant: what
 * is kept was made from what anybody may fetch, since it is asked for without anything of the client.
 *
 * ```
 * kept? ─ fresh ──▶ HIT
 *       ├ stale ──▶ STALE, and made anew once
 *       └ else ──▶ MISS: fetch ─▶ make in a sandbox ─▶ keep
 * ```
 */
import { createHash } from "node:crypto";
import { posix } from "node:path";
import { extension } from "mime-types";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import type { Optimiser } from "../images/optimiser.ts";
import { isDecoded, pictureType } from "../images/picture-type.ts";
import type { LogStore } from "../logs/log-store.ts";
import type { Manifest } from "../model.ts";
import { pictureTag } from "../store/purges.ts";
import type { CacheStore, KeptAnswer } from "./cache-store.ts";
import type { Exchange } from "./exchange.ts";
import { ageOf, isEdgeHeader, maxAgeMs, revalidateAlways } from "./freshness.ts";
import type { ServedDeployment } from "./host.ts";
import type { ImageRequest } from "./image-request.ts";
import { askInside, type InnerAnswer, type InnerRequest } from "./inner-request.ts";
import { Lru } from "./lru.ts";
import type { Origins } from "./origin.ts";
import type { Resolution } from "./route.ts";
import { decodeLoosely, question } from "./spelling.ts";
import { matchesEtag } from "./validators.ts";

export interface ImagesParts {
  readonly config: Pick<Config, "region" | "imageQueueMax" | "imageSourceBytesMax" | "imageSourceMsMax">;
  readonly clock: Clock;
  readonly cache: CacheStore;
  readonly logs: Pick<LogStore, "append">;
  /** null: pictures are given as they are. */
  readonly optimiser: Optimiser | null;
  readonly origins: Origins;
  /** Answers for a deployment as it would a client. */
  readonly answer: (exchange: Exchange, deployment: ServedDeployment, resolution: Resolution) => Promise<void>;
}

interface Picture {
  readonly type: string;
  readonly body: Buffer;
  readonly freshMs: number;
  /** It could not be made smaller, and may be the next time. */
  readonly isStandIn: boolean;
  /** By which it can be purged. */
  readonly tag: string;
}

/** Whose lines they are in a deployment's log. */
const optimiserName = "_image";
const yearMs = 31_536_000_000;
const accept = "image/*,*/*;q=0.8";
const redirectsMax = 3;
/** What went wrong is not tried again for so long. */
const failurePauseMs = 10_000;
const failuresMax = 1000;
/** A picture that could not be made smaller is given as it is for so long. */
const standInMs = 60_000;

export class Images {
  readonly #parts: ImagesParts;
  /** By key: who makes one right now. */
  readonly #making = new Map<string, Promise<KeptAnswer>>();
  readonly #failures = new Lru<string, { readonly error: MayflyError; readonly untilMs: number }>(failuresMax);

  constructor(parts: ImagesParts) {
    this.#parts = parts;
  }

  /**
   * @param more flat headers, which those of the picture itself beat
   * @throws MayflyError METHOD_NOT_ALLOWED, or why there is no such picture: all before anything is sent
   */
  async answer(exchange: Exchange, deployment: ServedDeployment, request: ImageRequest, more: readonly string[]): Promise<void> {
    if (exchange.method !== "GET" && exchange.method !== "HEAD") throw new MayflyError("METHOD_NOT_ALLOWED");
    const { cache, clock } = this.#parts;
    const source = this.#source(exchange, deployment, request);
    const { width, quality, format, rules } = request;
    const key = `${source.key}\npicture ${width} ${quality} ${format ?? "own"}${rules.allowsSvg ? " svg" : ""}`;
    const making = (): Promise<KeptAnswer> => this.#once(key, () => this.#make(deployment.manifest, request, source));
    const refreshing = cache.refresh();
    if (refreshing !== null) await refreshing;
    const kept = cache.peek(key, noHeader) ?? (await cache.recall(key, noHeader));
    const age = kept === null ? "gone" : ageOf(kept, clock.now() - kept.madeAt);
    if (kept !== null && age === "fresh") return give(exchange, request, kept, more, "HIT", clock);
    if (kept !== null && age === "stale") {
      making().catch(() => {});
      return give(exchange, request, kept, more, "STALE", clock);
    }
    const failed = this.#failures.get(key);
    if (failed !== undefined && failed.untilMs > clock.elapsed()) throw failed.error;
    return give(exchange, request, await exchange.step("image", making), more, "MISS", clock);
  }

  /** One for all who ask while it is made. */
  #once(key: string, make: () => Promise<Picture & { readonly manifest: Manifest }>): Promise<KeptAnswer> {
    const underWay = this.#making.get(key);
    if (underWay !== undefined) return underWay;
    const { config, cache, clock } = this.#parts;
    if (this.#making.size > config.imageQueueMax) {
      return Promise.reject(new MayflyError("IMAGE_OPTIMIZER_BUSY", undefined, { details: { retryAfterS: 2 } }));
    }
    const madeAt = clock.now();
    const making = make()
      .then((picture) => {
        const { body, type, freshMs, isStandIn, manifest } = picture;
        const kept: KeptAnswer = {
          deploymentId: manifest.deploymentId,
          projectId: manifest.projectId,
          status: 200,
          headers: ["content-type", type, "etag", `"${createHash("sha256").update(body).digest("base64url").slice(0, 27)}"`],
          body,
          madeAt,
          freshMs,
          staleMs: isStandIn ? 0 : yearMs,
          errorMs: 0,
          vary: [],
          tags: [picture.tag],
        };
        if (body.length <= cache.answerBytesMax) cache.keep(key, noHeader, kept);
        return kept;
      })
      .catch((error: unknown) => {
        if (error instanceof MayflyError && error.status !== 503)
          this.#failures.set(key, { error, untilMs: clock.elapsed() + failurePauseMs });
        throw error;
      })
      .finally(() => this.#making.delete(key));
    this.#making.set(key, making);
    return making;
  }

  async #make(manifest: Manifest, request: ImageRequest, source: Source): Promise<Picture & { readonly manifest: Manifest }> {
    const { optimiser } = this.#parts;
    const answer = await source.fetch();
    const freshMs = source.freshMs(answer);
    const type = pictureType(answer.body, headerOf(answer.headers, "content-type") ?? "");
    if (type === null) {
      const code = request.source.kind === "remote" ? "OPTIMIZED_EXTERNAL_IMAGE_REQUEST_INVALID" : "INVALID_IMAGE_OPTIMIZE_REQUEST";
      throw new MayflyError(code, '"url" leads to what is no picture.');
    }
    if (type === "image/svg+xml" && !request.rules.allowsSvg) {
      throw new MayflyError(
        "INVALID_IMAGE_OPTIMIZE_REQUEST",
        '"url" is an SVG, which the deployment does not allow ("dangerouslyAllowSVG").',
      );
    }
    const tag = pictureTag(source.name);
    const asItIs = { manifest, type, body: answer.body, freshMs, isStandIn: false, tag };
    if (optimiser === null || !isDecoded(type)) return asItIs;
    const { width, quality, format } = request;
    try {
      const made = await optimiser.optimise({ projectId: manifest.projectId, source: answer.body, width, quality, format });
      return made === null ? asItIs : { manifest, ...made, freshMs, isStandIn: false, tag };
    } catch (error) {
      // It may be a good picture all the same: better a large one than none.
      if (!(error instanceof MayflyError) || error.code !== "INTERNAL_OPTIMIZED_IMAGE_REQUEST_FAILED") throw error;
      this.#log(manifest, `${error.message} It is given as it is: ${source.name.slice(0, 200)}`);
      return { ...asItIs, freshMs: standInMs, isStandIn: true };
    }
  }

  /** For whoever looks after the deployment. */
  #log({ deploymentId }: Manifest, text: string): void {
    const { logs, clock } = this.#parts;
    const line = { deploymentId, source: "function", functionName: optimiserName, invocationId: "", stream: "system" } as const;
    logs.append([{ ...line, timestampMs: clock.now(), text }]);
  }

  // ── where it comes from ─────────────────────────────────────────────────────────────────────────────────────────────

  #source(exchange: Exchange, deployment: ServedDeployment, request: ImageRequest): Source {
    const { config, clock } = this.#parts;
    const { manifest } = deployment;
    const { source, rules } = request;
    const inner = {
      outer: exchange,
      accept,
      region: config.region,
      bytesMax: config.imageSourceBytesMax,
      msMax: config.imageSourceMsMax,
      clock,
    };
    const freshMs = (answer: InnerAnswer): number => Math.max(rules.minimumCacheMs, maxAgeMs(answer.headers));
    if (source.kind === "remote") {
      const fetch = () => this.#fetchRemote(inner, source.url);
      return { name: source.url, key: `${manifest.deploymentId}\nimage ${source.url}`, fetch, freshMs };
    }
    const { host, authority } = exchange.address;
    const { path, query } = source;
    const name = path + question(query);
    const header = (name: string): string | undefined => (name === "accept" ? accept : undefined);
    const resolution = deployment.routes.resolve({ method: "GET", host, path, query, header });
    if (resolution.kind === "picture") throw new MayflyError("INVALID_IMAGE_OPTIMIZE_REQUEST", '"url" must be a picture.');
    const fetch = () => this.#fetchLocal({ ...inner, path, query }, deployment, resolution);
    if (resolution.kind === "output" && resolution.output.kind === "static" && resolution.status === undefined) {
      // What is made of a file is the same for ever, and in every deployment of the project that has it.
      return { name, key: `${manifest.projectId}\nimage ${resolution.output.file.digest}`, fetch, freshMs: () => yearMs };
    }
    return { name, key: `${manifest.deploymentId}\nimage ${authority}${name}`, fetch, freshMs };
  }

  async #fetchLocal(request: InnerRequest, deployment: ServedDeployment, resolution: Resolution): Promise<InnerAnswer> {
    let status: number;
    try {
      const answer = await askInside(request, (exchange) => this.#parts.answer(exchange, deployment, resolution));
      if (answer.status === 200) return answer;
      ({ status } = answer);
    } catch (error) {
      if (!(error instanceof MayflyError) || error.status === 503 || error.status === 429) throw error;
      if (error.code === "BAD_REQUEST") throw new MayflyError("INVALID_IMAGE_OPTIMIZE_REQUEST", error.message);
      if (error.status !== 404) throw new MayflyError("INTERNAL_OPTIMIZED_IMAGE_REQUEST_FAILED", error.message, { cause: error });
      ({ status } = error);
    }
    if (status === 404) throw new MayflyError("NOT_FOUND", "The picture could not be found.");
    const why = isRefusal(status) ? ", since pictures are asked for without the visitor's cookies and headers" : "";
    throw new MayflyError("INTERNAL_OPTIMIZED_IMAGE_REQUEST_FAILED", `"url" was answered with ${status}${why}.`);
  }

  async #fetchRemote(request: Omit<InnerRequest, "path" | "query">, first: string): Promise<InnerAnswer> {
    let url = first;
    for (let redirects = 0; redirects <= redirectsMax; redirects++) {
      let answer: InnerAnswer;
      try {
        const asked = { ...request, path: "/", query: "" };
        answer = await askInside(asked, (exchange) => this.#parts.origins.answer(exchange, { url, headers: [] }));
      } catch (error) {
        if (!(error instanceof MayflyError) || error.code === "INFINITE_LOOP_DETECTED") throw error;
        throw new MayflyError("OPTIMIZED_EXTERNAL_IMAGE_REQUEST_FAILED", error.message, { cause: error });
      }
      const { status } = answer;
      if (status === 200) return answer;
      if (status === 401 || status === 403) throw new MayflyError("OPTIMIZED_EXTERNAL_IMAGE_REQUEST_UNAUTHORIZED");
      const location = status >= 300 && status < 400 ? headerOf(answer.headers, "location") : undefined;
      if (location === undefined || !URL.canParse(location, url)) {
        throw new MayflyError("OPTIMIZED_EXTERNAL_IMAGE_REQUEST_FAILED", `The picture's host answered with ${status}.`);
      }
      // Each is asked at a checked address, as the first was.
      url = new URL(location, url).href;
    }
    throw new MayflyError("OPTIMIZED_EXTERNAL_IMAGE_TOO_MANY_REDIRECTS");
  }
}

/** What a sign-in answers to somebody it does not know. */
function isRefusal(status: number): boolean {
  return status === 401 || status === 403 || (status >= 300 && status < 400);
}

interface Source {
  /** The path with its query, or the address. */
  readonly name: string;
  /** Tells pictures apart; begins with the owner's id. */
  readonly key: string;
  readonly fetch: () => Promise<InnerAnswer>;
  readonly freshMs: (answer: InnerAnswer) => number;
}

function give(
  exchange: Exchange,
  request: ImageRequest,
  kept: KeptAnswer,
  more: readonly string[],
  cache: "HIT" | "MISS" | "STALE",
  clock: Clock,
): void {
  const { rules } = request;
  exchange.cache = cache;
  const headers = [
    ...kept.headers,
    "content-disposition",
    `${rules.contentDisposition}; filename="${nameOf(request, headerOf(kept.headers, "content-type") ?? "")}"`,
    "content-security-policy",
    rules.contentSecurityPolicy,
    "x-content-type-options",
    "nosniff",
    "cache-control",
    revalidateAlways,
    "vary",
    "Accept",
    "age",
    String(Math.max(0, Math.floor((clock.now() - kept.madeAt) / 1000))),
    "x-vercel-cache",
    cache,
  ];
  const own = new Set(headers.filter((_, index) => index % 2 === 0));
  for (let index = 0; index < more.length; index += 2) {
    if (!own.has(more[index]!) && !isEdgeHeader(more[index]!)) headers.push(more[index]!, more[index + 1]!);
  }
  if (matchesEtag(exchange.header("if-none-match"), headerOf(kept.headers, "etag"))) {
    exchange.head(304, headers);
    return exchange.end();
  }
  exchange.send(200, headers, kept.body);
}

/** `photo.webp` for `/photos/photo.jpg`. */
function nameOf({ source }: ImageRequest, type: string): string {
  const path = source.kind === "local" ? source.path : new URL(source.url).pathname;
  const { name } = posix.parse(decodeLoosely(path));
  return `${name.replaceAll(/[^\w. -]/g, "_").slice(0, 100) || "image"}.${extension(type) || "bin"}`;
}

function headerOf(headers: readonly string[], name: string): string | undefined {
  for (let index = 0; index < headers.length; index += 2) if (headers[index] === name) return headers[index + 1];
  return undefined;
}

/** Pictures are told apart by their keys alone. */
const noHeader = (): undefined => undefined;
