/**
 * Where a request leads within one deployment: the routes of the Build Output API v3, compiled once, then walked per
 * request. Pure: it reads no clock, file or socket, and never throws.
 *
 * ```
 * (null) ─▶ file? ─▶ filesystem ─▶ file? ─▶ rewrite ─▶ file? ─▶ resource ─▶ file? ─▶ error
 *             └─ found, in any of them: hit (headers only)       not found, in any of them: miss, kept if it finds a file
 * ```
 * A path is matched in one canonical spelling (see spelling.ts), so no percent-encoding slips past a rule. A middleware
 * halts the walk: the caller runs it and resumes with what it said.
 */
import type { Manifest, Output } from "../model.ts";
import type { HeaderChange } from "./header-change.ts";
import { isPictureAddress } from "./image-request.ts";
import { compileOutputs, type Found } from "./output-index.ts";
import { PatternTimeout } from "./pattern.ts";
import { compileRule, RuleList, type Condition, type Destination, type Locale, type Rule, type Transform } from "./rule.ts";
import { canonicalPath, decodeParameter, parseCookies, question, readablePath } from "./spelling.ts";
import {
  EndlessRewrite,
  expandLocation,
  headerText,
  parameterText,
  pathText,
  plainText,
  substitute,
  valueLengthMax,
  type Captures,
} from "./substitution.ts";

/** What routing reads of a request. */
export interface RouteRequest {
  readonly method: string;
  /** Lower-case, without port. */
  readonly host: string;
  /** As it was sent, beginning with "/". */
  readonly path: string;
  /** As it was sent, without "?"; empty when there is none. */
  readonly query: string;
  /** A request header's value by lower-case name. */
  header(name: string): string | undefined;
  /** Lower-case names of the headers, for transforms that choose by pattern. */
  headerNames?(): Iterable<string>;
}

export interface RouteHeader {
  /** Lower-case. */
  readonly name: string;
  readonly value: string;
  /** It also beats what a Function sets. */
  readonly important: boolean;
}

/** What routing leaves for every kind of answer. */
interface Passing {
  readonly headers: readonly RouteHeader[];
  /** Request headers that middleware or transforms set, by lower-case name; null: removed. */
  readonly requestHeaders?: ReadonlyMap<string, string | null>;
  readonly responseChanges?: readonly HeaderChange[];
}

export type Resolution = Passing &
  (
    | {
        readonly kind: "output";
        readonly output: Output;
        /** Its key in {@link Manifest.outputs}. */
        readonly path: string;
        /** Beats the status of a Function; absent: 200, or what the Function says. */
        readonly status?: number;
        /** Request target that the Function sees: the path that was asked for, its query and the routes' parameters. */
        readonly url: string;
        /** What the routes made of the path: `/posts/[id]`. */
        readonly matchedPath: string;
      }
    /** A picture in another size: an address of the optimiser, with its query. */
    | { readonly kind: "picture"; readonly path: string; readonly query: string }
    | { readonly kind: "redirect"; readonly status: number; readonly location: string }
    /** A status below 400 and no body. */
    | { readonly kind: "empty"; readonly status: number }
    /** No output answers: the platform's own page. */
    | { readonly kind: "error"; readonly status: number; readonly timedOut?: boolean }
    /** Another origin is to answer. */
    | { readonly kind: "external"; readonly url: string }
    /** A middleware is to be asked first. */
    | {
        readonly kind: "middleware";
        readonly functionId: string;
        /** Its output path. */
        readonly path: string;
        /** Request target that it sees. */
        readonly url: string;
        resume(effect: MiddlewareEffect): Resolution;
      }
  );

/** What a middleware that lets a request go on has said. */
export interface MiddlewareEffect {
  /** By lower-case name; null: removed. */
  readonly requestHeaders: ReadonlyMap<string, string | null>;
  /** For the client; a name may come more than once. */
  readonly responseHeaders: readonly RouteHeader[];
  /** Path and query that take the place of those asked for. */
  readonly rewrite: { readonly path: string; readonly query: string } | null;
}

export interface CompiledRoutes {
  resolve(request: RouteRequest): Resolution;
  /** The error phase for a request that failed after routing (a Function crashed). */
  resolveError(request: RouteRequest, status: number): Resolution;
}

/** A request that rewrites lead through more often walks in a circle. */
const rewritesMax = 100;
const parametersMax = 1000;
const headersMax = 500;

