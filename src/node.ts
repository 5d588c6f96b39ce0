/**
 * One node from start to end: opens the data plane, keeps a control plane beside it, sees to it that this machine's user
 * has a token, and closes both in order when it is told to.
 */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Config } from "./config.ts";
import { askPredecessor, handoverPath, openHandover } from "./handover.ts";
import { ControlPlaneProcess } from "./control-plane-process.ts";
import { openDataPlane } from "./data-plane.ts";
import type { SandboxCapabilities } from "./sandbox/sandbox.ts";

/** Who runs the node: the command line, which knows terminal and home directory. */
export interface Operator {
  say(line: string): void;
  /** The token that is kept for an API's origin. */
  token(api: string): Promise<string | undefined>;
  keepToken(api: string, token: string): Promise<void>;
  /** Called once the node answers. */
  started(node: StartedNode): Promise<void>;
  /** Aborted when the node shall end. */
  readonly interruption: AbortSignal;
}

export interface StartedNode {
  /** Origin of the API on this machine: `http://127.0.0.1:3000`. */
  readonly api: string;
  /** For people: `http://localhost:3000`. */
  readonly url: string;
  /** The data directory was empty. */
  readonly fresh: boolean;
}

/**
 * Resolves when the node has ended in order.
 * @throws MayflyError port_in_use, sandbox_unavailable, data_directory_unusable, …: it could not start
 */
export async function runNode(config: Config, operator: Operator): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const fresh = !existsSync(join(resolve(config.data), "mayfly.db"));
  const log = (line: string) => operator.say(line);
  let controlPlane: ControlPlaneProcess | null = null;
  const meetingPoint = handoverPath(config);
  const predecessor = meetingPoint === null ? null : askPredecessor(meetingPoint);
  opened.defer(() => predecessor?.release());
  const { promise: controlCame, resolve: controlComes } = Promise.withResolvers<void>();
  let coming: Promise<void> | null = controlCame;
  const gatewayControl = { socketPath: () => controlPlane?.socketPath ?? null, coming: () => coming };
  const dataPlane = await openDataPlane(config, gatewayControl, log, predecessor?.listeners);
  opened.defer(() => dataPlane.close());
  opened.defer(() => controlComes());
  if (predecessor !== null) {
    log("A node runs here already; this one takes its place.");
    await predecessor.takeOver();
  }

  const { port, httpsPort, authorityPath, sandbox } = dataPlane;
  const api = `http://127.0.0.1:${port}`;
  controlPlane = new ControlPlaneProcess({ config, port, token: (await operator.token(api)) ?? null }, log, dataPlane.figures);
  const control = controlPlane;
  opened.defer(() => control.close());
  const newToken = await control.start();
  coming = null;
  controlComes();
  if (newToken !== null) {
    await operator.keepToken(api, newToken);
    log(`Token of this machine's user (kept in its home directory): ${newToken}`);
  }

  const url = `http://${config.domain}:${port}`;
  log(`Sandbox: ${sandbox.name} (${describeCapabilities(sandbox.can)})`);
  log(`Mayfly answers at ${url}${httpsPort === null ? "" : ` and https://${config.domain}:${httpsPort}`}`);
  if (authorityPath !== null)
    log(`Its certificates are signed by ${authorityPath}: trust that file (curl --cacert, or your browser's settings).`);
  const interrupted = new Promise<void>((end) => operator.interruption.addEventListener("abort", () => end(), { once: true }));
  const giveWay = () => {
    void dataPlane.drain();
    return control.close();
  };
  const handover = meetingPoint === null ? null : await openHandover(meetingPoint, { listeners: dataPlane.listeners, giveWay });
  opened.defer(() => handover?.close());
  if (!operator.interruption.aborted) {
    await operator.started({ api, url, fresh });
    if (!operator.interruption.aborted) await Promise.race([interrupted, ...(handover === null ? [] : [handover.taken])]);
  }
  log("Closing: requests in flight may finish.");
}

/** What isolates a Function here, and what does not. */
function describeCapabilities(can: SandboxCapabilities): string {
  const parts: [string, boolean][] = [
    ["own files", can.fileIsolation],
    ["own processes", can.processIsolation],
    ["own network", can.networkIsolation],
    ["seccomp", can.seccomp],
    [`memory limit: ${can.memoryLimit}`, can.memoryLimit !== "none"],
    ["CPU limit", can.cpuLimit],
    ["process limit", can.processLimit],
    ["/tmp limit", can.tmpLimit],
    [`freeze: ${can.freeze}`, true],
  ];
  const has = parts.filter(([, yes]) => yes).map(([name]) => name);
  const lacks = parts.filter(([, yes]) => !yes).map(([name]) => name);
  return has.join(", ") + (lacks.length === 0 ? "" : `; without ${lacks.join(", ")}`);
}
