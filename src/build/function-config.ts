/**
 * `.vc-config.json` of a Build Output API v3, checked: how a Function is to be run. Pure. What is asked beyond a limit is
 * brought within it, and said.
 */
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import type { FunctionSpec } from "../model.ts";
import { isObject, isString, isStringRecord, isStrings } from "./shape.ts";
import type { Json } from "./shape.ts";

export type FunctionConfig = Omit<FunctionSpec, "id" | "name" | "bundleDigest" | "bundleSize">;

export interface FunctionConfigOptions {
  /** Output path, for messages. */
  readonly name: string;
  /** A route runs it as middleware. */
  readonly middleware: boolean;
  readonly config: Pick<Config, "functionMemoryMBMin" | "functionMemoryMBMax" | "functionMemoryMBDefault" | "functionDurationSMax">;
  readonly checkPath: (path: string) => string;
  readonly warn: (text: string) => void;
}

/** @throws MayflyError BUILD_OUTPUT_INVALID, BUILD_OUTPUT_UNSUPPORTED */
export function checkFunctionConfig(json: Json, options: FunctionConfigOptions): FunctionConfig {
  const { name, middleware, checkPath } = options;
  const invalid = (message: string): never => {
    throw new MayflyError("BUILD_OUTPUT_INVALID", `functions/${name}.func/.vc-config.json: ${message}`);
  };
  const { runtime, environment, regions } = json;
  if (!isString(runtime)) return invalid('"runtime" must be a string.');
  const edge = runtime === "edge";
  if (!edge && !/^nodejs\d{2}\.x$/.test(runtime)) {
    throw new MayflyError(
      "BUILD_OUTPUT_UNSUPPORTED",
      `The Function "${name}" asks for the runtime "${runtime.slice(0, 50)}"; there are nodejs20.x, nodejs22.x, nodejs24.x and edge.`,
    );
  }
  const key = edge ? "entrypoint" : "handler";
  const handler = json[key];
  if (!isString(handler) || handler === "") return invalid(`"${key}" must be a string.`);
  if (environment !== undefined && environment !== null && !isStringRecord(environment))
    invalid('"environment" must be an object of strings.');
  // An Edge Function may ask for "all" of them, or "auto".
  if (regions !== undefined && !isString(regions) && !isStrings(regions)) invalid('"regions" must be an array of strings.');
  const web = middleware ? "middleware" : edge || json["useWebApi"] === true ? "function" : undefined;
  const { memoryMB, maxDurationS } = limitsOf(json, options, invalid);
  return {
    handler: checkPath(handler),
    runtime,
    helpers: !edge && json["shouldAddHelpers"] === true,
    awsHandler: !edge && isString(json["awsLambdaHandler"]) ? json["awsLambdaHandler"] : "",
    ...(web === undefined ? {} : { web }),
    ...(edge ? { assets: checkAssets(json["assets"], checkPath, invalid) } : {}),
    memoryMB,
    maxDurationS,
    regions: isStrings(regions) ? regions : [],
    environment: isStringRecord(environment) ? environment : {},
  };
}

function limitsOf(
  json: Json,
  { name, config, warn }: FunctionConfigOptions,
  invalid: (message: string) => never,
): Pick<FunctionSpec, "memoryMB" | "maxDurationS"> {
  const { functionMemoryMBMin, functionMemoryMBMax, functionMemoryMBDefault, functionDurationSMax } = config;
  const memoryMB = json["memory"] ?? functionMemoryMBDefault;
  if (typeof memoryMB !== "number" || !Number.isFinite(memoryMB)) return invalid('"memory" must be a number of megabytes.');
  const duration = json["maxDuration"] ?? "max";
  if (duration !== "max" && (typeof duration !== "number" || !(duration > 0)))
    return invalid('"maxDuration" must be a number of seconds or "max".');
  const clamp = (value: number, min: number, max: number, label: string, unit: string): number => {
    const clamped = Math.min(Math.max(value, min), max);
    if (clamped !== value) warn(`The Function "${name}": ${label} of ${value} ${unit} is not possible here; it gets ${clamped} ${unit}.`);
    return clamped;
  };
  return {
    memoryMB: clamp(Math.round(memoryMB), functionMemoryMBMin, functionMemoryMBMax, "memory", "MB"),
    maxDurationS: duration === "max" ? functionDurationSMax : clamp(Math.ceil(duration), 1, functionDurationSMax, "maxDuration", "s"),
  };
}

function checkAssets(
  value: unknown,
  checkPath: (path: string) => string,
  invalid: (message: string) => never,
): Readonly<Record<string, string>> {
  if (value === undefined || value === null) return {};
  const isAsset = (one: unknown): one is { name: string; path: string } => isObject(one) && isString(one["name"]) && isString(one["path"]);
  if (!Array.isArray(value) || !value.every(isAsset)) return invalid('"assets" must be an array of {"name": "…", "path": "…"}.');
  return Object.fromEntries(value.map((asset) => [asset.name, checkPath(asset.path)]));
}
