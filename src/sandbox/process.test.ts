/** What the process driver promises beyond the conformance suite: it sweeps after the dead. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { eventually } from "../../test/server.ts";
import { isAlive } from "../liveness.ts";
import { openProcessSandboxes } from "./process.ts";

it(
  "ends what a platform that was killed has left frozen",
  { skip: process.platform === "linux" ? false : "it looks into /proc" },
  async (t) => {
    const dataDirectory = scratchDirectory();
    const gone = spawn(process.execPath, ["-e", ""]);
    await once(gone, "exit");
    const left = join(dataDirectory, "sandboxes", `process-${gone.pid}-abc`);
    const own = join(dataDirectory, "sandboxes", `process-${process.pid}-abc`);
    const frozen = [left, own].map((directory) => {
      mkdirSync(join(directory, "bin"), { recursive: true });
      symlinkSync(process.execPath, join(directory, "bin/node"));
      // A guest leads a group, and starts programs that lie elsewhere.
      const code = `console.log(require("node:child_process").spawn("sleep", ["600"]).pid); setInterval(() => {}, 1000);`;
      const child = spawn(join(directory, "bin/node"), ["-e", code], { stdio: ["ignore", "pipe", "ignore"], detached: true });
      t.after(() => {
        try {
          process.kill(-child.pid!, "SIGKILL");
        } catch {
          // All of it has ended.
        }
      });
      return child;
    });
    const started = await Promise.all(frozen.map(async ({ stdout }) => Number(String((await once(stdout, "data"))[0]))));
    for (const { pid } of frozen) process.kill(-pid!, "SIGSTOP");
    const ended = once(frozen[0]!, "exit");
    const driver = await openProcessSandboxes({ dataDirectory, nodeBinary: process.execPath, networkAllow: [] });
    assert.deepEqual((await ended)[1], "SIGKILL");
    assert.deepEqual([existsSync(left), existsSync(own), frozen[1]!.exitCode, frozen[1]!.signalCode], [false, true, null, null]);
    await eventually("what the guest has started is gone", () => !isAlive(started[0]!) || null);
    assert.ok(isAlive(started[1]!));
    await driver.close();
  },
);