const phaseNames = ["none", "filesystem", "rewrite", "resource", "miss", "hit", "error"] as const;
type Phase = (typeof phaseNames)[number];
/** In which a request's path is looked for, in order. */
const search = ["none", "filesystem", "rewrite", "resource"] as const;

/** A manifest as a walk reads it. */
interface Site {
  readonly phases: Readonly<Record<Phase, RuleList>>;
  readonly outputs: ReadonlyMap<string, Found>;
  readonly manifest: RoutedManifest;
  /** Values that transforms may name. */
  environment(): Readonly<Record<string, string>>;
}

export type RoutedManifest = Pick<Manifest, "routes" | "outputs" | "caseSensitive" | "wildcard" | "images">;

/**
 * Compiles the routes of a manifest; a route whose pattern is no regular expression never matches.
 * @param environment the deployment's variables, asked for only when a transform names one
 */
export function compileRoutes(manifest: RoutedManifest, environment: () => Readonly<Record<string, string>> = () => ({})): CompiledRoutes {
  const rules = Object.fromEntries(phaseNames.map((name) => [name, { rules: [] as Rule[], sources: [] as string[] }])) as Record<
    Phase,
    { readonly rules: Rule[]; readonly sources: string[] }
  >;
  let phase: Phase = "none";
  for (const [order, route] of manifest.routes.entries()) {
    if ("handle" in route) {
      if (route.handle in rules) phase = route.handle;
      continue;
    }
    if (typeof route.src !== "string") continue;
    const rule = compileRule(route, order, manifest.caseSensitive);
    if (rule === null) continue;
    rules[phase].rules.push(rule);
    rules[phase].sources.push(route.src);
  }
  const phases = Object.fromEntries(phaseNames.map((name) => [name, new RuleList(rules[name].rules, rules[name].sources)])) as Record<
    Phase,
    RuleList
  >;
  let known: Readonly<Record<string, string>> | null = null;
  const site: Site = { phases, outputs: compileOutputs(manifest.outputs), manifest, environment: () => (known ??= environment()) };
  return {
    resolve: (request) => guarded(() => new Walk(site, request).resolve()),
    resolveError: (request, status) => guarded(() => new Walk(site, request).fail(status)),
  };
}

function guarded(walk: () => Resolution): Resolution {
  try {
    return walk();
  } catch (error) {
    if (error instanceof PatternTimeout) return { kind: "error", status: 500, timedOut: true, headers: [] };
    // Anything else could only be a regular expression that exhausts the engine's stack.
    return { kind: "error", status: error instanceof EndlessRewrite ? 508 : 500, headers: [] };
  }
}

// ── one request ───────────────────────────────────────────────────────────────────────────────────────────────────────

class Walk {
  readonly #site: Site;
  readonly #request: RouteRequest;
  /** Canonical. */
  #path: string;
  /** The same with percent-encoding undone, for patterns that are written in plain Unicode. */
  #readable: string | null = null;
  /** As the Function sees it. */
  #askedPath: string;
  #query: string;
  #headers = new Map<string, RouteHeader>();
  /** From middleware: what comes more than once, too. */
  #middlewareHeaders: readonly RouteHeader[] = [];
  readonly #requestHeaders = new Map<string, string | null>();
  readonly #responseChanges: HeaderChange[] = [];
  #status: number | undefined;
  /** Parameters that destinations added, decoded. */
  #added: [key: string, value: string][] = [];
  #asked: URLSearchParams | null = null;
  #cookies: ReadonlyMap<string, string> | null = null;
  #rewrites = 0;
  /** `$wildcard` of this host. */
  readonly #wildcard: ReadonlyMap<string, string> | null;

  constructor(site: Site, request: RouteRequest) {
    this.#site = site;
    this.#request = request;
    const path = request.path.includes("//") ? request.path.replaceAll(/\/{2,}/g, "/") : request.path;
    this.#path = canonicalPath(path);
    this.#askedPath = path === request.path ? path : this.#path;
    this.#query = request.query;
    const { wildcard } = site.manifest;
    const own = wildcard?.find(({ domain }) => request.host === domain || request.host.endsWith(`.${domain}`));
    this.#wildcard = own === undefined ? null : new Map([["wildcard", own.value]]);
  }

