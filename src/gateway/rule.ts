/**
 * One route of the Build Output API, compiled: its pattern, conditions, destination and transforms; and the rules of one
 * phase, found by a path's first segment, so that a thousand redirects cost a request no more than ten. Pure.
 */
import type { RouteCondition, RouteRule, RouteTransform } from "../model.ts";
import { compilePattern, type Pattern } from "./pattern.ts";
import { headerText } from "./substitution.ts";

export interface Rule {
  /** Place in the phase. */
  readonly order: number;
  readonly pattern: Pattern;
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
  readonly transforms: readonly Transform[];
  /** Output path of a middleware, or null. */
  readonly middleware: string | null;
  readonly locale: Locale | null;
}

export interface Destination {
  /** Path template, or the whole template of another origin's URL. */
  readonly path: string;
  /** Raw key and raw value template of each parameter. */
  readonly query: readonly (readonly [key: string, template: string])[];
  readonly external: boolean;
}

export interface Condition {
  readonly type: RouteCondition["type"];
  readonly key: string;
  /** The groups of a match, or null when the value does not satisfy it. */
  test(value: string): Readonly<Record<string, string>> | null;
}

export interface Transform {
  readonly type: RouteTransform["type"];
  readonly op: RouteTransform["op"];
  /** What it changes; null: whatever {@link Transform.matches}. */
  readonly key: string | null;
  matches(key: string): boolean;
  /** Templates. */
  readonly values: readonly string[];
  readonly env: readonly string[];
}

export interface Locale {
  /** Lower-case language → where its pages begin. */
  readonly redirect: ReadonlyMap<string, string>;
  readonly cookie: string | null;
}

/** null: its pattern is no regular expression, or a condition can never hold. */
export function compileRule(route: RouteRule, order: number, caseSensitiveDefault: boolean): Rule | null {
  const pattern = compilePattern(anchored(route.src), route.caseSensitive !== true && !caseSensitiveDefault);
  if (pattern === null) return null;
  const has = (route.has ?? []).map(compileCondition);
  const missing = (route.missing ?? []).map(compileCondition);
  if (has.includes(null)) return null;
  return {
    order,
    pattern,
    relative: /^\^?\w/.test(route.src),
    methods: route.methods === undefined ? null : new Set(route.methods.map((method) => method.toUpperCase())),
    headers: Object.entries(route.headers ?? {})
      .map(([name, value]) => [name.toLowerCase(), value] as const)
      // An invalid name or value would spoil the whole response.
      .filter(([name, value]) => isHeaderName(name) && /^[\t\u0020-\u007e\u0080-\u00ff]*$/.test(value)),
    destination: route.dest === undefined ? null : compileDestination(route.dest),
    status: route.status !== undefined && route.status >= 200 && route.status <= 599 ? route.status : undefined,
    continue: route.continue === true,
    check: route.check === true,
    important: route.important === true,
    has: has.filter((condition) => condition !== null),
    missing: missing.filter((condition) => condition !== null),
    transforms: (route.transforms ?? []).map(compileTransform).filter((transform) => transform !== null),
    middleware: route.middlewarePath ?? null,
    locale: compileLocale(route.locale),
  };
}

/** Builders leave anchors out ("/((?!index$).*?)(?:/)?"), and mean the whole path. */
function anchored(source: string): string {
  return `${source.startsWith("^") ? "" : "^"}${source}${source.endsWith("$") ? "" : "$"}`;
}

