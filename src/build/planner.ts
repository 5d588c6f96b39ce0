/**
 * Where plans are made. Most take a few milliseconds, and a process would take longer to start. A project whose plan can
 * take seconds gets a process of its own, with a deadline and a bound on its memory, so that who waits for the API waits
 * for nobody's project: detection compares the files of `api/` with each other, and routes become regular expressions.
 * Not a thread: one whose heap is full takes the others along. The build queue bounds how many there are.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { setPriority } from "node:os";
import { fileURLToPath } from "node:url";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError, messageOf, type ErrorCode } from "../errors.ts";
import { documents } from "./configuration.ts";
import type { Plan, PlanRequest } from "./plan.ts";
import { comparisonsOf, planBuild } from "./plan.ts";
import { parseRootDirectory } from "./project.ts";

export interface PlanLimits {
  readonly config: Pick<Config, "planTimeoutMs" | "planMemoryMB">;
  readonly clock: Clock;
  /** Its abort ends the plan. */
  readonly signal: AbortSignal;
}

/** To the process, when it starts. */
export interface PlanOrder extends Omit<PlanRequest, "readFile" | "tree"> {
  /** The tree as JSON: in parts it would take longer to hand over. */
  readonly treeText: string;
}

/** To the process, for each file that it asks for. */
export interface PlanFile {
  readonly path: string;
  /** null: it cannot be read, and `message` says why. */
  readonly bytes: Uint8Array | null;
  readonly message: string;
}

/** From the process. */
export type PlanAnswer =
  | { readonly type: "read"; readonly path: string }
  | { readonly type: "planned"; readonly plan: Plan }
  /** `code` is null when it is no error of the project's. */
  | { readonly type: "failed"; readonly code: ErrorCode | null; readonly message: string };

const program = fileURLToPath(new URL("planning-process.js", import.meta.url));
/** Who serves goes first. */
const priority = 10;
/** Some tens of milliseconds: a process is not worth it below. */
const comparisonsInPlaceMax = 20_000;
const configurationBytesInPlaceMax = 32 * 1024;

/** @throws MayflyError what planBuild throws; BUILD_PLAN_TIMEOUT, BUILD_OUT_OF_MEMORY, or canceled when the signal aborts */
export async function makePlan(request: PlanRequest, limits: PlanLimits): Promise<Plan> {
  if (isQuick(request)) return planBuild(request);
  const { tree, readFile, ...rest } = request;
  return planAside({ ...rest, treeText: JSON.stringify(tree) }, readFile, limits);
}

function isQuick({ tree, settings, prebuilt, configuration }: PlanRequest): boolean {
  if (prebuilt) return true;
  const directory = parseRootDirectory(settings.rootDirectory);
  const root = directory === "" ? "" : `${directory}/`;
  const sizeOf = (name: string): number => (Object.hasOwn(tree, root + name) ? tree[root + name]!.size : 0);
  const configured = configuration === undefined ? Math.max(...documents.map(sizeOf)) : JSON.stringify(configuration).length;
  return configured <= configurationBytesInPlaceMax && comparisonsOf(Object.keys(tree), root) <= comparisonsInPlaceMax;
}

async function planAside(order: PlanOrder, readFile: PlanRequest["readFile"], { config, clock, signal }: PlanLimits): Promise<Plan> {
  if (signal.aborted) throw new MayflyError("canceled");
  const { promise, resolve, reject } = Promise.withResolvers<Plan>();
  const execArgv = [`--max-old-space-size=${config.planMemoryMB}`];
  // Its last words go nowhere: what V8 says of a full heap is not for people.
  const child = fork(program, { env: {}, execArgv, serialization: "advanced", stdio: ["ignore", "ignore", "ignore", "ipc"] });
  const ended = once(child, "close").catch(() => {});
  const send = (message: PlanOrder | PlanFile): void => void child.send(message, () => {});
  const give = async (path: string): Promise<void> => {
    try {
      send({ path, bytes: await readFile(path), message: "" });
    } catch (error) {
      send({ path, bytes: null, message: messageOf(error) });
    }
  };
  child.on("message", (answer: PlanAnswer) => {
    if (answer.type === "read") void give(answer.path);
    else if (answer.type === "planned") resolve(answer.plan);
    else reject(answer.code === null ? new Error(answer.message) : new MayflyError(answer.code, answer.message));
  });
  child.on("error", reject);
  child.once("close", (_code, endSignal) => {
    const sentence = `Finding out what there is to build takes more than ${config.planMemoryMB} MB of memory.`;
    // So Node.js ends when its heap is full.
    const isFull = endSignal === "SIGABRT" || endSignal === "SIGTRAP";
    reject(isFull ? new MayflyError("BUILD_OUT_OF_MEMORY", sentence) : new Error("The process that plans has ended."));
  });
  const cancel = (): void => reject(new MayflyError("canceled"));
  signal.addEventListener("abort", cancel, { once: true });
  const stopClock = clock.after(config.planTimeoutMs, () => {
    const seconds = config.planTimeoutMs / 1000;
    const sentence = `Finding out what there is to build takes longer than ${seconds} s: there are too many files in api/, or too many routes.`;
    reject(new MayflyError("BUILD_PLAN_TIMEOUT", sentence));
  });
  try {
    if (child.pid !== undefined) setPriority(child.pid, priority);
    send(order);
    return await promise;
  } finally {
    stopClock();
    signal.removeEventListener("abort", cancel);
    if (child.pid !== undefined) {
      child.kill("SIGKILL");
      await ended;
    }
  }
}
