/**
 * Answers that a deployment keeps on purpose (incremental static regeneration): made at build time or by the first
 * request, given from then on, made anew when they are too old or when their owner says so. All keeping is `cache.ts`'s;
 * here is what is special. Invariant: what one client sends never shapes what others are given, beyond the parameters and
 * headers that the build allows.
 */
import { timingSafeEqual } from "node:crypto";
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Clock } from "../clock.ts";
import type { ResponseHead } from "../functions/functions.ts";
import type { Prerender, PrerenderChain, PrerenderOutput } from "../model.ts";
import type { CachePolicy, EdgeCache, ObtainedAnswer } from "./cache.ts";
import type { KeptAnswer } from "./cache-store.ts";
import type { Exchange } from "./exchange.ts";
import { clientHeaders, type Forward, type FunctionAnswer } from "./forward.ts";
import { isEdgeHeader, storable, tagsOf, type Storable } from "./freshness.ts";
import { isFramingHeader, isPlatformResponseHeader } from "./headers.ts";
import { isPartial, partialAnswer } from "./partial-answer.ts";
import type { PurgeLog } from "./purge-log.ts";
import { prerenderHeader } from "../runtime/protocol.js";
import { compileCondition } from "./rule.ts";
import type { SettledAnswer } from "./settled.ts";
import { canonicalPath, parseCookies, question } from "./spelling.ts";

export interface PrerenderAnswer extends FunctionAnswer {
  readonly output: PrerenderOutput;
  /** Output path. */
  readonly path: string;
}

const yearMs = 31_536_000_000;
/** Requests that have an answer made anew carry the token here; other names of Next.js's begin with it. */
const revalidateName = "x-prerender-revalidate";
/** Next.js before 16 gives what it made a second ago once more, unless the token is shown. A second more is for clocks. */
const repeatedMsMax = 2000;
/** What the Function always sees: where the request goes, as the platform says it. */
const alwaysSeen = /^(?:host|x-forwarded-|x-real-ip|x-vercel-|x-invocation-id|x-matched-path)/;
/** In an output path of Next.js's: `[name]`, `[...name]`, `[[...name]]`; the query has its value. */
const nextParameter = /\[{1,2}(?:\.{3})?([^[\]]+)\]{1,2}/g;
/** The data of a page of the pages router, beside it. */
const nextData = /\/_next\/data\/[^/]+(\/.+)\.json$/;
/** One client's: never part of making what others are given, though the build names it. */
const neverSeen = new Set(["cookie", "authorization"]);

export class Prerenders {
  readonly #cache: EdgeCache;
  readonly #forward: Forward;
  readonly #blobs: Pick<BlobStore, "read">;
  readonly #purges: PurgeLog;
  readonly #clock: Clock;

  constructor(parts: {
    readonly cache: EdgeCache;
    readonly forward: Forward;
    readonly blobs: Pick<BlobStore, "read">;
    readonly purges: PurgeLog;
    readonly clock: Clock;
  }) {
    this.#cache = parts.cache;
    this.#forward = parts.forward;
    this.#blobs = parts.blobs;
    this.#purges = parts.purges;
    this.#clock = parts.clock;
  }

  /** @throws as {@link Forward.answer} */
  async answer(exchange: Exchange, answer: PrerenderAnswer): Promise<void> {
    const { prerender } = answer.output;
    const isRead = exchange.method === "GET" || exchange.method === "HEAD" || answer.isErrorPage === true;
    const isRenewal = isToken(exchange.header(revalidateName), prerender);
    if (!isRenewal && (!isRead || passesBy(exchange, prerender))) {
      return this.#forward.answer(exchange, { ...answer, ...(isRead ? { cache: "BYPASS" as const } : {}) });
    }
    const asked = { ...answer, url: urlOf(answer) };
    const policy = this.#policy(asked, isRenewal);
    const { chain } = prerender;
    if (!isRenewal && chain === undefined) return this.#cache.keep(exchange, asked, policy);
    if (isRenewal) await this.#forgetGroup(answer);
    if (chain !== undefined) return this.#complete(exchange, answer, chain, await this.#cache.obtain(exchange, asked, policy, isRenewal));
    return this.#cache.renew(exchange, { ...asked, cache: "REVALIDATED" }, policy);
  }

