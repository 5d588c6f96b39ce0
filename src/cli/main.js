/**
 * Entry of the command-line interface: lends the process (arguments, environment, streams, signals) to a run and sets its
 * exit code. The only file of the CLI that touches `process`. JavaScript, because the first file is read before the cache
 * is on: as TypeScript it cost every run 40 ms of CPU time.
 */
import { constants } from "node:os";
import { enableCompileCache } from "node:module";

// Before anything else is loaded: what is compiled, and taken out of TypeScript, now is read from the cache next time.
enableCompileCache();
const [{ runCommandLine }, { inputOf }] = await Promise.all([import("./command-line.ts"), import("./input.ts")]);

/** @type {AbortController | undefined} */
let interruption;
/** @type {"SIGINT" | "SIGTERM" | undefined} */
let interruptedBy;

/** First signal: the command ends in order. Second: at once. */
function listenForSignals() {
  if (interruption !== undefined) return interruption.signal;
  interruption = new AbortController();
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM"])) {
    process.on(signal, () => {
      if (interruptedBy !== undefined) process.exit(128 + constants.signals[signal]);
      interruptedBy = signal;
      interruption?.abort();
    });
  }
  return interruption.signal;
}

// Who reads has gone (`mayfly ls | head -1`): there is nobody left to tell.
process.stdout.on("error", (/** @type {NodeJS.ErrnoException} */ error) => process.exit(error.code === "EPIPE" ? 0 : 1));
process.stderr.on("error", () => undefined);

const exitCode = await runCommandLine({
  args: process.argv.slice(2),
  env: process.env,
  cwd: process.cwd(),
  stdout: process.stdout,
  stderr: process.stderr,
  interruption: listenForSignals,
  // A getter, because opening standard input costs time that most commands need not spend.
  get input() {
    return inputOf(process.stdin, process.stderr, () => process.kill(process.pid, "SIGINT"));
  },
});
// What was interrupted and ended well all the same has ended well.
process.exitCode = interruptedBy === undefined || exitCode === 0 ? exitCode : 128 + constants.signals[interruptedBy];
