/**
 * Where a request leads within one deployment: the routes of the Build Output API v3, compiled once, then walked per
 * request. Pure: it reads no clock, file or socket, and never throws.
 *
 * ```
 * (null) ─▶ file? ─▶ filesystem ─▶ file? ─▶ rewrite ─▶ file? ─▶ resource ─▶ file? ─▶ error
 *             └─ found, in any of them: hit (headers only)       not found, in any of them: miss, kept if it finds a file
 * ```
 * A path is matched in one canonical spelling (see {@link canonicalPath}), so no percent-encoding slips past a rule.
 * Absent on purpose, until there is a runtime for them: middleware, transforms, locale and wildcard; the build refuses
 * deployments that need them, and routes of that kind are left out here.
 */
import createPcre from "pcre-to-regexp";
import type { Manifest, Output, RouteCondition, RouteRule } from "../model.ts";

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
}

export interface RouteHeader {
  /** Lower-case. */
  readonly name: string;
  readonly value: string;
  /** It also beats what a Function sets. */
  readonly important: boolean;
}

export type Resolution =
  | {
      readonly kind: "output";
      readonly output: Output;
      /** Its key in {@link Manifest.outputs}. */
      readonly path: string;
      /** Beats the status of a Function; absent: 200, or what the Function says. */
      readonly status?: number;
      readonly headers: readonly RouteHeader[];
      /** Request target that the Function sees: the path that was asked for, its query and the routes' parameters. */
      readonly url: string;
      /** What the routes made of the path: `/posts/[id]`. */
      readonly matchedPath: string;
    }
  | { readonly kind: "redirect"; readonly status: number; readonly location: string; readonly headers: readonly RouteHeader[] }
  /** A status below 400 and no body. */
  | { readonly kind: "empty"; readonly status: number; readonly headers: readonly RouteHeader[] }
  /** No output answers: the platform's own page. */
  | { readonly kind: "error"; readonly status: number; readonly headers: readonly RouteHeader[] }
  /** Another origin is to answer. */
  | { readonly kind: "external"; readonly url: string; readonly headers: readonly RouteHeader[] };

export interface CompiledRoutes {
  resolve(request: RouteRequest): Resolution;
  /** The error phase for a request that failed after routing (a Function crashed). */
  resolveError(request: RouteRequest, status: number): Resolution;
}

/** A request that rewrites lead through more often walks in a circle. */
const rewritesMax = 100;
/** Longest path, header or parameter that substitution may make; a route like `/(.*)` → `/$1$1` would double it for ever. */
const valueLengthMax = 16_384;

type Phase = "none" | "filesystem" | "rewrite" | "resource" | "miss" | "hit" | "error";

interface Rule {
  readonly pattern: RegExp;
  /** Names of numbered groups, where the pattern's own syntax could not keep them. */
  readonly groupNames: readonly (string | undefined)[];
  /** The pattern is written without a leading slash. */
  readonly relative: boolean;
  readonly methods: ReadonlySet<string> | null;
  readonly headers: readonly (readonly [name: string, template: string])[];
  readonly destination: Destination | null;
  readonly status: number | undefined;
  readonly continue: boolean;
  readonly check: boolean;
  readonly important: boolean;
  readonly has: readonly Condition[];
  readonly missing: readonly Condition[];
}

interface Destination {
  /** Path template, or the whole template of another origin's URL. */
  readonly path: string;
  /** Raw key and raw value template of each parameter. */
  readonly query: readonly (readonly [key: string, template: string])[];
  readonly external: boolean;
}

interface Condition {
  readonly type: RouteCondition["type"];
  readonly key: string;
  /** The groups of a match, or null when the value does not satisfy it. */
  test(value: string): Readonly<Record<string, string>> | null;
}

interface Found {
  readonly key: string;
  readonly output: Output;
}

