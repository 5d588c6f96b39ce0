/**
 * Between a request and its Function: gives what is kept, lets one request make what many ask for, and makes stale answers
 * anew behind the client's back. Invariants: a kept answer is given only for the address it was made for; of many requests
 * for a kept answer one invocation makes it; nobody waits for an answer that turns out to be for one client only.
 *
 * ```
 * kept? ─ fresh ──▶ HIT
 *       ├ stale ──▶ STALE, and made anew once
 *       └ else: somebody makes it? ─ yes ─▶ wait ─ kept ─▶ HIT
 *                                  └ no, or not to be kept ─▶ MISS: own invocation, kept when its head allows
 * ```
 */
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import { collect } from "../functions/collect.ts";
import type { Functions, Invocation, ResponseHead, ResponseSink, RunningInvocation } from "../functions/functions.ts";
import { newRequestId } from "../names.ts";
import { CacheHints } from "./cache-hint.ts";
import type { CacheStore, Header, KeptAnswer } from "./cache-store.ts";
import { codedHeaders, negotiate, type Coding } from "./content-coding.ts";
import type { Exchange } from "./exchange.ts";
import { clientHeaders, functionHeaders, type CacheStatus, type Forward, type FunctionAnswer } from "./forward.ts";
import { ageOf, isCacheableRequest, isEdgeHeader, storable, type Storable } from "./freshness.ts";
import { KeptVariants } from "./kept-variants.ts";
import { isFramingHeader, isPassedOn, isPlatformResponseHeader } from "./headers.ts";
import { Lru } from "./lru.ts";
import { PreparedHead } from "./prepared-head.ts";
import type { SettledAnswer } from "./settled.ts";
import { matchesEtag } from "./validators.ts";

/** How the answers at one address are kept. */
export interface CachePolicy {
  /** Tells answers apart; begins with the deployment's id. */
  readonly key: string;
  /** What of a response is kept; null: nothing. */
  storable(head: ResponseHead): Storable | null;
  /** It is known that answers are kept, so requests wait for the one that makes it. Absent: that is learned. */
  readonly keeps?: boolean;
  /** The request headers that the Function sees while it makes an answer to keep; absent: all. Flat. */
  making?(headers: readonly string[]): readonly string[];
  /** The answer when none was kept yet; null: there is none. */
  seed?(): Promise<KeptAnswer | null>;
}

/** An answer that is whole here, whoever is to have it. */
export interface ObtainedAnswer {
  readonly kept: KeptAnswer;
  readonly cache: CacheStatus;
}

export interface EdgeCacheParts {
  readonly config: Pick<Config, "cacheWaitMsMax" | "cacheProbeMsMax" | "cacheRemakesMax" | "cacheVariantsBytesMax">;
  readonly clock: Clock;
  readonly store: CacheStore;
  readonly functions: Pick<Functions, "invoke">;
  readonly forward: Forward;
  readonly blobs: Pick<BlobStore, "read">;
}

/** After a failure a stale answer is not made anew for so long. */
const remakePauseMs = 1000;
const habitsMax = 10_000;
const habitPathCharsMax = 256;

export class EdgeCache {
  readonly #parts: EdgeCacheParts;
  /** By variant: who makes an answer right now. */
  readonly #flights = new Map<string, Flight>();
  readonly #remaking = new Set<string>();
  readonly #pausedUntil = new Lru<string, number>(habitsMax);
  /** Whether the last answer of a Function at a path could be kept. */
  readonly #habits = new Lru<string, boolean>(habitsMax);

  readonly #hints: CacheHints;
  readonly #variants: KeptVariants;

  constructor(parts: EdgeCacheParts) {
    this.#parts = parts;
    this.#variants = new KeptVariants(parts.config);
    this.#hints = new CacheHints(parts.blobs);
  }

