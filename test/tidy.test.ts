/** The rules of the house that a machine can check: who imports whom, where settings are read, what the docs promise. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { it } from "node:test";
import { pages } from "../docs/pages.ts";
import { errorTable } from "../src/errors.ts";

const root = dirname(import.meta.dirname);
const src = join(root, "src");

interface SourceFile {
  /** Relative to src: `gateway/route.ts`. */
  readonly path: string;
  readonly text: string;
  /** Relative to src for our own files, else the specifier. */
  readonly imports: readonly string[];
}

const files: readonly SourceFile[] = readdirSync(src, { recursive: true, encoding: "utf8" })
  .filter((path) => /\.(ts|js|cjs)$/.test(path))
  .map((path) => {
    const text = readFileSync(join(src, path), "utf8");
    const specifiers = [
      ...text.matchAll(
        /^\s*(?:import|export)\b[^"'`;]*?from\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)|^import\s*["']([^"']+)["']/gm,
      ),
    ];
    const imports = specifiers
      .map((match) => match[1] ?? match[2] ?? match[3]!)
      .map((name) => (name.startsWith(".") ? relative(src, resolve(src, dirname(path), name)) : name));
    return { path, text, imports };
  });

const isTest = (path: string) => /(\.test|\.conformance|\/testbed)\.ts$/.test(path);
const room = (path: string) => (path.includes("/") ? path.split("/", 1)[0]! : path);
const withoutComments = (text: string) => text.replaceAll(/\/\*[\s\S]*?\*\/|(?<=\s)\/\/.*/g, "");
const isOwn = (name: string) => files.some((file) => file.path === name);
const product = files.filter((file) => !isTest(file.path));

/** Checks every import of the chosen files, and that there is something to check. */
function eachImport(chosen: readonly SourceFile[], check: (file: SourceFile, name: string) => string | null): void {
  assert.ok(chosen.length > 0, "no file is checked by this rule");
  const wrong = chosen.flatMap((file) => file.imports.map((name) => check(file, name))).filter((problem) => problem !== null);
  assert.deepEqual(wrong, []);
}

it("the nouns import nothing", () => {
  for (const name of ["model.ts", "errors.ts"]) {
    assert.deepEqual(files.find((file) => file.path === name)?.imports, []);
  }
});

it("seams import only model, errors and other people's types", () => {
  const seams = [
    "sandbox/sandbox.ts",
    "store/store.ts",
    "blobs/blob-store.ts",
    "logs/log-store.ts",
    "usage/usage-store.ts",
    "git/git-host.ts",
    "build/builder.ts",
    "functions/functions.ts",
  ];
  const allowed = new Set(["model.ts", "errors.ts", "store/tables.ts"]);
  eachImport(
    files.filter((file) => seams.includes(file.path)),
    (file, name) => (allowed.has(name) || !isOwn(name) ? null : `${file.path} imports ${name}`),
  );
});

it("the data plane never imports the control plane", () => {
  const control = new Set(["api", "deploy", "build", "git", "cli", "client"]);
  eachImport(
    product.filter((file) => ["gateway", "functions", "sandbox", "images"].includes(room(file.path))),
    (file, name) => (isOwn(name) && control.has(room(name)) ? `${file.path} imports ${name}` : null),
  );
});

