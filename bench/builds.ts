/**
 * Builds: 90 Functions at first and with one of them edited, a Next.js app and an Express app at first and later, each
 * beside `vercel build` doing the same in the same run, and what 90 Functions that share 30 MB of packages take on disk.
 */
import { execFile, execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { cleanEnv, writeFiles, type Mayfly } from "../test/server.ts";
import type { Figure } from "./table.ts";

const functionsCount = 90;
const vercelVersion = "60.1.3";
const commandMsMax = 240_000;
const examples = join(dirname(import.meta.dirname), "examples");

/** 90 Functions. */
export async function benchBuilds(mayfly: Mayfly, directory: string): Promise<Figure[]> {
  return benchFunctions(mayfly, await openRival(mayfly, directory), directory);
}

/** A server and a framework. */
export async function benchProjects(mayfly: Mayfly, directory: string): Promise<Figure[]> {
  const rival = await openRival(mayfly, directory);
  return [
    ...(await benchProject("Express app", mayfly, rival, directory, writeExpress, "index.js")),
    ...(await benchProject("examples/next-date", mayfly, rival, directory, writeNext, "pages/index.js")),
  ];
}

async function openRival(mayfly: Mayfly, directory: string): Promise<Rival> {
  const program = await installVercel(join(directory, "vercel"));
  return (project) => vercelBuild(program, project, mayfly);
}

type Rival = (project: string) => Promise<number>;

// ── 90 Functions ──────────────────────────────────────────────────────────────────────────────────────────────────────

async function benchFunctions(mayfly: Mayfly, rival: Rival, directory: string): Promise<Figure[]> {
  const ours = join(directory, "ninety");
  const theirs = join(directory, "ninety-vercel");
  for (const project of [ours, theirs]) writeNinety(project);
  const first = await deploy(mayfly, ours);
  const rivalFirst = await rival(theirs);
  const edits: Deployed[] = [];
  const rivalEdits: number[] = [];
  for (let turn = 0; turn < 3; turn++) {
    for (const project of [ours, theirs]) edit(join(project, "api/f45.ts"), turn);
    edits.push(await deploy(mayfly, ours));
    rivalEdits.push(await rival(theirs));
  }
  const { built, cached } = edits.at(-1)!;
  const vercel = (values: readonly number[]) => ({ name: "`vercel build`", value: median(values) });
  const msOf = (deployed: readonly Deployed[]) => median(deployed.map((one) => one.ms));
  const buildMsOf = (deployed: readonly Deployed[]) => median(deployed.map((one) => one.buildMs));
  const rounds = edits.length;
  return [
    { what: "90 Functions, first: `mayfly deploy` to ready", unit: "ms", mayfly: first.ms, other: vercel([rivalFirst]), rounds: 1 },
    { what: "the server's part of it", unit: "ms", mayfly: first.buildMs, other: vercel([rivalFirst]), rounds: 1 },
    {
      what: `90 Functions, one edited (${built} built, ${cached} re-used)`,
      unit: "ms",
      mayfly: msOf(edits),
      other: vercel(rivalEdits),
      rounds,
    },
    { what: "the server's part of it", unit: "ms", mayfly: buildMsOf(edits), other: vercel(rivalEdits), rounds },
    { what: "the same", unit: "ms", mayfly: buildMsOf(edits), other: { name: "own first build", value: first.buildMs }, rounds },
  ];
}

function writeNinety(directory: string): void {
  const files: Record<string, string> = {
    "package.json": JSON.stringify({ name: "ninety", private: true }),
    "tsconfig.json": JSON.stringify({ compilerOptions: { target: "es2022", module: "commonjs", strict: true } }),
  };
  for (let index = 0; index < 10; index++) {
    files[`lib/part${index}.ts`] = `export interface Item { id: number; name: string }
export function items${index}(count: number): Item[] { return Array.from({ length: count }, (_, id) => ({ id, name: "item " + id })); }\n`;
  }
  for (let index = 0; index < functionsCount; index++) {
    const part = index % 10;
    files[`api/f${index}.ts`] = `import { items${part} } from "../lib/part${part}";
export default (req: { url: string }, res: { end(text: string): void }) => res.end(JSON.stringify({ f: ${index}, items: items${part}(3) }));\n`;
  }
  writeFiles(directory, files);
}

const edit = (path: string, turn: number): void => writeFileSync(path, `${readFileSync(path, "utf8")}// ${turn}\n`);

// ── whole projects ────────────────────────────────────────────────────────────────────────────────────────────────────

async function benchProject(
  name: string,
  mayfly: Mayfly,
  rival: Rival,
  directory: string,
  write: (directory: string) => void,
  edited: string,
): Promise<Figure[]> {
  const slug = name.toLowerCase().replaceAll(/[^a-z]+/g, "-");
  const ours = join(directory, slug);
  const theirs = join(directory, `${slug}-vercel`);
  for (const project of [ours, theirs]) write(project);
  const turns: [what: string, mayfly: number, rival: number][] = [];
  const take = async (what: string): Promise<void> => {
    // A project's first deployment is production's, and builds for another target are others.
    const { ms } = await deploy(mayfly, ours, "--prod");
    turns.push([what, ms, await rival(theirs)]);
  };
  await take("first: `mayfly deploy` to ready");
  for (const project of [ours, theirs]) edit(join(project, edited), 0);
  await take(`one file edited`);
  await take("nothing changed");
  return turns.map(([what, ms, rivalMs]) => ({
    what: `${name}, ${what}`,
    unit: "ms",
    mayfly: ms,
    other: { name: "`vercel build`", value: rivalMs },
    rounds: 1,
  }));
}

function writeExpress(directory: string): void {
  writeFiles(directory, {
    "package.json": JSON.stringify({ name: "express-app", private: true, dependencies: { express: "^4.21.0" } }),
    "index.js": `const app = require("express")();
app.get("/", (req, res) => res.json({ date: new Date() }));
app.listen(3000);\n`,
  });
}

function writeNext(directory: string): void {
  cpSync(join(examples, "next-date"), directory, { recursive: true, filter: (path) => !/node_modules|\.next|\.vercel/.test(path) });
}

// ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** 90 Functions that all reach the same 30 MB of packages: what the deployment adds to the data directory. */
export async function benchSharing(mayfly: Mayfly, directory: string): Promise<Figure[]> {
  const project = join(directory, "sharing");
  const packages = 60;
  const filesOfPackage = 5;
  const fileBytes = Math.floor((30 * 2 ** 20) / (packages * filesOfPackage));
  const files: Record<string, string> = { "package.json": JSON.stringify({ name: "sharing", private: true }) };
  for (let index = 0; index < packages; index++) {
    const requires: string[] = [];
    for (let file = 0; file < filesOfPackage; file++) {
      requires.push(`require("./f${file}.js");`);
      const text = `module.exports = ${index * 1000 + file}; // `;
      files[`vendor/p${index}/f${file}.js`] = text + noise(index * 1000 + file, fileBytes - text.length);
    }
    files[`vendor/p${index}/index.js`] = requires.join("\n");
  }
  files["vendor/all.js"] = Array.from({ length: packages }, (_, index) => `require("./p${index}");`).join("\n");
  for (let index = 0; index < functionsCount; index++) {
    files[`api/f${index}.js`] = `require("../vendor/all.js"); module.exports = (req, res) => res.end("${index}");`;
  }
  writeFiles(project, files);
  // As any program would have it: the same blocks, the same directories.
  const copy = await diskBytes([project]);
  const kept = ["blobs", "bundles"].map((name) => join(mayfly.data, name));
  const before = await diskBytes(kept);
  const { ms, url } = await deploy(mayfly, project);
  const stored = (await diskBytes(kept)) - before;
  for (let index = 0; index < functionsCount; index++) await mayfly.fetch(`${url}/api/f${index}`);
  const served = (await diskBytes(kept)) - before;
  const figure = (what: string, bytes: number): Figure => ({
    what,
    unit: "MB",
    mayfly: bytes / 2 ** 20,
    other: { name: "the project on disk", value: copy / 2 ** 20 },
    rounds: 1,
  });
  return [
    figure(`${functionsCount} Functions that share 30 MB in ${packages * filesOfPackage} files: stored`, stored),
    figure("stored, and all of them unpacked to be run", served),
    { what: "their `mayfly deploy` to ready", unit: "ms", mayfly: ms, other: null, rounds: 1 },
  ];
}

/** Bytes that neither compress nor repeat, from a seed. */
function noise(seed: number, length: number): string {
  let state = seed + 1;
  let text = "";
  while (text.length < length) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7f_ff_ff_ff;
    text += state.toString(36);
  }
  return text.slice(0, length);
}

