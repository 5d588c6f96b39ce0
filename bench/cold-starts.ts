/**
 * Cold starts, as a client sees them: no instance of the Function lives, a pooled sandbox waits. Against the same program
 * started by plain `node`, in a fresh crun container, and by `@vercel/fun`. All are asked in turn, so that a slow moment
 * of the machine hits all of them.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { Client } from "undici";
import { openOciSandboxes, whyNoOci } from "../src/sandbox/oci.ts";
import type { SandboxDriver } from "../src/sandbox/sandbox.ts";
import { openMayfly, type Mayfly } from "../test/server.ts";
import { programs, type Program } from "./programs.ts";
import { Sample } from "./sample.ts";
import type { Figure } from "./table.ts";

const rounds = 20;
const runner = join(import.meta.dirname, "serve-once.cjs");
const settleMs = 300;

export async function benchColdStarts(scratch: string): Promise<Figure[]> {
  // Every instance is retired as soon as it has answered.
  const mayfly = await openMayfly({ home: join(scratch, "cold"), env: { MAYFLY_INSTANCE_IDLE_MS: "0" } });
  const driverOptions = { dataDirectory: join(scratch, "crun"), nodeBinary: process.execPath, networkAllow: [] };
  const crun = (await whyNoOci(driverOptions)) === null ? await openOciSandboxes(driverOptions) : null;
  const fun = installFun(join(scratch, "fun"));
  try {
    const figures: Figure[] = [];
    for (const [index, program] of programs.entries()) {
      figures.push(...(await benchProgram(mayfly, crun, fun, program, join(scratch, `program-${index}`))));
    }
    return figures;
  } finally {
    await crun?.close();
    await mayfly.stop();
  }
}

async function benchProgram(
  mayfly: Mayfly,
  crun: SandboxDriver | null,
  fun: Fun | null,
  program: Program,
  directory: string,
): Promise<Figure[]> {
  mkdirSync(directory);
  program.write(directory);
  const url = await mayfly.deploy(directory, "--name", `cold-${directory.at(-1)}`);
  await coldRequest(mayfly, url, program.path, new Sample()); // unpacks the bundle
  const plain = program.handler === null ? unpackedBundle(mayfly) : installed(directory, program.handler);
  cpSync(runner, join(plain.directory, "serve-once.cjs"));

  const samples = { mayfly: new Sample(), node: new Sample(), crun: new Sample(), fun: new Sample() };
  for (let round = 0; round < rounds; round++) {
    await new Promise((resolve) => setTimeout(resolve, settleMs));
    await coldRequest(mayfly, url, program.path, samples.mayfly);
    await samples.node.time(() => startNode(plain, program.path));
    if (crun !== null) await startCrun(crun, plain, program.path, samples.crun);
    if (fun !== null) await startFun(fun, plain, program.path, samples.fun);
  }
  const against = [
    ["plain `node`", samples.node],
    ["`crun run`", samples.crun],
    ["`@vercel/fun`", samples.fun],
  ] as const;
  return against.flatMap(([name, sample]) =>
    sample.count === 0
      ? []
      : (["p50", "p99"] as const).map((key) => ({
          what: `cold ${program.name}, ${key}`,
          unit: "ms" as const,
          mayfly: samples.mayfly[key],
          other: { name, value: sample[key] },
          rounds,
        })),
  );
}

async function coldRequest(mayfly: Mayfly, url: string, path: string, sample: Sample): Promise<void> {
  const client = new Client(mayfly.api);
  await client.request({ path: "/_mayfly/health", method: "GET" }).then(({ body }) => body.dump());
  const { statusCode, headers } = await sample.time(async () => {
    const response = await client.request({ path, method: "GET", headers: { host: new URL(url).host } });
    await response.body.dump();
    return response;
  });
  await client.close();
  if (statusCode !== 200 || headers["x-mayfly-start"] !== "cold")
    throw new Error(`${path}: ${statusCode}, ${String(headers["x-mayfly-start"])}`);
}

interface Plain {
  readonly directory: string;
  readonly handler: string;
}

/** The project with its dependencies, as a person would run it. */
function installed(directory: string, handler: string): Plain {
  if (readdirSync(directory).includes("package.json")) {
    execFileSync("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: directory, stdio: "inherit" });
  }
  return { directory, handler };
}

/** The Function that the build made, as it lies on the node: for what no person could start by hand. */
function unpackedBundle(mayfly: Mayfly): Plain {
  const bundles = join(mayfly.data, "bundles");
  for (const name of readdirSync(bundles).filter((each) => !each.startsWith("."))) {
    const handler = readdirSync(join(bundles, name)).find((file) => file === "___next_launcher.cjs");
    if (handler !== undefined) {
      const directory = join(bundles, `../plain-${name}`);
      cpSync(join(bundles, name), directory, { recursive: true });
      return { directory, handler };
    }
  }
  throw new Error("The bundle has not been unpacked.");
}

async function startNode({ directory, handler }: Plain, path: string): Promise<void> {
  const child = spawn(process.execPath, ["serve-once.cjs", `./${handler}`, path], {
    cwd: directory,
    env: {},
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  if (line.toString() !== "answered 200\n") throw new Error(`node: ${line.toString()}`);
}

async function startCrun(driver: SandboxDriver, { directory, handler }: Plain, path: string, sample: Sample): Promise<void> {
  const sandbox = await sample.time(async () => {
    const made = await driver.create({
      purpose: "probe",
      argv: ["/var/lang/bin/node", "/var/task/serve-once.cjs", `./${handler}`, path, "3"],
      env: {},
      cwd: "/var/task",
      mounts: [{ source: directory, target: "/var/task", writable: false }],
      limits: { memoryMB: 1769, cpuByMemory: false },
      tmpBytes: 16 * 2 ** 20,
      processesMax: 64,
      openFilesMax: 1024,
      network: "none",
    });
    const [line] = (await once(made.control, "data")) as [Buffer];
    if (line.toString() !== "answered 200\n") throw new Error(`crun: ${line.toString()}`);
    return made;
  });
  await sandbox.destroy();
}

interface Fun {
  createFunction(options: object): Promise<((payload: object) => Promise<number>) & { destroy(): Promise<void> }>;
}

/** `@vercel/fun` from npm, for this comparison only; null when it cannot be had. */
function installFun(directory: string): Fun | null {
  mkdirSync(directory);
  writeFileSync(join(directory, "package.json"), "{}");
  try {
    execFileSync("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error", "@vercel/fun@1.3"], {
      cwd: directory,
      stdio: "inherit",
    });
    return createRequire(join(directory, "package.json"))("@vercel/fun") as Fun;
  } catch {
    return null;
  }
}

async function startFun(fun: Fun, { directory, handler }: Plain, path: string, sample: Sample): Promise<void> {
  writeFileSync(
    join(directory, "fun-handler.js"),
    `exports.handler = () => { process.chdir(__dirname); return require("./serve-once.cjs")("./${handler}", ${JSON.stringify(path)}); };`,
  );
  const run = await fun.createFunction({
    Code: { Directory: directory },
    Handler: "fun-handler.handler",
    Runtime: "nodejs",
    Environment: { Variables: {} },
    MemorySize: 1769,
  });
  const status = await sample.time(() => run({}));
  await run.destroy();
  if (status !== 200) throw new Error(`@vercel/fun: ${JSON.stringify(status)} ${readFileSync(join(directory, "fun-handler.js"), "utf8")}`);
}