  /** What was obtained may be the beginning of an answer only: the rest is made for this client, from the request as it came. */
  async #complete(exchange: Exchange, answer: PrerenderAnswer, chain: PrerenderChain, obtained: ObtainedAnswer): Promise<void> {
    const { cache } = obtained;
    const from = partialAnswer(obtained.kept);
    if (from === null) return this.#cache.give(exchange, answer, obtained);
    if (exchange.method === "HEAD")
      return exchange.send(answer.status ?? from.status, clientHeaders(from.headers, { ...answer, cache }), "");
    const output = answer.manifest.outputs[chain.outputPath];
    const functionId = output?.kind === "function" || output?.kind === "prerender" ? output.functionId : answer.functionId;
    return this.#forward.answer(exchange, { ...answer, functionId, cache, resumes: { from, headers: chain.headers } });
  }

  /** The others of its group are made anew when they are next asked for; this one, begun after this time, stays. */
  async #forgetGroup(answer: PrerenderAnswer): Promise<void> {
    const { deploymentId, projectId } = answer.manifest;
    const tag = groupTag(answer);
    if (tag !== null) await this.#purges.add([{ projectId, deploymentId, tag, mode: "delete" }], this.#clock.now() - 1);
  }

  /** As {@link EdgeCache.settle}. */
  settle(exchange: Exchange, answer: PrerenderAnswer): SettledAnswer | null {
    const asked = { ...answer, url: urlOf(answer) };
    const { prerender } = answer.output;
    const isFor = (one: Exchange, kept: KeptAnswer): boolean =>
      one.header(revalidateName) === undefined && !passesBy(one, prerender) && (prerender.chain === undefined || !isPartial(kept));
    return this.#cache.settleAt(keyOf(asked), exchange, asked, isFor);
  }

  #policy(answer: PrerenderAnswer, isRenewal: boolean): CachePolicy {
    const { prerender } = answer.output;
    const { allowHeader } = prerender;
    const isSeen = (name: string): boolean => {
      if (alwaysSeen.test(name)) return true;
      if (name.startsWith(revalidateName)) return isRenewal;
      return !neverSeen.has(name) && (allowHeader === null || allowHeader.includes(name));
    };
    return {
      key: keyOf(answer),
      keeps: true,
      storable: (head) => this.#storable(head, answer),
      making: (headers) => {
        const kept: string[] = [prerenderHeader, "1"];
        for (let index = 0; index < headers.length; index += 2) {
          const name = headers[index]!;
          if (!isSeen(name)) continue;
          // The deployment's own host: an alias or port that a client chose must not be what all others are led to.
          const isHost = name === "host" || name === "x-forwarded-host";
          kept.push(name, isHost ? answer.manifest.host : headers[index + 1]!);
        }
        if (!isRenewal && prerender.bypassToken !== null && this.#isJustPurged(answer)) kept.push(revalidateName, prerender.bypassToken);
        return kept;
      },
      seed: () => this.#seed(answer),
    };
  }

  #isJustPurged(answer: PrerenderAnswer): boolean {
    const { deploymentId, projectId } = answer.manifest;
    const madeAt = this.#clock.now() - repeatedMsMax;
    return this.#purges.verdict({ deploymentId, projectId, tags: implicitTags(answer), madeAt }) !== null;
  }

  #storable(head: ResponseHead, answer: PrerenderAnswer): Storable | null {
    if (head.status >= 500) return null;
    const control = head.headers.filter((_, index) => index % 2 === 1 && head.headers[index - 1] === "cache-control").join();
    if (/\b(?:no-store|private)\b/i.test(control)) return null;
    const said = storable(200, ["cache-control", control]);
    const tags = [...tagsOf(head.headers), ...implicitTags(answer)];
    return { ...lifetimeOf(answer.output.prerender, said?.freshMs), vary: [], tags };
  }

  /** What the build has made. */
  async #seed(answer: PrerenderAnswer): Promise<KeptAnswer | null> {
    const { prerender } = answer.output;
    if (prerender.fallback === null) return null;
    const { deploymentId, projectId, createdAt } = answer.manifest;
    const flat = Object.entries(prerender.initialHeaders).flatMap(([name, value]) => [name.toLowerCase(), value]);
    const headers = flat.filter((_, index) => {
      const name = flat[index - (index % 2)]!;
      return !isFramingHeader(name) && !isPlatformResponseHeader(name) && !isEdgeHeader(name) && name !== "set-cookie";
    });
    if (!headers.includes("content-type")) headers.push("content-type", "text/html; charset=utf-8");
    const lifetime = lifetimeOf(prerender, undefined);
    // The page of a parameter that the build did not know is a stand-in until it is made.
    const isStandIn = answer.url.includes("?");
    return {
      ...lifetime,
      ...(isStandIn ? { freshMs: 0, staleMs: yearMs } : {}),
      vary: [],
      tags: [...tagsOf(flat), ...implicitTags(answer)],
      deploymentId,
      projectId,
      status: prerender.initialStatus,
      headers,
      body: await this.#blobs.read(prerender.fallback.digest),
      madeAt: createdAt,
      prerendered: true,
    };
  }
}