/** As the disk counts: blocks, directories too, a file with many names once. */
async function diskBytes(directories: readonly string[]): Promise<number> {
  const { stdout } = await promisify(execFile)("du", ["-c", "-s", "--block-size=1", ...directories]);
  return Number(/^(\d+)\ttotal$/m.exec(stdout)![1]);
}

// ── the two ───────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Deployed {
  /** From the command's begin to its end. */
  readonly ms: number;
  /** From the build's begin to all of it stored. */
  readonly buildMs: number;
  readonly built: number;
  readonly cached: number;
  readonly url: string;
}

async function deploy(mayfly: Mayfly, directory: string, ...flags: string[]): Promise<Deployed> {
  const began = performance.now();
  const { code, stdout, stderr } = await mayfly.run("deploy", directory, "--json", ...flags);
  const ms = performance.now() - began;
  if (code !== 0) throw new Error(`mayfly deploy ended with ${code}:\n${stderr}`);
  const { url, buildSummary } = JSON.parse(stdout) as { url: string; buildSummary: { ms: number; built: number; cached: number } };
  return { ms, buildMs: buildSummary.ms, built: buildSummary.built, cached: buildSummary.cached, url };
}

async function installVercel(directory: string): Promise<string> {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "package.json"), "{}");
  await promisify(execFile)("npm", ["install", "--no-audit", "--no-fund", `vercel@${vercelVersion}`], {
    cwd: directory,
    timeout: commandMsMax,
  });
  return join(directory, "node_modules", "vercel", "dist", "index.js");
}