it("the data plane's process loads nothing of the control plane", () => {
  const control = new Set(["api", "deploy", "build", "git", "client", "control-plane.ts"]);
  const loaded = new Set<string>();
  const load = (path: string): void => {
    if (loaded.has(path)) return;
    loaded.add(path);
    for (const [, name] of files
      .find((file) => file.path === path)!
      .text.matchAll(/^(?:import|export) (?!type\b)[^"]*from "(\.[^"]+)"/gm)) {
      load(relative(src, resolve(src, dirname(path), name!)));
    }
  };
  load("node.ts");
  assert.ok(loaded.has("gateway/gateway.ts"));
  assert.deepEqual(
    [...loaded].filter((path) => control.has(room(path))),
    [],
  );
});

it("the client and the command line reach the server over its API only", () => {
  const server = new Set(["api", "deploy", "build", "git", "gateway", "functions", "sandbox", "store", "blobs", "logs", "usage"]);
  eachImport(
    product.filter((file) => ["cli", "client"].includes(room(file.path))),
    (file, name) => (isOwn(name) && server.has(room(name)) ? `${file.path} imports ${name}` : null),
  );
});

it("the guest imports only itself and node:", () => {
  eachImport(
    product.filter((file) => room(file.path) === "runtime"),
    (file, name) => (name.startsWith("node:") || name.startsWith("runtime/") ? null : `${file.path} imports ${name}`),
  );
});

it("pictures are decoded in a sandbox only", () => {
  eachImport(product, (file, name) => (name === "sharp" && file.path !== "images/worker.js" ? `${file.path} imports ${name}` : null));
  eachImport(
    product.filter((file) => ["images/worker.js", "images/frames.js"].includes(file.path)),
    (file, name) => (name.startsWith("node:") || ["sharp", "images/frames.js"].includes(name) ? null : `${file.path} imports ${name}`),
  );
});

it("only platform.ts picks drivers, and drivers do not know each other", () => {
  const drivers = [
    "sandbox/oci.ts",
    "sandbox/bubblewrap.ts",
    "sandbox/process.ts",
    "store/sqlite.ts",
    "blobs/disk.ts",
    "logs/sqlite.ts",
    "usage/sqlite.ts",
    "git/github.ts",
    "git/gitlab.ts",
  ];
  for (const driver of drivers) assert.ok(isOwn(driver), driver);
  eachImport(
    product.filter((file) => file.path !== "platform.ts"),
    (file, name) => (drivers.includes(name) ? `${file.path} imports ${name}` : null),
  );
});

it("no file imports itself by way of others", () => {
  const importsOf = new Map(product.map((file) => [file.path, file.imports.filter(isOwn)]));
  const done = new Set<string>();
  const visit = (path: string, way: readonly string[]): void => {
    assert.ok(!way.includes(path), `cycle: ${[...way, path].join(" → ")}`);
    if (done.has(path)) return;
    for (const next of importsOf.get(path) ?? []) visit(next, [...way, path]);
    done.add(path);
  };
  for (const file of product) visit(file.path, []);
});

it("every file says what it is in its first lines", () => {
  const headless = files.filter((file) => !/^(#!.*\n)?\/\*\*/.test(file.text)).map((file) => file.path);
  assert.deepEqual(headless, []);
});

it("what a file exports, another one uses", () => {
  const others = ["test", "bench", "docs", "bin"].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((path) => /\.(ts|js)$|^mayfly$/.test(path) && !path.includes("node_modules"))
      .map((path) => ({ path: `${folder}/${path}`, text: readFileSync(join(root, folder, path), "utf8") })),
  );
  const words = [...files, ...others].map(({ path, text }) => ({ path, names: new Set(text.match(/\w+/g)) }));
  const alone = files.flatMap(({ path, text }) =>
    [...text.matchAll(/^export (?:async )?(?:function\*?|const|let) (\w+)/gm)]
      .map((match) => match[1]!)
      .filter((name) => !words.some((other) => other.path !== path && other.names.has(name)))
      .map((name) => `${path}: ${name}`),
  );
  assert.deepEqual(alone, []);
});

it("settings are read in one place", () => {
  const allowed = new Set(["cli/main.js"]);
  const inside = (path: string) =>
    room(path) === "runtime" || ["build/worker.ts", "build/command.ts", "build/vercel.ts", "build/event-bridge.ts"].includes(path); // their environment is the sandbox's
  const readers = product.filter(
    (file) => /\bprocess\.env\b/.test(withoutComments(file.text)) && !allowed.has(file.path) && !inside(file.path),
  );
  assert.deepEqual(
    readers.map((file) => file.path),
    [],
  );
});

it("no string becomes a shell's command line", () => {
  const shells = product.filter((file) => /\b(exec|execSync)\(|shell:\s*true/.test(file.text.replaceAll(/\.exec\(/g, "")));
  assert.deepEqual(
    shells.map((file) => file.path),
    [],
  );
});

it("the pages of docs/ that are made from the code are what it says (npm run fix writes them)", async () => {
  for (const [name, page] of Object.entries(pages)) {
    assert.ok(readFileSync(join(root, "docs", name), "utf8") === (await page()), `docs/${name} is out of date: npm run fix`);
  }
});

it("the tests that the documents promise are there", () => {
  const promised = ["SPECIFICATION.md", "docs/security.md"].flatMap((name) =>
    [...readFileSync(join(root, name), "utf8").matchAll(/`((?:src|test)\/[^`]+?\.ts)`/g)].map((match) => match[1]!),
  );
  assert.ok(promised.length > 100, `${promised.length} are promised`);
  const absent = new Set(promised.filter((path) => !path.includes("*") && !existsSync(join(root, path))));
  assert.deepEqual([...absent], []);
});

it("every error code is used somewhere", () => {
  const text = product
    .filter((file) => file.path !== "errors.ts")
    .map((file) => file.text)
    .join("\n");
  const unused = Object.keys(errorTable).filter((code) => !text.includes(`"${code}"`));
  assert.deepEqual(unused, []);
});

it("the lock file carries no download addresses", () => {
  assert.doesNotMatch(readFileSync(join(root, "package-lock.json"), "utf8"), /"resolved": "http/);
});