  resolve(): Resolution {
    // "//host" in a Location would lead to another origin: doubled slashes never reach a rule.
    if (this.#request.path.includes("//") && (this.#request.method === "GET" || this.#request.method === "HEAD")) {
      return { kind: "redirect", status: 308, location: this.#path + question(this.#query), headers: [] };
    }
    return this.#search(0, -1);
  }

  /** The phases that look for the path, from the rule after `order` of one of them. */
  #search(phaseIndex: number, order: number): Resolution {
    for (let index = phaseIndex; index < search.length; index++) {
      const found = this.#run(search[index]!, index === phaseIndex ? order : -1, index);
      if (found !== null) return found;
    }
    if (this.#site.phases.miss.all.length > 0) {
      // Nothing answers: now headers and status of miss rules count, though not the paths they tried.
      const path = this.#path;
      const missed = this.#run("miss");
      if (missed !== null) return missed;
      this.#moveTo(path);
    }
    return this.fail(this.#status !== undefined && this.#status >= 400 ? this.#status : 404);
  }

  /** The error phase. */
  fail(status: number): Resolution {
    this.#status = status;
    let answersNotFound = false;
    let ended = false;
    for (const rule of this.#site.phases.error.all) {
      if (rule.status !== undefined && rule.status !== status) continue;
      answersNotFound = true;
      if (ended) continue;
      const captures = this.#match(rule);
      if (captures === null) continue;
      this.#applyHeaders(rule, captures, "error");
      this.#transform(rule, captures);
      if (rule.destination !== null && !rule.destination.external) {
        const path = this.#path;
        this.#rewrite(rule.destination, captures);
        const found = this.#find(true);
        if (found !== null) return found;
        this.#moveTo(path);
      }
      if (!rule.continue) ended = true;
    }
    if (status === 404 && !answersNotFound) {
      const path = this.#path;
      this.#moveTo(this.#site.outputs.has("404.html") ? "/404.html" : "/404");
      const found = this.#find(true);
      if (found !== null) return found;
      this.#moveTo(path);
    }
    return { kind: "error", status, ...this.#passing() };
  }

  /**
   * Walks one phase; null: go on with the next.
   * @param after only rules after this one
   * @param searchIndex place in {@link search} from which a walk that a middleware halts is resumed; absent: middleware is passed by
   */
  #run(phase: Phase, after = -1, searchIndex?: number): Resolution | null {
    const list = this.#site.phases[phase];
    let from = this.#path;
    let candidates = list.candidates(from);
    let index = 0;
    let order = after;
    for (;;) {
      if (this.#path !== from) {
        // A rewritten path meets other rules, but only those that come later.
        from = this.#path;
        candidates = list.candidates(from);
        index = 0;
      }
      while (index < candidates.length && candidates[index]!.order <= order) index++;
      const rule = candidates[index];
      if (rule === undefined) break;
      ({ order } = rule);
      const captures = this.#match(rule);
      if (captures === null) continue;
      if (rule.middleware !== null) {
        const halt = searchIndex === undefined ? null : this.#halt(rule, searchIndex);
        if (halt !== null) return halt;
        continue;
      }
      this.#applyHeaders(rule, captures, phase);
      this.#transform(rule, captures);
      const { status, destination } = rule;
      if (rule.locale !== null) {
        const redirect = this.#localRedirect(rule.locale, status);
        if (redirect !== null) return redirect;
      }
      if (status !== undefined && isRedirect(status)) {
        const location = this.#headers.get("location")?.value ?? (destination === null ? null : this.#expand(destination, captures));
        if (location !== null) return this.#redirect(status, location);
      }
      if (destination === null) {
        if (status !== undefined) {
          if (rule.continue) this.#status = status;
          else if (status < 400) return { kind: "empty", status, ...this.#passing() };
          else if (phase !== "miss") return this.fail(status);
          else {
            this.#status = status;
            break;
          }
        }
      } else {
        if (destination.external) return { kind: "external", url: this.#expand(destination, captures), ...this.#passing() };
        this.#rewrite(destination, captures);
        if (status !== undefined) this.#status = status;
        if (rule.check) {
          const found = this.#find() ?? (phase === "miss" ? null : this.#attempt("miss"));
          if (found !== null) return found;
          const rewritten = phase === "miss" || phase === "rewrite" ? null : this.#attempt("rewrite");
          if (rewritten !== null) return rewritten;
          continue;
        }
      }
      if (!rule.continue) break;
    }
    return this.#find() ?? (phase === "miss" ? null : this.#attempt("miss"));
  }

  /** Stops at a middleware; null when there is none of this name. */
  #halt(rule: Rule, searchIndex: number): Resolution | null {
    const path = rule.middleware!.replace(/^\//, "");
    const { outputs } = this.#site.manifest;
    const output = Object.hasOwn(outputs, path) ? outputs[path] : undefined;
    if (output === undefined || output.kind === "static") return null;
    return {
      kind: "middleware",
      functionId: output.functionId,
      path,
      url: this.#url(this.#path === canonicalPath(this.#askedPath) ? null : this.#path),
      ...this.#passing(),
      resume: (effect) =>
        guarded(() => {
          this.#apply(effect);
          return this.#search(searchIndex, rule.order);
        }),
    };
  }

  #apply(effect: MiddlewareEffect): void {
    for (const [name, value] of effect.requestHeaders) this.#setRequestHeader(name, value);
    this.#middlewareHeaders = [...this.#middlewareHeaders, ...effect.responseHeaders].slice(0, headersMax);
    if (effect.rewrite === null) return;
    const { path, query } = effect.rewrite;
    this.#moveTo(canonicalPath(path.replaceAll(/\/{2,}/g, "/")));
    this.#askedPath = this.#path;
    this.#query = query;
    this.#asked = null;
    this.#added = [];
  }

  /** Walks a phase on trial: what it changed is kept only when it answers. */
  #attempt(phase: "miss" | "rewrite"): Resolution | null {
    if (this.#site.phases[phase].all.length === 0) return null;
    const kept = { path: this.#path, status: this.#status, headers: new Map(this.#headers), added: [...this.#added] };
    const changes = this.#responseChanges.length;
    if (phase === "miss" && this.#status === 404) this.#status = undefined;
    const found = this.#run(phase);
    if (found !== null) return found;
    this.#moveTo(kept.path);
    this.#status = kept.status;
    this.#headers = kept.headers;
    this.#added = kept.added;
    this.#responseChanges.length = changes;
    return null;
  }

  /** The output at the present path, with the headers of the hit phase. */
  #find(isErrorPage = false): Resolution | null {
    const path = this.#path.length > 1 && this.#path.endsWith("/") ? this.#path.slice(0, -1) : this.#path;
    const found = this.#site.outputs.get(path.slice(1));
    if (found === undefined) return isErrorPage ? null : this.#picture(path);
    for (const rule of this.#site.phases.hit.candidates(this.#path)) {
      const captures = this.#match(rule);
      if (captures === null) continue;
      this.#applyHeaders(rule, captures, "hit");
      this.#transform(rule, captures);
      if (!rule.continue) break;
    }
    return {
      kind: "output",
      output: found.output,
      path: found.key,
      ...(this.#status === undefined ? {} : { status: this.#status }),
      ...this.#passing(),
      url: this.#url(isErrorPage ? this.#path : null),
      matchedPath: this.#headers.get("x-matched-path")?.value ?? path,
    };
  }

  /** The optimiser's addresses are found where files are. */
  #picture(path: string): Resolution | null {
    if (!isPictureAddress(this.#site.manifest.images, path)) return null;
    const url = this.#url(path);
    return { kind: "picture", path, query: url.slice(path.length + 1), ...this.#passing() };
  }

  #redirect(status: number, location: string): Resolution {
    const hash = location.indexOf("#");
    const target = hash === -1 ? location : location.slice(0, hash);
    const kept = target.includes("?") ? location : target + question(this.#query) + location.slice(target.length);
    this.#headers.delete("location");
    return { kind: "redirect", status, location: kept, ...this.#passing() };
  }

  /** The start page in the visitor's language: that of the cookie, else the first accepted one that there is. */
  #localRedirect(locale: Locale, status: number | undefined): Resolution | null {
    if (this.#path !== "/") return null;
    const chosen = locale.cookie === null ? undefined : this.#cookie(locale.cookie);
    const wanted = [...(chosen === undefined ? [] : [chosen.toLowerCase()]), ...acceptedLanguages(this.#header("accept-language") ?? "")];
    for (const language of wanted) {
      const target = locale.redirect.get(language);
      if (target === undefined) continue;
      return target === "/" || target === this.#path ? null : this.#redirect(isRedirect(status ?? 0) ? status! : 307, target);
    }
    return null;
  }

  #match(rule: Rule): Captures | null {
    if (rule.methods !== null && !rule.methods.has(this.#request.method)) return null;
    const path = rule.relative ? this.#path.slice(1) : this.#path;
    let match = rule.pattern.match(path);
    if (match === null && path.includes("%")) {
      this.#readable ??= readablePath(this.#path);
      match = rule.pattern.match(rule.relative ? this.#readable.slice(1) : this.#readable);
    }
    if (match === null) return null;
    const { groupNames } = rule.pattern;
    if (rule.has.length === 0 && rule.missing.length === 0) return { match, groupNames, named: this.#wildcard };
    const named = new Map(this.#wildcard);
    for (const condition of rule.has) {
      const value = this.#valueOf(condition);
      const groups = value === undefined ? null : condition.test(value);
      if (groups === null) return null;
      for (const [name, text] of Object.entries(groups)) named.set(name, text);
    }
    for (const condition of rule.missing) {
      const value = this.#valueOf(condition);
      if (value !== undefined && condition.test(value) !== null) return null;
    }
    return { match, groupNames, named };
  }

  #valueOf(condition: Condition): string | undefined {
    switch (condition.type) {
      case "host":
        return this.#request.host;
      case "header":
        return condition.key === "host" ? this.#request.host : this.#header(condition.key);
      case "cookie":
        return this.#cookie(condition.key);
      case "query":
        return this.#askedQuery().getAll(condition.key).at(-1) ?? this.#added.find(([key]) => key === condition.key)?.[1];
    }
  }

  #header(name: string): string | undefined {
    const changed = this.#requestHeaders.get(name);
    return changed === undefined ? this.#request.header(name) : (changed ?? undefined);
  }

  #cookie(name: string): string | undefined {
    this.#cookies ??= parseCookies(this.#header("cookie") ?? "");
    return this.#cookies.get(name);
  }

  #setRequestHeader(name: string, value: string | null): void {
    if (this.#requestHeaders.size >= headersMax) return;
    this.#requestHeaders.set(name, value);
    if (name === "cookie") this.#cookies = null;
  }

  #applyHeaders(rule: Rule, captures: Captures, phase: Phase): void {
    for (const [name, template] of rule.headers) {
      const before = this.#headers.get(name);
      if (before !== undefined && (before.important || phase === "hit" || phase === "miss") && !rule.important) continue;
      const value = name === "location" ? expandLocation(template, captures) : substitute(template, captures, headerText);
      this.#headers.set(name, { name, value, important: rule.important });
    }
  }

  // ── transforms ──────────────────────────────────────────────────────────────────────────────────────────────────────

  #transform(rule: Rule, matched: Captures): void {
    for (const transform of rule.transforms) {
      const captures = transform.env.length === 0 ? matched : this.#withEnvironment(matched, transform.env);
      switch (transform.type) {
        case "request.headers":
          this.#transformRequestHeaders(transform, captures);
          break;
        case "request.query":
          this.#transformQuery(transform, captures);
          break;
        case "request.path":
          this.#transformPath(transform, captures);
          break;
        case "response.headers": {
          if (this.#responseChanges.length >= headersMax) break;
          const values = transform.values.map((template) => substitute(template, captures, headerText));
          this.#responseChanges.push({ op: transform.op, name: transform.key, matches: (name) => transform.matches(name), values });
          break;
        }
      }
    }
  }

  #withEnvironment(captures: Captures, names: readonly string[]): Captures {
    const environment = this.#site.environment();
    const named = new Map(captures.named);
    for (const name of names) named.set(name, Object.hasOwn(environment, name) ? environment[name]! : "");
    return { ...captures, named };
  }

  #transformRequestHeaders(transform: Transform, captures: Captures): void {
    const values = transform.values.map((template) => substitute(template, captures, headerText));
    const names =
      transform.key === null ? [...(this.#request.headerNames?.() ?? [])].filter((name) => transform.matches(name)) : [transform.key];
    for (const name of names) {
      if (transform.op === "delete") this.#setRequestHeader(name, null);
      else {
        const before = transform.op === "append" ? this.#header(name) : undefined;
        this.#setRequestHeader(name, [...(before === undefined ? [] : [before]), ...values].join(name === "cookie" ? "; " : ", "));
      }
    }
  }

  #transformQuery(transform: Transform, captures: Captures): void {
    const query = this.#askedQuery();
    const keys = transform.key === null ? [...new Set(query.keys())].filter((key) => transform.matches(key)) : [transform.key];
    for (const key of keys) {
      if (transform.op !== "append") {
        query.delete(key);
        this.#added = this.#added.filter(([added]) => added !== key);
      }
      if (transform.op !== "delete") for (const template of transform.values) query.append(key, substitute(template, captures, plainText));
    }
    if (query.size > parametersMax) throw new EndlessRewrite();
    this.#query = query.toString();
  }

  #transformPath(transform: Transform, captures: Captures): void {
    if (++this.#rewrites > rewritesMax) throw new EndlessRewrite();
    const text = transform.values.map((template) => substitute(template, captures, pathText)).join("");
    let path = text;
    if (transform.op === "append") path = this.#path + text;
    else if (transform.op === "delete") path = this.#path.startsWith(text) ? this.#path.slice(text.length) : this.#path;
    path = canonicalPath(`/${path}`.replaceAll(/\/{2,}/g, "/"));
    this.#moveTo(path);
    this.#askedPath = path;
  }

  // ── where it leads ──────────────────────────────────────────────────────────────────────────────────────────────────

  #rewrite(destination: Destination, captures: Captures): void {
    if (++this.#rewrites > rewritesMax) throw new EndlessRewrite();
    const path = substitute(destination.path, captures, pathText).replaceAll(/\/{2,}/g, "/");
    this.#moveTo(canonicalPath(path.startsWith("/") ? path : `/${path}`));
    const taken = new Set(this.#added.map(([key]) => key));
    for (const [rawKey, template] of destination.query) {
      const key = decodeParameter(rawKey);
      if (taken.has(key) || this.#askedQuery().has(key)) continue;
      this.#added.push([key, decodeParameter(substitute(template, captures, parameterText))]);
    }
    if (this.#added.length > parametersMax) throw new EndlessRewrite();
  }

  /** A destination as one string: for another origin, and for redirects that name no Location. */
  #expand(destination: Destination, captures: Captures): string {
    const query = destination.query.map(([key, template]) => `${key}=${substitute(template, captures, parameterText)}`);
    const asked = destination.external && this.#query !== "" ? [...query, this.#query] : query;
    return substitute(destination.path, captures, pathText) + question(asked.join("&"));
  }

  #moveTo(path: string): void {
    if (path.length > valueLengthMax) throw new EndlessRewrite();
    if (path !== this.#path) this.#readable = null;
    this.#path = path;
  }

  #askedQuery(): URLSearchParams {
    return (this.#asked ??= new URLSearchParams(this.#query));
  }

  #url(instead: string | null): string {
    const path = instead ?? this.#askedPath;
    if (this.#added.length === 0) return path + question(this.#query);
    const added = new URLSearchParams(this.#added).toString();
    return `${path}?${this.#query === "" ? added : `${this.#query}&${added}`}`;
  }

  #passing(): Passing {
    const headers = this.#headers.size === 0 ? this.#middlewareHeaders : [...this.#middlewareHeaders, ...this.#headers.values()];
    return {
      headers,
      ...(this.#requestHeaders.size === 0 ? {} : { requestHeaders: this.#requestHeaders }),
      ...(this.#responseChanges.length === 0 ? {} : { responseChanges: this.#responseChanges }),
    };
  }
}

function isRedirect(status: number): boolean {
  return status === 301 || status === 302 || status === 303 || status === 307 || status === 308;
}

/** Lower-case, the preferred first; `fr-CH` also means `fr`, after those that were named. */
function acceptedLanguages(header: string): readonly string[] {
  const named = header
    .toLowerCase()
    .split(",")
    .slice(0, 50)
    .map((range) => {
      const [language = "", weight] = range.split(";").map((part) => part.trim());
      return { language, q: weight?.startsWith("q=") === true ? Number(weight.slice(2)) : 1 };
    })
    .filter(({ language, q }) => language !== "" && q > 0)
    .sort((a, b) => b.q - a.q)
    .map(({ language }) => language);
  return [...named, ...named.filter((language) => language.includes("-")).map((language) => language.split("-", 1)[0]!)];
}
