/** Pictures for the tests, and the optimiser over the drivers that work on this machine. */
import { chmodSync } from "node:fs";
import { after } from "node:test";
import sharp from "sharp";
import { scratchDirectory } from "../../test/scratch.ts";
import { systemClock, type Clock } from "../clock.ts";
import { loadConfig } from "../config.ts";
import { openOciSandboxes, whyNoOci } from "../sandbox/oci.ts";
import { openProcessSandboxes } from "../sandbox/process.ts";
import type { SandboxDriver } from "../sandbox/sandbox.ts";
import { openOptimiser, type Optimiser } from "./optimiser.ts";

const options = { dataDirectory: scratchDirectory(), nodeBinary: process.execPath, networkAllow: [] };
chmodSync(options.dataDirectory, 0o755);

/** The strongest driver that works here; closed when the test's file has ended. */
export async function openDriver(): Promise<SandboxDriver> {
  const driver = (await whyNoOci(options)) === null ? await openOciSandboxes(options) : await openProcessSandboxes(options);
  after(() => driver.close());
  return driver;
}

/** One over that driver; the caller ends it. */
export function openTestOptimiser(
  sandboxes: SandboxDriver,
  settings: Readonly<Record<string, string>> = {},
  clock: Clock = systemClock,
): Optimiser {
  const optimiser = openOptimiser({ config: loadConfig({}, { MAYFLY_IMAGE_WORKERS_MAX: "1", ...settings }), clock, sandboxes });
  if ("missing" in optimiser) throw new Error(optimiser.missing);
  return optimiser;
}

/** Of noise, so that it does not compress to nothing. */
export function photo(width: number, height: number) {
  return sharp({ create: { width, height, channels: 3, background: "#336699", noise: { type: "gaussian", mean: 128, sigma: 40 } } });
}

/** A GIF of three frames. */
export async function movingGif(): Promise<Buffer> {
  const frames = await Promise.all(["red", "lime", "blue"].map((background) => frame(background)));
  return sharp(frames, { join: { animated: true } })
    .gif()
    .toBuffer();
}

function frame(background: string): Promise<Buffer> {
  return sharp({ create: { width: 100, height: 80, channels: 3, background } })
    .png()
    .toBuffer();
}

/** A PNG of some kilobytes that says it has 60,000 × 60,000 pixels, all of them there: fourteen gigabytes. */
export async function bomb(): Promise<Buffer> {
  const small = await sharp({ create: { width: 60_000, height: 1, channels: 3, background: "black" } })
    .png()
    .toBuffer();
  const size = Buffer.from(small);
  size.writeUInt32BE(60_000, 20);
  size.writeUInt32BE(crc32(size.subarray(12, 29)), 29);
  return size;
}

function crc32(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