function lifetimeOf({ expirationS, staleExpirationS }: Prerender, saidMs: number | undefined) {
  const freshMs = saidMs ?? (expirationS === false ? yearMs : expirationS * 1000);
  const staleMs = staleExpirationS === undefined ? yearMs : Math.max(0, staleExpirationS * 1000 - freshMs);
  return { freshMs, staleMs, errorMs: yearMs };
}

/** @param answer its url is that of {@link urlOf} */
function keyOf({ manifest, path, url, functionId }: PrerenderAnswer): string {
  return `${manifest.deploymentId}\nprerender ${path}\n${url}\n${functionId}`;
}

/** The path, and of the query what tells answers apart, in one order. */
function urlOf({ url, output }: PrerenderAnswer): string {
  const mark = url.indexOf("?");
  if (mark === -1) return url;
  const path = url.slice(0, mark);
  const { allowQuery } = output.prerender;
  const asked = new URLSearchParams(url.slice(mark + 1));
  const kept = [...asked].filter(([name]) => allowQuery === null || allowQuery.includes(name));
  return path + question(new URLSearchParams(kept.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))).toString());
}

/** Space: no tag of a Function's can be taken for it after the comma-separated list was trimmed. */
function groupTag(answer: PrerenderAnswer): string | null {
  const { group } = answer.output.prerender;
  if (group === undefined) return null;
  const url = urlOf(answer);
  const mark = url.indexOf("?");
  return ` group ${group} ${mark === -1 ? "" : url.slice(mark + 1)}`;
}

/** Its group, and the page that it is of. */
function implicitTags(answer: PrerenderAnswer): readonly string[] {
  const asked = new URLSearchParams(answer.url.split("?", 2)[1]);
  const page = `/${answer.path}`
    .replaceAll(nextParameter, (_, name: string) => asked.get(`nxtP${name}`) ?? "")
    .replace(nextData, "$1")
    .replace(/\/index$/, "");
  const tags = [pageTag(page)];
  const group = groupTag(answer);
  if (group !== null) tags.push(group);
  return tags;
}

/** What is kept of the page at this path: itself and, of Next.js's pages router, its data. */
export function pageTag(path: string): string {
  return ` page ${canonicalPath(path).replace(/\/$/, "")}`;
}

function passesBy(exchange: Exchange, prerender: Prerender): boolean {
  const cookie = exchange.header("cookie");
  if (cookie?.includes("__prerender_bypass") === true && isToken(parseCookies(cookie).get("__prerender_bypass"), prerender)) return true;
  return prerender.bypassFor.some((one) => {
    const condition = compileCondition(one);
    const value = condition === null ? undefined : valueOf(exchange, condition.type, condition.key);
    return value !== undefined && condition?.test(value) !== null;
  });
}

function valueOf(exchange: Exchange, type: string, key: string): string | undefined {
  switch (type) {
    case "host":
      return exchange.address.host;
    case "header":
      return exchange.header(key);
    case "cookie":
      return parseCookies(exchange.header("cookie") ?? "").get(key);
    default:
      return new URLSearchParams(exchange.address.query).get(key) ?? undefined;
  }
}

/** In constant time: a guess must not learn how far it was right. */
function isToken(shown: string | undefined, { bypassToken }: Prerender): boolean {
  if (shown === undefined || bypassToken === null || bypassToken === "") return false;
  const a = Buffer.from(shown);
  const b = Buffer.from(bypassToken);
  return a.length === b.length && timingSafeEqual(a, b);
}