/** What frames a message is not a route's to say. */
const framingNames = new Set(["content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "trailer"]);

/** Whether a route may set it. */
export function isHeaderName(name: string): boolean {
  return /^[!#$%&'*+\-.^_`|~\w]+$/.test(name) && !framingNames.has(name);
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

function compileLocale(locale: RouteRule["locale"]): Locale | null {
  if (locale?.redirect === undefined) return null;
  const redirect = new Map(Object.entries(locale.redirect).map(([language, path]) => [language.toLowerCase(), String(path)]));
  return { redirect, cookie: locale.cookie ?? null };
}

// ── conditions and transforms ─────────────────────────────────────────────────────────────────────────────────────────

/** null: the condition can never hold. */
export function compileCondition(condition: RouteCondition): Condition | null {
  const key = condition.type === "header" ? (condition.key ?? "").toLowerCase() : (condition.key ?? "");
  const name = condition.type === "host" ? "host" : (condition.key ?? "");
  const { type, value } = condition;
  if (value === undefined) return { type, key, test: (text) => ({ [name]: text }) };
  if (typeof value !== "string") {
    const satisfies = compileOperators(value);
    return { type, key, test: (text) => (satisfies(text) ? { [name]: text } : null) };
  }
  const pattern = compilePattern(`^(?:${value})$`, type === "host");
  if (pattern === null) return null;
  return {
    type,
    key,
    test(text) {
      const match = pattern.match(text);
      if (match === null) return null;
      const groups: Record<string, string> = { [name]: text };
      for (const [group, captured] of Object.entries(match.groups ?? {})) groups[group] = captured ?? "";
      for (const [index, group] of pattern.groupNames.entries()) if (group !== undefined) groups[group] = match[index + 1] ?? "";
      return groups;
    },
  };
}

/** The object form of a condition: every operator must hold; an unknown one does not. */
function compileOperators(operators: Readonly<Record<string, unknown>>): (text: string) => boolean {
  const tests = Object.entries(operators).map(([operator, operand]): ((text: string) => boolean) => {
    const list = Array.isArray(operand) ? operand.map(String) : [];
    const one = String(operand);
    switch (operator) {
      case "eq":
        return (text) => text === one;
      case "neq":
        return (text) => text !== one;
      case "inc":
        return (text) => list.includes(text);
      case "ninc":
        return (text) => !list.includes(text);
      case "pre":
        return (text) => text.startsWith(one);
      case "suf":
        return (text) => text.endsWith(one);
      case "re": {
        const pattern = compilePattern(one, false);
        return (text) => pattern !== null && pattern.match(text) !== null;
      }
      case "gt":
        return (text) => Number(text) > Number(operand);
      case "gte":
        return (text) => Number(text) >= Number(operand);
      case "lt":
        return (text) => Number(text) < Number(operand);
      case "lte":
        return (text) => Number(text) <= Number(operand);
      default:
        return () => false;
    }
  });
  return (text) => tests.every((test) => test(text));
}

const transformTypes = new Set(["request.headers", "request.query", "request.path", "response.headers"]);
const transformOps = new Set(["append", "set", "delete"]);

function compileTransform(transform: RouteTransform): Transform | null {
  const { type, op, target, args, env } = transform;
  if (!transformTypes.has(type) || !transformOps.has(op)) return null;
  const isHeader = type.endsWith(".headers");
  const wanted = target?.key;
  const key = typeof wanted === "string" ? (isHeader ? wanted.toLowerCase() : wanted) : null;
  if (isHeader && key !== null && !isHeaderName(key)) return null;
  if (key === null && wanted === undefined && type !== "request.path") return null;
  const matches = typeof wanted === "object" ? compileOperators(wanted) : (name: string) => name === key;
  const values = args === undefined ? [] : typeof args === "string" ? [args] : args.map(String);
  return {
    type,
    op,
    key,
    // No template may hold what ends a header line.
    values: isHeader ? values.map((value) => headerText(value, false)) : values,
    matches: (name) => matches(name) && (!isHeader || isHeaderName(name)),
    env: env ?? [],
  };
}

// ── the rules of a phase ──────────────────────────────────────────────────────────────────────────────────────────────

/** Rules in order. A path is tried only against those whose literal first segment is its own, or that have none. */
export class RuleList {
  readonly all: readonly Rule[];
  readonly #anywhere: readonly Rule[];
  /** First segment, lower-case → rules that match below it only, and those that match anywhere, in order. */
  readonly #bySegment: ReadonlyMap<string, readonly Rule[]>;

  /** @param sources the rules' `src`, in the same order */
  constructor(rules: readonly Rule[], sources: readonly string[]) {
    this.all = rules;
    const segments = rules.map((_, index) => literalSegment(sources[index]!));
    this.#anywhere = rules.filter((_, index) => segments[index] === null);
    const own = new Map<string, Rule[]>();
    for (const [index, rule] of rules.entries()) {
      const segment = segments[index];
      if (segment === null || segment === undefined) continue;
      const list = own.get(segment);
      if (list === undefined) own.set(segment, [rule]);
      else list.push(rule);
    }
    this.#bySegment = new Map([...own].map(([segment, list]) => [segment, merge(list, this.#anywhere)]));
  }

  /** @param path canonical */
  candidates(path: string): readonly Rule[] {
    if (this.#bySegment.size === 0 || path.includes("%")) return this.all;
    const end = path.indexOf("/", 1);
    return this.#bySegment.get((end === -1 ? path.slice(1) : path.slice(1, end)).toLowerCase()) ?? this.#anywhere;
  }
}

function merge(a: readonly Rule[], b: readonly Rule[]): readonly Rule[] {
  return [...a, ...b].sort((one, other) => one.order - other.order);
}

/** The first segment that every path matching `source` has, lower-case; null when that is not plain. */
export function literalSegment(source: string): string | null {
  const begin = /^\^?\\?\//.exec(source);
  if (begin === null || hasTopLevelAlternative(source)) return null;
  const rest = source.slice(begin[0].length);
  const literal = /^(?:[\w~!@,;:=&'%-]|\\[.\-_~])*/.exec(rest)![0];
  const after = rest.slice(literal.length);
  const isWhole = /^\\?\/(?![?*{])/.test(after) || /^(?:\(\?:\\?\/\)\?|\\?\/\?)?\$?$/.test(after);
  return isWhole && literal !== "" && !literal.includes("%") ? literal.replaceAll("\\", "").toLowerCase() : null;
}

function hasTopLevelAlternative(source: string): boolean {
  let depth = 0;
  const plain = source.replaceAll(/\\./g, "x").replaceAll(/\[[^\]]*\]/g, "x");
  for (const char of plain) {
    if (char === "(") depth++;
    else if (char === ")") depth--;
    else if (char === "|" && depth === 0) return true;
  }
  return false;
}
