/**
 * `/_vercel/image` and `/_next/image`: which picture they ask for, and whether the deployment's `images` allow it (Build
 * Output API v3, `config.json`). Pure. Invariant: what comes out names a path of this deployment, or an address that the
 * deployment's own configuration lets everybody have fetched.
 */
import { MayflyError } from "../errors.ts";
import type { Manifest } from "../model.ts";
import { compilePattern, PatternTimeout, type Pattern } from "./pattern.ts";

export interface ImageRequest {
  /** Of this deployment, or of another host. */
  readonly source:
    | { readonly kind: "local"; readonly path: string; readonly query: string }
    | { readonly kind: "remote"; readonly url: string };
  readonly width: number;
  readonly quality: number;
  /** The best of what both the deployment makes and the client reads; null: the picture's own. */
  readonly format: string | null;
  readonly rules: ImageRules;
}

/** A deployment's `images`, read once. */
export interface ImageRules {
  readonly sizes: readonly number[];
  /** null: any. */
  readonly qualities: readonly number[] | null;
  /** In the order of preference. */
  readonly formats: readonly string[];
  readonly minimumCacheMs: number;
  readonly allowsSvg: boolean;
  readonly contentSecurityPolicy: string;
  readonly contentDisposition: "inline" | "attachment";
  readonly isLocal: (path: string, search: string) => boolean;
  readonly isRemote: (url: URL) => boolean;
}

const optimisers = /^(?:\/[^?]*)?\/(?:_vercel|_next)\/image$/;
const urlLengthMax = 3072;
const minimumCacheSDefault = 60;
/** A picture is looked at, never run: not even what an SVG has in it. */
const policyDefault = "script-src 'none'; frame-src 'none'; sandbox;";
const read = new WeakMap<object, ImageRules>();

/** Whether it is the optimiser's, at a deployment that has one. */
export function isPictureAddress(images: Manifest["images"], path: string): boolean {
  return images !== undefined && optimisers.test(path);
}

/**
 * @param query of an address of the optimiser, without its question mark
 * @param accept what the client reads
 * @throws MayflyError INVALID_IMAGE_OPTIMIZE_REQUEST
 */
export function parseImageRequest(images: NonNullable<Manifest["images"]>, query: string, accept: string | undefined): ImageRequest {
  let rules = read.get(images);
  if (rules === undefined) read.set(images, (rules = readRules(images)));
  const asked = new URLSearchParams(query);
  for (const name of ["url", "w", "q"]) if (asked.getAll(name).length > 1) refuse(`"${name}" must be given once.`);
  const url = asked.get("url") ?? "";
  const width = Number(asked.get("w"));
  const quality = Number(asked.get("q") ?? "75");
  if (!rules.sizes.includes(width)) refuse(`"w" must be one of the widths that the deployment names.`);
  if (!Number.isInteger(quality) || quality < 1 || quality > 100) refuse('"q" must be from 1 to 100.');
  if (rules.qualities !== null && !rules.qualities.includes(quality)) refuse('"q" must be one of the qualities that the deployment names.');
  if (url.length > urlLengthMax) refuse(`"url" must have at most ${urlLengthMax} characters.`);
  return { source: sourceOf(url, rules), width, quality, format: negotiate(rules.formats, accept), rules };
}

function sourceOf(url: string, rules: ImageRules): ImageRequest["source"] {
  if (url.startsWith("/")) {
    // A browser reads "//" and "/\" as another host.
    if (/^\/[/\\]/.test(url) || /[^!-\uffff]/.test(url)) refuse('"url" must be a path or a whole address.');
    const hash = url.indexOf("#");
    const target = hash === -1 ? url : url.slice(0, hash);
    const mark = target.indexOf("?");
    const path = mark === -1 ? target : target.slice(0, mark);
    const query = mark === -1 ? "" : target.slice(mark + 1);
    if (optimisers.test(path)) refuse('"url" must be a picture.');
    if (!rules.isLocal(path, query === "" ? "" : `?${query}`)) refuse('"url" is no path that the deployment allows.');
    return { kind: "local", path, query };
  }
  let remote: URL;
  try {
    remote = new URL(url);
  } catch {
    return refuse('"url" must be a path or a whole address.');
  }
  if (remote.protocol !== "http:" && remote.protocol !== "https:") refuse('"url" must be an http or https address.');
  if (remote.username !== "" || remote.password !== "") refuse('"url" must be an address without a name and password.');
  if (!rules.isRemote(remote)) refuse('"url" is no address that the deployment allows.');
  remote.hash = "";
  return { kind: "remote", url: remote.href };
}

