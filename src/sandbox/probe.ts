/** Whether a driver does on this machine what it says: one guest is made, asked for a word, and destroyed. */
import { setTimeout as sleep } from "node:timers/promises";
import { messageOf } from "../errors.ts";
import { guestNode } from "./rootfs.ts";
import type { SandboxDriver } from "./sandbox.ts";

const probeMsMax = 20_000;

/** Null when it works, else why not. The driver stays open. */
export async function probe(driver: SandboxDriver): Promise<string | null> {
  try {
    const sandbox = await driver.create({
      purpose: "probe",
      argv: [guestNode, "-e", "require('fs').writeSync(3, 'works')"],
      env: {},
      cwd: "/tmp",
      mounts: [],
      limits: { memoryMB: 256, cpuByMemory: false },
      tmpBytes: 16 * 1024 * 1024,
      processesMax: 64,
      openFilesMax: 256,
      network: "internet",
    });
    let heard = "";
    let complaint = "";
    sandbox.control.setEncoding("utf8").on("data", (said: string) => (heard += said.slice(0, 100)));
    sandbox.stderr.setEncoding("utf8").on("data", (said: string) => (complaint = (complaint + said).slice(0, 500)));
    await Promise.race([sandbox.ended, sleep(probeMsMax, undefined, { ref: false })]);
    await sandbox.destroy();
    return heard === "works" ? null : `A guest started but could not run Node: ${complaint.trim() || "it said nothing"}`;
  } catch (error) {
    return messageOf(error);
  }
}

/** The same for a driver that is not open yet, and is not left open. */
export async function whyNot(open: () => Promise<SandboxDriver>): Promise<string | null> {
  let driver: SandboxDriver;
  try {
    driver = await open();
  } catch (error) {
    return messageOf(error);
  }
  const why = await probe(driver);
  await driver.close().catch(() => {});
  return why;
}