  /** Answers with a Function whose own headers say whether it is kept. @throws as {@link Forward.answer} */
  answer(exchange: Exchange, answer: FunctionAnswer): Promise<void> {
    const isCacheable = answer.isErrorPage !== true && !exchange.hasBody && isCacheableRequest(exchange);
    if (!isCacheable) return this.#parts.forward.answer(exchange, answer);
    return this.keep(exchange, answer, { key: keyOf(exchange, answer), storable: (head) => storable(head.status, head.headers) });
  }

  /** The answer to every GET of this address while it is kept and fresh; null: none is kept. */
  settle(exchange: Exchange, answer: FunctionAnswer): SettledAnswer | null {
    return this.settleAt(keyOf(exchange, answer), exchange, answer, isCacheableRequest);
  }

  /** @param isFor whether what is kept may be given to this request */
  settleAt(
    key: string,
    exchange: Exchange,
    answer: FunctionAnswer,
    isFor: (exchange: Exchange, kept: KeptAnswer) => boolean,
  ): SettledAnswer | null {
    const { store, clock } = this.#parts;
    if (store.peek(key, headerOf(exchange, answer)) === null) return null;
    let headers: readonly string[] | null = null;
    let isCoded = false;
    const heads = new Map<Coding | null, PreparedHead>();
    return {
      give: (asked) => {
        if (asked.header("if-none-match") !== undefined || store.refresh() !== null) return false;
        const kept = store.peek(key, headerOf(asked, answer));
        if (kept === null || !isFor(asked, kept)) return false;
        const agedMs = clock.now() - kept.madeAt;
        if (ageOf(kept, agedMs) !== "fresh") return false;
        const status = answer.status ?? kept.status;
        const cache = kept.prerendered === true ? "PRERENDER" : "HIT";
        const given = (): string[] => clientHeaders(kept.headers, { ...answer, cache });
        if (kept.headers !== headers) {
          heads.clear();
          ({ headers } = kept);
          isCoded = this.#variants.mayBeCoded(status, given(), kept);
        }
        const coding = isCoded ? negotiate(asked.header("accept-encoding")) : null;
        const variant = coding === null ? null : this.#variants.peek(kept, coding);
        if (variant === undefined) return false;
        const sent = variant === null ? null : coding;
        let head = heads.get(sent);
        if (head === undefined) {
          head = new PreparedHead(status, [...(isCoded ? codedHeaders(given(), sent) : given()), "server-timing", "settled"]);
          heads.set(sent, head);
        }
        asked.answeredBy = "cache";
        asked.cache = cache;
        asked.give(head, variant ?? kept.body, ageSeconds(agedMs));
        return true;
      },
    };
  }