/** Compiles the routes of a manifest; a route whose pattern is no regular expression never matches. */
export function compileRoutes(manifest: Pick<Manifest, "routes" | "outputs" | "caseSensitive">): CompiledRoutes {
  const phases: Record<Phase, Rule[]> = { none: [], filesystem: [], rewrite: [], resource: [], miss: [], hit: [], error: [] };
  let phase: Phase = "none";
  for (const route of manifest.routes) {
    if ("handle" in route) {
      if (route.handle in phases) phase = route.handle;
      continue;
    }
    if (typeof route.src !== "string" || route.middlewarePath !== undefined) continue;
    const rule = compileRule(route, manifest.caseSensitive);
    if (rule !== null) phases[phase].push(rule);
  }
  const outputs = compileOutputs(manifest.outputs);
  return {
    resolve: (request) => guarded(request, () => new Walk(phases, outputs, request).resolve()),
    resolveError: (request, status) => guarded(request, () => new Walk(phases, outputs, request).fail(status)),
  };
}

/** Thrown inside a walk when rewrites do not end; never leaves this file. */
class EndlessRewrite extends Error {}

function guarded(request: RouteRequest, walk: () => Resolution): Resolution {
  try {
    return walk();
  } catch (error) {
    // Anything else could only be a regular expression that exhausts the engine's stack.
    return { kind: "error", status: error instanceof EndlessRewrite ? 508 : 500, headers: [] };
  }
}

// ── one request ───────────────────────────────────────────────────────────────────────────────────────────────────────

class Walk {
  readonly #phases: Readonly<Record<Phase, readonly Rule[]>>;
  readonly #outputs: ReadonlyMap<string, Found>;
  readonly #request: RouteRequest;
  /** Canonical. */
  #path: string;
  /** The same with percent-encoding undone, for patterns that are written in plain Unicode. */
  #readable: string | null = null;
  #headers = new Map<string, RouteHeader>();
  #status: number | undefined;
  /** Parameters that destinations added, decoded. */
  #added: [key: string, value: string][] = [];
  #asked: URLSearchParams | null = null;
  #cookies: ReadonlyMap<string, string> | null = null;
  #rewrites = 0;

  constructor(phases: Readonly<Record<Phase, readonly Rule[]>>, outputs: ReadonlyMap<string, Found>, request: RouteRequest) {
    this.#phases = phases;
    this.#outputs = outputs;
    this.#request = request;
    this.#path = canonicalPath(request.path.includes("//") ? request.path.replaceAll(/\/{2,}/g, "/") : request.path);
  }