/** RFC 9110 §12.5.1, as far as a format counts only when it is named: every client says that it reads everything. */
function negotiate(formats: readonly string[], accept: string | undefined): string | null {
  if (accept === undefined) return null;
  const weights = new Map<string, number>();
  for (const part of accept.toLowerCase().split(",", 50)) {
    const [name = "", ...parameters] = part.split(";").map((text) => text.trim());
    const weight = parameters.find((parameter) => /^q\s*=/.test(parameter));
    weights.set(name, weight === undefined ? 1 : Number(weight.slice(weight.indexOf("=") + 1)));
  }
  return formats.find((format) => (weights.get(format) ?? 0) > 0) ?? null;
}

function refuse(why: string): never {
  throw new MayflyError("INVALID_IMAGE_OPTIMIZE_REQUEST", why);
}

// ── what the build wrote ──────────────────────────────────────────────────────────────────────────────────────────────

/** What is of a wrong type is as if it were not there: it allows nothing. */
function readRules(images: NonNullable<Manifest["images"]>): ImageRules {
  const domains = new Set(listOf(images["domains"], isString));
  const remotePatterns = listOf(images["remotePatterns"], isObject).map(compileRemote);
  const localPatterns = images["localPatterns"] === undefined ? null : listOf(images["localPatterns"], isObject).map(compileLocal);
  const formats = listOf(images["formats"], isString).filter((format) => format === "image/avif" || format === "image/webp");
  const minimum = images["minimumCacheTTL"];
  const policy = images["contentSecurityPolicy"];
  return {
    sizes: listOf(images["sizes"], isNumber),
    qualities: images["qualities"] === undefined ? null : listOf(images["qualities"], isNumber),
    formats,
    minimumCacheMs: (isNumber(minimum) && minimum >= 0 ? minimum : minimumCacheSDefault) * 1000,
    allowsSvg: images["dangerouslyAllowSVG"] === true,
    contentSecurityPolicy: isString(policy) && /^[\u0020-\u007e]+$/.test(policy) ? policy : policyDefault,
    contentDisposition: images["contentDispositionType"] === "attachment" ? "attachment" : "inline",
    isLocal: (path, search) => localPatterns === null || localPatterns.some((allows) => allows(path, search)),
    isRemote: (url) => domains.has(url.hostname) || remotePatterns.some((allows) => allows(url)),
  };
}

function compileRemote(pattern: Readonly<Record<string, unknown>>): (url: URL) => boolean {
  const { protocol, hostname, port, pathname, search } = pattern;
  const isHost = compileText(hostname, ".");
  const isPath = pathname === undefined ? () => true : compileText(pathname, "/");
  return (url) =>
    (protocol === undefined || url.protocol === `${String(protocol).replace(/:$/, "")}:`) &&
    (port === undefined || url.port === port) &&
    (search === undefined || url.search === search) &&
    isHost(url.hostname) &&
    isPath(url.pathname);
}

function compileLocal({ pathname, search }: Readonly<Record<string, unknown>>): (path: string, search: string) => boolean {
  const isPath = pathname === undefined ? () => true : compileText(pathname, "/");
  return (path, asked) => (search === undefined || search === asked) && isPath(path);
}

/**
 * A regular expression for the whole text, as the Build Output API has it; frameworks that hand on what their users wrote
 * give globs: `*` is a part, `**` any number of them.
 */
function compileText(source: unknown, separator: "." | "/"): (text: string) => boolean {
  if (!isString(source)) return () => false;
  const isGlob = source.includes("*") && !/[\^$]|\.\*|\]\*|\)\*/.test(source);
  const expression = isGlob ? globSource(source, separator) : source;
  const pattern: Pattern | null = compilePattern(`^(?:${expression})$`, false);
  return (text) => {
    try {
      return pattern !== null && pattern.match(text) !== null;
    } catch (error) {
      if (error instanceof PatternTimeout) return false;
      throw error;
    }
  };
}

function globSource(glob: string, separator: "." | "/"): string {
  return glob
    .split(/(\*+)/)
    .map((part) => (part.startsWith("**") ? ".*" : part === "*" ? `[^${separator}]*` : part.replaceAll(/[.+?^${}()|[\]\\/]/g, "\\$&")))
    .join("");
}

const isString = (value: unknown): value is string => typeof value === "string";
const isNumber = (value: unknown): value is number => typeof value === "number";
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === "object" && value !== null;

function listOf<T>(value: unknown, is: (one: unknown) => one is T): readonly T[] {
  return Array.isArray(value) ? value.filter(is) : [];
}