  /** Answers with what is kept, or has it made. @throws as {@link Forward.answer} */
  async keep(exchange: Exchange, answer: FunctionAnswer, policy: CachePolicy): Promise<void> {
    const { store, clock } = this.#parts;
    const refreshing = store.refresh();
    if (refreshing !== null) await refreshing;
    const header = headerOf(exchange, answer);
    const kept = store.peek(policy.key, header) ?? (await this.#find(policy, header));
    if (kept === null) return this.#make(exchange, answer, policy, null);
    switch (ageOf(kept, clock.now() - kept.madeAt)) {
      case "fresh":
        return this.#give(exchange, answer, kept, kept.prerendered === true ? "PRERENDER" : "HIT");
      case "stale":
        this.#remake(exchange, answer, policy);
        return this.#give(exchange, answer, kept, isStandIn(kept) ? "PRERENDER" : "STALE");
      case "failing":
        return this.#make(exchange, answer, policy, kept);
      case "gone":
        return this.#make(exchange, answer, policy, null);
    }
  }

  /**
   * What is kept, or was made for it, for somebody else to give. A client's request shapes nothing of it: what could not be
   * kept for others is not made this way.
   * @param isRenewal it is made now, whatever is kept
   * @throws as {@link collect}
   */
  async obtain(exchange: Exchange, answer: FunctionAnswer, policy: CachePolicy, isRenewal: boolean): Promise<ObtainedAnswer> {
    const { store, clock, config } = this.#parts;
    const refreshing = store.refresh();
    if (refreshing !== null) await refreshing;
    const header = headerOf(exchange, answer);
    const kept = isRenewal ? null : await this.#find(policy, header);
    const age = kept === null ? "gone" : ageOf(kept, clock.now() - kept.madeAt);
    if (kept !== null && age === "fresh") return { kept, cache: kept.prerendered === true ? "PRERENDER" : "HIT" };
    if (kept !== null && age === "stale") {
      this.#remake(exchange, answer, policy);
      return { kept, cache: isStandIn(kept) ? "PRERENDER" : "STALE" };
    }
    const variant = store.variant(policy.key, header);
    const underWay = isRenewal ? undefined : this.#flights.get(variant);
    if (underWay !== undefined && (await underWay.wait(config.cacheWaitMsMax, clock, exchange))) {
      const made = store.peek(policy.key, header);
      if (made !== null) return { kept: made, cache: "HIT" };
    }
    const flight = this.#flights.has(variant) ? null : this.#beginFlight(variant);
    const madeAt = clock.now();
    let isKept = false;
    try {
      const response = await collect(this.#parts.functions, this.#making(exchange, answer, policy), store.answerBytesMax);
      const found = policy.storable(response);
      const made = keptAnswer(answer, response, found ?? { freshMs: 0, staleMs: 0, errorMs: 0, vary: [], tags: [] }, response.body, madeAt);
      if (response.status >= 500 && kept !== null && age === "failing") return { kept, cache: "STALE" };
      if (found !== null) store.keep(policy.key, header, made);
      isKept = found !== null;
      return { kept: made, cache: isRenewal ? "REVALIDATED" : "MISS" };
    } catch (error) {
      if (kept !== null && age === "failing") return { kept, cache: "STALE" };
      throw error;
    } finally {
      flight?.settle(isKept);
    }
  }

  /** Gives what was {@link obtain}ed, as it is. */
  give(exchange: Exchange, answer: FunctionAnswer, { kept, cache }: ObtainedAnswer): Promise<void> {
    return this.#give(exchange, answer, kept, cache);
  }

  /** What is kept, or came with the build. */
  async #find(policy: CachePolicy, header: Header): Promise<KeptAnswer | null> {
    const { store } = this.#parts;
    const held = store.peek(policy.key, header);
    if (held !== null) return held;
    const recalling = store.recall(policy.key, header);
    const recalled = recalling === null ? null : await recalling;
    if (recalled !== null || policy.seed === undefined) return recalled;
    const seed = await policy.seed();
    return seed === null ? null : store.admit(policy.key, header, seed);
  }

  /** Has it made now, whatever is kept. */
  async renew(exchange: Exchange, answer: FunctionAnswer, policy: CachePolicy): Promise<void> {
    await this.#parts.forward.answer(exchange, answer, {
      invoke: (invocation, sink) => this.#run(invocation, sink, exchange, answer, policy, null, null),
    });
  }

  // ── making ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** @param standIn given when making it fails */
  async #make(exchange: Exchange, answer: FunctionAnswer, policy: CachePolicy, standIn: KeptAnswer | null): Promise<void> {
    const { store, config, forward } = this.#parts;
    const header = headerOf(exchange, answer);
    const habit = `${answer.functionId} ${exchange.address.path.slice(0, habitPathCharsMax)}`;
    const keeps = policy.keeps ?? this.#habits.get(habit);
    const variant = store.variant(policy.key, header);
    const underWay = this.#flights.get(variant);
    if (underWay !== undefined && keeps !== false) {
      const spec = answer.manifest.functions[answer.functionId];
      const isLikely = keeps === true || (spec !== undefined && (await this.#hints.of(spec)));
      const isKept = await underWay.wait(isLikely ? config.cacheWaitMsMax : config.cacheProbeMsMax, this.#parts.clock, exchange);
      if (exchange.gone) return undefined;
      const kept = isKept ? store.peek(policy.key, header) : null;
      if (kept !== null) return this.#give(exchange, answer, kept, "HIT");
    }
    // Only a whole answer is kept: a HEAD request has the Function asked with GET where it is known to pay.
    if (exchange.method === "HEAD" && keeps !== true) return forward.answer(exchange, answer);
    // Nobody waits for what is not kept.
    const flight = keeps === false || this.#flights.has(variant) ? null : this.#beginFlight(variant);
    const learning: CachePolicy = {
      ...policy,
      ...(keeps === true ? { keeps } : {}),
      storable: (head) => {
        const found = policy.storable(head);
        if (head.status < 500) this.#habits.set(habit, found !== null);
        return found;
      },
    };
    let isBegun = false;
    try {
      await forward.answer(exchange, answer, {
        invoke: (invocation, sink) => {
          isBegun = true;
          return this.#run(invocation, sink, exchange, answer, learning, flight, standIn);
        },
      });
    } catch (error) {
      if (!(error instanceof StandIn)) throw error;
      return this.#give(exchange, answer, error.kept, "STALE");
    } finally {
      // What was begun may go on without its client.
      if (!isBegun) flight?.settle(false);
    }
    return undefined;
  }

  #beginFlight(variant: string): Flight {
    const flight = new Flight();
    this.#flights.set(variant, flight);
    void flight.settled.then(() => this.#flights.delete(variant));
    return flight;
  }

  /** Runs an invocation for a client and keeps what comes. */
  #run(
    invocation: Invocation,
    sink: ResponseSink,
    exchange: Exchange,
    answer: FunctionAnswer,
    policy: CachePolicy,
    flight: Flight | null,
    standIn: KeptAnswer | null,
  ): RunningInvocation {
    const { store, functions, clock } = this.#parts;
    const header = headerOf(exchange, answer);
    const madeAt = clock.now();
    const asked = policy.keeps === true ? this.#unconditional(invocation, policy) : invocation;
    const making = new Making({
      sink,
      flight,
      standIn,
      bytesMax: store.answerBytesMax,
      storable: (head) => policy.storable(head),
      keep: (head, found, body) => store.keep(policy.key, header, keptAnswer(answer, head, found, body, madeAt)),
    });
    return making.begin(functions, asked);
  }

  /** Makes a stale answer anew; nobody waits for it. */
  #remake(exchange: Exchange, answer: FunctionAnswer, policy: CachePolicy): void {
    const { store, clock, config } = this.#parts;
    const header = headerOf(exchange, answer);
    const variant = store.variant(policy.key, header);
    if (this.#remaking.has(variant) || this.#remaking.size >= config.cacheRemakesMax) return;
    if ((this.#pausedUntil.get(variant) ?? 0) > clock.elapsed()) return;
    if (answer.manifest.functions[answer.functionId] === undefined) return;
    this.#remaking.add(variant);
    void this.#collect(policy, header, this.#making(exchange, answer, policy), answer).finally(() => this.#remaking.delete(variant));
  }

  /** The invocation that makes an answer for whoever asks. */
  #making(exchange: Exchange, answer: FunctionAnswer, policy: CachePolicy): Invocation {
    const { manifest, url, functionId } = answer;
    const spec = manifest.functions[functionId];
    if (spec === undefined) throw new MayflyError("INTERNAL_ERROR", `The manifest names no Function "${functionId}".`);
    const headers = functionHeaders(exchange, answer);
    return this.#unconditional({ id: newRequestId(), manifest, spec, method: "GET", url, headers, body: null }, policy);
  }

  async #collect(policy: CachePolicy, header: Header, invocation: Invocation, answer: FunctionAnswer): Promise<void> {
    const { store, functions, clock } = this.#parts;
    const madeAt = clock.now();
    try {
      const response = await collect(functions, invocation, store.answerBytesMax);
      const found = policy.storable(response);
      if (found !== null) return store.keep(policy.key, header, keptAnswer(answer, response, found, response.body, madeAt));
      if (response.status < 500) return store.delete(policy.key, header);
    } catch {
      // What is kept stays, until it is too old to be given.
    }
    this.#pausedUntil.set(store.variant(policy.key, header), clock.elapsed() + remakePauseMs);
  }

  #unconditional(invocation: Invocation, policy: CachePolicy): Invocation {
    const headers: string[] = [];
    for (let index = 0; index < invocation.headers.length; index += 2) {
      const name = invocation.headers[index]!;
      if (!conditionalNames.has(name)) headers.push(name, invocation.headers[index + 1]!);
    }
    return { ...invocation, method: "GET", headers: policy.making?.(headers) ?? headers };
  }

  // ── giving ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  async #give(exchange: Exchange, answer: FunctionAnswer, kept: KeptAnswer, cache: CacheStatus): Promise<void> {
    let headers = clientHeaders(kept.headers, { ...answer, cache });
    const status = answer.status ?? kept.status;
    exchange.answeredBy = "cache";
    exchange.cache = cache;
    const isUnchanged = status === 200 && matchesEtag(exchange.header("if-none-match"), etagOf(kept.headers));
    let { body } = kept;
    if (this.#variants.mayBeCoded(status, headers, kept)) {
      const coding = isUnchanged ? null : negotiate(exchange.header("accept-encoding"));
      const variant = coding === null ? null : await this.#variants.of(kept, coding);
      headers = codedHeaders(headers, variant === null ? null : coding);
      body = variant ?? body;
    }
    headers.push("age", String(ageSeconds(this.#parts.clock.now() - kept.madeAt)));
    if (isUnchanged) {
      exchange.head(304, headers);
      return exchange.end();
    }
    return exchange.send(status, headers, body);
  }
}

function keyOf(exchange: Exchange, { manifest, url, functionId }: FunctionAnswer): string {
  const { address, request } = exchange;
  return `${manifest.deploymentId}\n${request.secure ? "https" : "http"}://${address.authority}${url}\n${functionId}`;
}

/** Of the build's, and never more than that. */
function isStandIn({ prerendered, freshMs }: KeptAnswer): boolean {
  return prerendered === true && freshMs === 0;
}

function ageSeconds(agedMs: number): number {
  return Math.max(0, Math.floor(agedMs / 1000));
}

const conditionalNames = new Set(["if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range"]);

function keptAnswer(answer: FunctionAnswer, head: ResponseHead, found: Storable, body: Buffer, madeAt: number): KeptAnswer {
  const { deploymentId, projectId } = answer.manifest;
  const headers: string[] = [];
  for (let index = 0; index < head.headers.length; index += 2) {
    const name = head.headers[index]!;
    if (isFramingHeader(name) || isPlatformResponseHeader(name) || isEdgeHeader(name) || name === "set-cookie") continue;
    headers.push(name, head.headers[index + 1]!);
  }
  return { ...found, deploymentId, projectId, status: head.status, headers, body, madeAt };
}

function etagOf(headers: readonly string[]): string | undefined {
  for (let index = 0; index < headers.length; index += 2) if (headers[index] === "etag") return headers[index + 1];
  return undefined;
}

/** Request headers as the Function sees them: of most that is what the client has sent. */
function headerOf(exchange: Exchange, answer: FunctionAnswer): Header {
  let seen: readonly string[] | null = null;
  return (name) => {
    if (answer.requestHeaders?.has(name) !== true && isPassedOn(exchange.request.headers, name)) return exchange.header(name);
    seen ??= functionHeaders(exchange, answer);
    const values = seen.filter((_, index) => index % 2 === 1 && seen![index - 1] === name);
    return values.length === 0 ? undefined : values.join(", ");
  };
}

/** Somebody makes an answer that others may wait for. */
class Flight {
  readonly #settled = Promise.withResolvers<boolean>();
  waiting = 0;

  /** Whether there is something kept now. */
  get settled(): Promise<boolean> {
    return this.#settled.promise;
  }

  settle(isKept: boolean): void {
    this.#settled.resolve(isKept);
  }

  /** false also when it takes too long, or the client goes. */
  async wait(ms: number, clock: Clock, exchange: Exchange): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const cancel = clock.after(ms, () => resolve(false));
    const stay = exchange.onGone(() => resolve(false));
    void this.settled.then(resolve);
    this.waiting++;
    const isKept = await promise;
    this.waiting--;
    cancel();
    stay();
    return isKept;
  }
}