  resolve(): Resolution {
    // "//host" in a Location would lead to another origin: doubled slashes never reach a rule.
    if (this.#request.path.includes("//") && (this.#request.method === "GET" || this.#request.method === "HEAD")) {
      return { kind: "redirect", status: 308, location: this.#path + question(this.#request.query), headers: [] };
    }
    const found = this.#run("none") ?? this.#run("filesystem") ?? this.#run("rewrite") ?? this.#run("resource");
    if (found !== null) return found;
    if (this.#phases.miss.length > 0) {
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
    for (const rule of this.#phases.error) {
      if (rule.status !== undefined && rule.status !== status) continue;
      answersNotFound = true;
      if (ended) continue;
      const captures = this.#match(rule);
      if (captures === null) continue;
      this.#applyHeaders(rule, captures, "error");
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
      this.#moveTo(this.#outputs.has("404.html") ? "/404.html" : "/404");
      const found = this.#find(true);
      if (found !== null) return found;
      this.#moveTo(path);
    }
    return { kind: "error", status, headers: this.#headerList() };
  }

  /** Walks one phase; null: go on with the next. */
  #run(phase: Phase): Resolution | null {
    for (const rule of this.#phases[phase]) {
      const captures = this.#match(rule);
      if (captures === null) continue;
      this.#applyHeaders(rule, captures, phase);
      const { status, destination } = rule;
      if (status !== undefined && isRedirect(status)) {
        const location = this.#headers.get("location")?.value ?? (destination === null ? null : this.#expand(destination, captures));
        if (location !== null) return this.#redirect(status, location);
      }
      if (destination === null) {
        if (status !== undefined) {
          if (rule.continue) this.#status = status;
          else if (status < 400) return { kind: "empty", status, headers: this.#headerList() };
          else if (phase !== "miss") return this.fail(status);
          else {
            this.#status = status;
            break;
          }
        }
      } else {
        if (destination.external) return { kind: "external", url: this.#expand(destination, captures), headers: this.#headerList() };
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

  /** Walks a phase on trial: what it changed is kept only when it answers. */
  #attempt(phase: "miss" | "rewrite"): Resolution | null {
    if (this.#phases[phase].length === 0) return null;
    const kept = { path: this.#path, status: this.#status, headers: new Map(this.#headers), added: [...this.#added] };
    if (phase === "miss" && this.#status === 404) this.#status = undefined;
    const found = this.#run(phase);
    if (found !== null) return found;
    this.#moveTo(kept.path);
    this.#status = kept.status;
    this.#headers = kept.headers;
    this.#added = kept.added;
    return null;
  }

  /** The output at the present path, with the headers of the hit phase. */
  #find(isErrorPage = false): Resolution | null {
    const path = this.#path.length > 1 && this.#path.endsWith("/") ? this.#path.slice(0, -1) : this.#path;
    const found = this.#outputs.get(path.slice(1));
    if (found === undefined) return null;
    for (const rule of this.#phases.hit) {
      const captures = this.#match(rule);
      if (captures === null) continue;
      this.#applyHeaders(rule, captures, "hit");
      if (!rule.continue) break;
    }
    return {
      kind: "output",
      output: found.output,
      path: found.key,
      ...(this.#status === undefined ? {} : { status: this.#status }),
      headers: this.#headerList(),
      url: this.#url(isErrorPage ? this.#path : null),
      matchedPath: this.#headers.get("x-matched-path")?.value ?? path,
    };
  }

  #redirect(status: number, location: string): Resolution {
    const hash = location.indexOf("#");
    const target = hash === -1 ? location : location.slice(0, hash);
    const kept = target.includes("?") ? location : target + question(this.#request.query) + location.slice(target.length);
    this.#headers.delete("location");
    return { kind: "redirect", status, location: kept, headers: this.#headerList() };
  }

  #match(rule: Rule): Captures | null {
    if (rule.methods !== null && !rule.methods.has(this.#request.method)) return null;
    const path = rule.relative ? this.#path.slice(1) : this.#path;
    let match = rule.pattern.exec(path);
    if (match === null && path.includes("%")) {
      this.#readable ??= readablePath(this.#path);
      match = rule.pattern.exec(rule.relative ? this.#readable.slice(1) : this.#readable);
    }
    if (match === null) return null;
    if (rule.has.length === 0 && rule.missing.length === 0) return { match, groupNames: rule.groupNames, named: null };
    const named = new Map<string, string>();
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
    return { match, groupNames: rule.groupNames, named };
  }

  #valueOf(condition: Condition): string | undefined {
    switch (condition.type) {
      case "host":
        return this.#request.host;
      case "header":
        return condition.key === "host" ? this.#request.host : this.#request.header(condition.key);
      case "cookie":
        this.#cookies ??= parseCookies(this.#request.header("cookie") ?? "");
        return this.#cookies.get(condition.key);
      case "query":
        return this.#askedQuery().getAll(condition.key).at(-1) ?? this.#added.find(([key]) => key === condition.key)?.[1];
    }
  }

  #applyHeaders(rule: Rule, captures: Captures, phase: Phase): void {
    for (const [name, template] of rule.headers) {
      const before = this.#headers.get(name);
      if (before !== undefined && (before.important || phase === "hit" || phase === "miss") && !rule.important) continue;
      const value = name === "location" ? expandLocation(template, captures) : substitute(template, captures, headerText);
      this.#headers.set(name, { name, value, important: rule.important });
    }
  }

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
    if (this.#added.length > 1000) throw new EndlessRewrite();
  }

  /** A destination as one string: for another origin, and for redirects that name no Location. */
  #expand(destination: Destination, captures: Captures): string {
    const query = destination.query.map(([key, template]) => `${key}=${substitute(template, captures, parameterText)}`);
    const asked = destination.external && this.#request.query !== "" ? [...query, this.#request.query] : query;
    return substitute(destination.path, captures, pathText) + question(asked.join("&"));
  }

  #moveTo(path: string): void {
    if (path.length > valueLengthMax) throw new EndlessRewrite();
    if (path !== this.#path) this.#readable = null;
    this.#path = path;
  }

  #askedQuery(): URLSearchParams {
    return (this.#asked ??= new URLSearchParams(this.#request.query));
  }

  #url(errorPath: string | null): string {
    const path = errorPath ?? (this.#request.path.includes("//") ? this.#path : this.#request.path);
    if (this.#added.length === 0) return path + question(this.#request.query);
    const added = new URLSearchParams(this.#added).toString();
    return `${path}?${this.#request.query === "" ? added : `${this.#request.query}&${added}`}`;
  }

  #headerList(): readonly RouteHeader[] {
    return this.#headers.size === 0 ? [] : [...this.#headers.values()];
  }
}

// ── substitution ──────────────────────────────────────────────────────────────────────────────────────────────────────

interface Captures {
  readonly match: RegExpExecArray;
  readonly groupNames: readonly (string | undefined)[];
  /** From `has` conditions: what a client sent, decoded. */
  readonly named: ReadonlyMap<string, string> | null;
}

/** How a captured text is written into its new place. `encoded`: it is still in the spelling of a URL's path. */
type Writer = (text: string, encoded: boolean) => string;

const pathText: Writer = (text) => encodePathText(text);
const parameterText: Writer = (text, encoded) => encodeURIComponent(encoded ? decodeLoosely(text) : text.toWellFormed());
const headerText: Writer = (text) =>
  text.replaceAll(/[^\t\u0020-\u007e\u0080-\u00ff]+/g, (chars) => encodeURIComponent(chars.toWellFormed()));

/** Replaces `$1`, `$name`; what was not captured is empty. */
function substitute(template: string, captures: Captures, write: Writer): string {
  if (!template.includes("$")) return template;
  let text = "";
  let last = 0;
  const reference = /\$(?:(\d+)|([A-Za-z_][\w-]*))/g;
  for (let found = reference.exec(template); found !== null; found = reference.exec(template)) {
    text += template.slice(last, found.index);
    const [, number, word] = found;
    if (number !== undefined) {
      text += write(captures.match[Number(number)] ?? "", true);
      last = reference.lastIndex;
    } else {
      // A header's name may have dashes ("$x-user"); "$id-card" is the group "id" and "-card".
      let name = word!;
      let value = capture(captures, name, write);
      while (value === null && name.includes("-")) {
        name = name.slice(0, name.lastIndexOf("-"));
        value = capture(captures, name, write);
      }
      text += value ?? "";
      last = found.index + 1 + name.length;
      reference.lastIndex = last;
    }
    if (text.length > valueLengthMax) throw new EndlessRewrite();
  }
  return text + template.slice(last);
}

function capture(captures: Captures, name: string, write: Writer): string | null {
  const groups = captures.match.groups;
  if (groups !== undefined && Object.hasOwn(groups, name)) return write(groups[name] ?? "", true);
  const index = captures.groupNames.indexOf(name);
  if (index !== -1) return write(captures.match[index + 1] ?? "", true);
  const value = captures.named?.get(name);
  return value === undefined ? null : write(value, false);
}

/** A template that stays on this origin yields a Location that does. */
function expandLocation(template: string, captures: Captures): string {
  const location = substitute(template, captures, pathText);
  return template.startsWith("/") && !/^\/[/\\]/.test(template) ? location.replace(/^\/[/\\]+/, "/") : location;
}

// ── spelling ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const plainPath = /^[\w\-.~!$&'()*+,;=:@[\]/]*$/;

/**
 * One spelling for every path that means the same: each segment decoded, then what may stand literally in a path is
 * literal and all else is percent-encoded. An encoded slash stays encoded, so it never becomes a separator. Invalid
 * percent-encoding is taken literally.
 */
function canonicalPath(path: string): string {
  if (plainPath.test(path)) return path;
  return path
    .split("/")
    .map((segment) => {
      try {
        return encodeSegment(decodeURIComponent(segment));
      } catch {
        return encodePathText(segment.toWellFormed());
      }
    })
    .join("/");
}

/** A decoded segment in canonical spelling. */
function encodeSegment(text: string): string {
  return text.toWellFormed().replaceAll(/[^\w\-.~!$&'()*+,;=:@[\]]+/g, (chars) => encodeURIComponent(chars));
}

/** Text that may hold percent-encoding already, made fit for a path. */
function encodePathText(text: string): string {
  return text
    .toWellFormed()
    .replaceAll(/[^\w\-.~!$&'()*+,;=:@[\]/%]+/g, (chars) => encodeURIComponent(chars))
    .replaceAll(/%(?![0-9A-Fa-f]{2})/g, "%25");
}

function readablePath(path: string): string {
  try {
    return decodeURI(path);
  } catch {
    return path;
  }
}

function decodeLoosely(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text.toWellFormed();
  }
}

function decodeParameter(text: string): string {
  return decodeLoosely(text.replaceAll("+", " "));
}

function question(query: string): string {
  return query === "" ? "" : `?${query}`;
}

function isRedirect(status: number): boolean {
  return status === 301 || status === 302 || status === 303 || status === 307 || status === 308;
}

function parseCookies(header: string): ReadonlyMap<string, string> {
  const cookies = new Map<string, string>();
  for (const pair of header.split(";")) {
    const equals = pair.indexOf("=");
    if (equals === -1) continue;
    const name = pair.slice(0, equals).trim();
    if (!cookies.has(name)) cookies.set(name, decodeLoosely(pair.slice(equals + 1).trim()));
  }
  return cookies;
}

// ── compiling ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function compileRule(route: RouteRule, caseSensitiveDefault: boolean): Rule | null {
  // Builders leave anchors out ("/((?!index$).*?)(?:/)?"), and mean the whole path.
  const source = `${route.src.startsWith("^") ? "" : "^"}${route.src}${route.src.endsWith("$") ? "" : "$"}`;
  const pattern = compilePattern(source, route.caseSensitive === true || caseSensitiveDefault ? "" : "i");
  if (pattern === null) return null;
  const has = (route.has ?? []).map(compileCondition);
  const missing = (route.missing ?? []).map(compileCondition);
  if (has.includes(null)) return null;
  return {
    ...pattern,
    relative: /^\^?\w/.test(route.src),
    methods: route.methods === undefined ? null : new Set(route.methods.map((method) => method.toUpperCase())),
    headers: Object.entries(route.headers ?? {})
      .map(([name, value]) => [name.toLowerCase(), value] as const)
      // An invalid name or value would make Node refuse the whole response.
      .filter(([name, value]) => /^[!#$%&'*+\-.^_`|~\w]+$/.test(name) && /^[\t\u0020-\u007e\u0080-\u00ff]*$/.test(value))
      .filter(([name]) => !framingNames.has(name)),
    destination: route.dest === undefined ? null : compileDestination(route.dest),
    status: route.status !== undefined && route.status >= 200 && route.status <= 599 ? route.status : undefined,
    continue: route.continue === true,
    check: route.check === true,
    important: route.important === true,
    has: has.filter((condition) => condition !== null),
    missing: missing.filter((condition) => condition !== null),
  };
}

/** What frames a message is not a route's to say. */
const framingNames = new Set(["content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "trailer"]);

function compilePattern(source: string, flags: "" | "i"): Pick<Rule, "pattern" | "groupNames"> | null {
  // JavaScript reads nearly all PCRE that builders write, and numbers nested groups rightly.
  if (!/\[:\w+:\]|\(\?'/.test(source)) {
    try {
      return { pattern: new RegExp(source.replaceAll("(?P<", "(?<"), flags), groupNames: [] };
    } catch {
      // Left to the converter, which knows more syntax.
    }
  }
  try {
    const groupNames: string[] = [];
    return { pattern: createPcre(`%${source}%${flags}`, groupNames), groupNames };
  } catch {
    return null;
  }
}

function compileDestination(dest: string): Destination {
  const external = /^[a-z][a-z\d+.-]*:\/\//i.test(dest);
  const withoutHash = external ? dest : dest.replace(/#.*$/s, "");
  const mark = withoutHash.indexOf("?");
  const query = mark === -1 ? "" : withoutHash.slice(mark + 1);
  return {
    path: mark === -1 ? withoutHash : withoutHash.slice(0, mark),
    query: query
      .split("&")
      .filter((pair) => pair !== "")
      .map((pair) => {
        const equals = pair.indexOf("=");
        return equals === -1 ? [pair, ""] : [pair.slice(0, equals), pair.slice(equals + 1)];
      }),
    external,
  };
}

/** null: the condition can never hold. */
function compileCondition(condition: RouteCondition): Condition | null {
  const key = condition.type === "header" ? (condition.key ?? "").toLowerCase() : (condition.key ?? "");
  const name = condition.type === "host" ? "host" : (condition.key ?? "");
  const { type, value } = condition;
  if (value === undefined) return { type, key, test: (text) => ({ [name]: text }) };
  if (typeof value !== "string") return { type, key, test: (text) => (satisfies(text, value) ? { [name]: text } : null) };
  const pattern = compilePattern(`^(?:${value})$`, type === "host" ? "i" : "");
  if (pattern === null) return null;
  return {
    type,
    key,
    test(text) {
      const match = pattern.pattern.exec(text);
      if (match === null) return null;
      const groups: Record<string, string> = { [name]: text };
      for (const [group, captured] of Object.entries(match.groups ?? {})) groups[group] = captured ?? "";
      for (const [index, group] of pattern.groupNames.entries()) if (group !== undefined) groups[group] = match[index + 1] ?? "";
      return groups;
    },
  };
}

/** The object form of a condition: every operator must hold; an unknown one does not. */
function satisfies(text: string, operators: Readonly<Record<string, unknown>>): boolean {
  return Object.entries(operators).every(([operator, operand]) => {
    const list = Array.isArray(operand) ? operand.map(String) : [];
    switch (operator) {
      case "eq":
        return text === String(operand);
      case "neq":
        return text !== String(operand);
      case "inc":
        return list.includes(text);
      case "ninc":
        return !list.includes(text);
      case "pre":
        return text.startsWith(String(operand));
      case "suf":
        return text.endsWith(String(operand));
      case "re":
        return compilePattern(String(operand), "")?.pattern.test(text) ?? false;
      case "gt":
        return Number(text) > Number(operand);
      case "gte":
        return Number(text) >= Number(operand);
      case "lt":
        return Number(text) < Number(operand);
      case "lte":
        return Number(text) <= Number(operand);
      default:
        return false;
    }
  });
}

/**
 * Canonical path without leading slash → output; directories lead to their index: `index`, `index.html`, then a
 * Function `index.<ext>` and a file `index.<ext>` (the legacy `builds` keep extensions).
 */
function compileOutputs(outputs: Manifest["outputs"]): ReadonlyMap<string, Found> {
  const found = new Map<string, Found>();
  const indexes: { directory: string; rank: number; found: Found }[] = [];
  for (const [key, output] of Object.entries(outputs)) {
    const path = key.split("/").map(encodeSegment).join("/");
    found.set(path, { key, output });
    const index = /^(?:(.*)\/)?index(\.[^./]+)?$/.exec(path);
    if (index === null) continue;
    const rank = index[2] === undefined ? 0 : index[2] === ".html" ? 1 : output.kind === "function" ? 2 : 3;
    indexes.push({ directory: index[1] ?? "", rank, found: { key, output } });
  }
  indexes.sort((a, b) => a.rank - b.rank);
  for (const index of indexes) {
    if (!found.has(index.directory)) found.set(index.directory, index.found);
  }
  return found;
}