/** Its best case: logged in, at a server that answers at once, so that it waits for nothing. @returns milliseconds */
async function vercelBuild(program: string, project: string, mayfly: Mayfly): Promise<number> {
  mkdirSync(join(project, ".vercel"), { recursive: true });
  const packageJson = JSON.parse(readFileSync(join(project, "package.json"), "utf8")) as { dependencies?: Record<string, string> };
  const framework = ["next", "express"].find((name) => packageJson.dependencies?.[name] !== undefined);
  const settings = framework === undefined ? {} : { framework: framework === "next" ? "nextjs" : framework };
  writeFileSync(join(project, ".vercel/project.json"), JSON.stringify({ settings }));
  rmSync(join(project, ".vercel/output"), { recursive: true, force: true });
  const began = performance.now();
  const child = spawn(process.execPath, [program, "build", "--yes", "--api", mayfly.api, "--token", "none"], {
    cwd: project,
    env: {
      ...cleanEnv(mayfly.home),
      ...npmSettings(),
      VERCEL_TELEMETRY_DISABLED: "1",
      NO_UPDATE_NOTIFIER: "1",
      PATH: `${dirname(process.execPath)}:${process.env["PATH"]}`,
    },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: commandMsMax,
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk));
  child.stderr.on("data", (chunk: Buffer) => (output += chunk));
  const code = await new Promise((resolve) => child.once("close", resolve));
  if (code !== 0) throw new Error(`vercel build ended with ${String(code)}:\n${output}`);
  return performance.now() - began;
}

/** Where this machine's npm finds packages, as Mayfly's own installs do. */
function npmSettings(): Record<string, string> {
  const settings = ["registry", "cafile"].map((name) => [`npm_config_${name}`, npmSetting(name)] as const);
  return Object.fromEntries(settings.filter(([, value]) => value !== "" && value !== "null"));
}

const npmSetting = (name: string): string =>
  execFileSync("npm", ["config", "get", name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