/** What is kept is to be given, since making it anew has failed. */
class StandIn extends MayflyError {
  readonly kept: KeptAnswer;

  constructor(kept: KeptAnswer) {
    super("FUNCTION_UNAVAILABLE");
    this.kept = kept;
  }
}

/** One response on its way to a client, and into the cache when its head allows. */
class Making implements ResponseSink {
  /** null: the client has gone. */
  #sink: ResponseSink | null;
  readonly #flight: Flight | null;
  readonly #standIn: KeptAnswer | null;
  readonly #bytesMax: number;
  readonly #storable: (head: ResponseHead) => Storable | null;
  readonly #keep: (head: ResponseHead, found: Storable, body: Buffer) => void;
  #running: RunningInvocation | null = null;
  #head: ResponseHead | null = null;
  /** null: it is not, or no longer, to be kept. */
  #found: Storable | null = null;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #isSendingHead = false;

  constructor(options: {
    readonly sink: ResponseSink;
    readonly flight: Flight | null;
    readonly standIn: KeptAnswer | null;
    readonly bytesMax: number;
    readonly storable: (head: ResponseHead) => Storable | null;
    readonly keep: (head: ResponseHead, found: Storable, body: Buffer) => void;
  }) {
    this.#sink = options.sink;
    this.#flight = options.flight;
    this.#standIn = options.standIn;
    this.#bytesMax = options.bytesMax;
    this.#storable = options.storable;
    this.#keep = options.keep;
  }

  begin(functions: Pick<Functions, "invoke">, invocation: Invocation): RunningInvocation {
    const running = functions.invoke(invocation, this);
    this.#running = running;
    return {
      resume: () => running.resume(),
      cancel: () => {
        this.#sink = null;
        // Others wait for it, or the next one will be glad of it; but not of a head that cannot be sent.
        const isWanted = !this.#isSendingHead && (this.#found !== null || (this.#head === null && (this.#flight?.waiting ?? 0) > 0));
        if (!isWanted) this.#giveUp();
      },
    };
  }

  #giveUp(): void {
    this.#running?.cancel();
    this.#drop();
  }

  /** It will not be kept: whoever waits goes own ways. */
  #drop(): void {
    this.#found = null;
    this.#chunks = [];
    this.#flight?.settle(false);
  }

  head(head: ResponseHead): void {
    this.#head = head;
    if (this.#standIn !== null && head.status >= 500) {
      this.#giveUp();
      this.#sink?.fail(new StandIn(this.#standIn));
      this.#sink = null;
      return;
    }
    this.#found = this.#storable(head);
    if (this.#found === null) {
      this.#drop();
      if (this.#sink === null) return this.#running?.cancel();
    }
    this.#isSendingHead = true;
    this.#sink?.head(head);
    this.#isSendingHead = false;
  }

  data(chunk: Buffer): boolean {
    if (this.#found !== null) {
      this.#bytes += chunk.length;
      if (this.#bytes > this.#bytesMax) {
        this.#drop();
        if (this.#sink === null) this.#running?.cancel();
      } else {
        this.#chunks.push(chunk);
      }
    }
    const goOn = this.#sink?.data(chunk) ?? true;
    // A slow client must not hold back those who wait; what it has not taken yet is bounded by what is kept.
    return this.#found !== null || goOn;
  }

  end(): void {
    if (this.#found !== null && this.#head !== null) {
      this.#keep(this.#head, this.#found, Buffer.concat(this.#chunks, this.#bytes));
      this.#flight?.settle(true);
    } else {
      this.#drop();
    }
    this.#sink?.end();
  }

  fail(error: MayflyError): void {
    const failedEarly = this.#head === null;
    this.#drop();
    this.#sink?.fail(failedEarly && this.#standIn !== null ? new StandIn(this.#standIn) : error);
  }
}
