/** Whole builds in real (process) sandboxes: what comes out, what is refused, what the log says, what is left behind. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { after, before, test } from "node:test";
import type { FunctionSpec } from "../model.ts";
import type { BuildResult } from "./build.ts";
import { hasRegistry, openTestbed } from "./testbed.ts";
import type { BuildOptions, Files, Testbed } from "./testbed.ts";

let bed: Testbed;
before(async () => {
  bed = await openTestbed();
});
after(() => bed[Symbol.asyncDispose]());

const json = (value: unknown): string => JSON.stringify(value);

function functionAt(result: BuildResult, path: string): FunctionSpec {
  const output = result.outputs[path];
  assert.equal(output?.kind, "function", `${path} is ${json(output)}`);
  return result.functions[output.functionId]!;
}

/** Of all processes of this machine. */
function commandLines(): string {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8");
      } catch {
        return "";
      }
    })
    .join("\n");
}

async function refused(files: Files, code: string, message: RegExp, options: BuildOptions = {}): Promise<void> {
  await assert.rejects(bed.build(files, options), (error: Error & { code?: string; log?: string[] }) => {
    assert.equal(error.code, code, `${error.message}\n${error.log?.join("\n")}`);
    assert.match(error.message, message);
    return true;
  });
  assert.deepEqual(await bed.leftovers(), []);
}

test("examples/hello: a file and a Function", async () => {
  const result = await bed.build(await bed.example("hello"));
  assert.deepEqual(Object.keys(result.outputs).sort(), ["api/date", "index.html"]);
  const spec = functionAt(result, "api/date");
  assert.deepEqual(
    {
      handler: spec.handler,
      runtime: spec.runtime,
      helpers: spec.helpers,
      memoryMB: spec.memoryMB,
      maxDurationS: spec.maxDurationS,
      name: spec.name,
    },
    { handler: "api/date.js", runtime: "nodejs24.x", helpers: true, memoryMB: 1769, maxDurationS: 300, name: "api/date" },
  );
  assert.deepEqual(Object.keys(await bed.bundle(spec)), ["api/date.js"]);
  assert.deepEqual(await bed.leftovers(), []);
  const again = await bed.build(await bed.example("hello"));
  assert.deepEqual(Object.keys(again.functions), Object.keys(result.functions), "equal Functions have equal ids");
});

test("a static site has no sandbox and no Function", async () => {
  const result = await bed.build({ "index.html": "hi" });
  assert.equal(await bed.text(result, "index.html"), "hi");
  assert.deepEqual(result.functions, {});
  assert.deepEqual(result.log, []);
});

test("TypeScript and modules run as CommonJS, with what they reach", async () => {
  const result = await bed.build({
    "package.json": "{}",
    "api/a.ts": 'import { x } from "../lib/x";\nimport type { T } from "../lib/t";\nexport default (req: unknown): T => x as T;\n',
    "lib/x.ts": 'import y from "./y.js";\nexport const x: number = y;\n',
    "lib/y.js": "export default 41 + 1;\n",
    "lib/t.ts": "export type T = number;\n",
    "lib/unused.ts": "",
    "api/m.js":
      'import { readFileSync } from "node:fs";\nimport { join } from "node:path";\nexport default () => readFileSync(join(import.meta.dirname, "../data/d.txt"));\n',
    "data/d.txt": "data",
  });
  const bundle = await bed.bundle(functionAt(result, "api/a"));
  assert.deepEqual(Object.keys(bundle), ["api/a.js", "lib/x.js", "lib/y.js", "package.json"]);
  assert.match(bundle["api/a.js"]!, /module\.exports = __toCommonJS/);
  assert.equal(functionAt(result, "api/a").handler, "api/a.js");
  const module = { exports: {} as { default?: () => unknown } };
  const load = (path: string): unknown => {
    const inner = { exports: {} };
    new Function("module", "exports", "require", bundle[path]!)(inner, inner.exports, (name: string) =>
      load(join("lib", name.replace(/(\.js)?$/, ".js"))),
    );
    return inner.exports;
  };
  Object.assign(module.exports, load("api/a.js"));
  assert.equal(module.exports.default?.(), 42);
  const native = await bed.bundle(functionAt(result, "api/m"));
  assert.match(native["api/m.js"]!, /import\.meta\.dirname/);
  assert.match(native["api/m.js"]!, /^import /m);
});

test("tsconfig.json: extends, and paths that become relative", async () => {
  const result = await bed.build({
    "tsconfig.base.json": json({ compilerOptions: { jsx: "preserve", experimentalDecorators: true } }),
    "tsconfig.json":
      '{ // aliases\n "extends": "./tsconfig.base", "compilerOptions": { "baseUrl": ".", "paths": { "@/*": ["src/*"], "config": ["src/config/index.ts"] } } }',
    "api/a.ts":
      'import { x } from "@/lib/x";\nimport { View } from "@/view";\nimport config from "config";\nimport { join } from "node:path";\nconst d = (c: unknown) => c as never;\n@d class C {}\nexport default () => [x, View, config, join, C];\n',
    "src/lib/x.ts": 'import y from "@/lib/y.json";\nexport const x: number = y.y;\n',
    "src/lib/y.json": '{ "y": 1 }',
    "src/view.tsx": "/** @jsxImportSource . */\nexport const View = () => <p />;\n",
    "src/config/index.ts": "export default { a: 1 };\n",
  });
  const bundle = await bed.bundle(functionAt(result, "api/a"));
  assert.deepEqual(Object.keys(bundle), ["api/a.js", "src/config/index.js", "src/lib/x.js", "src/lib/y.json", "src/view.js"]);
  assert.match(bundle["api/a.js"]!, /require\("\.\.\/src\/lib\/x\.js"\)/);
  assert.doesNotMatch(bundle["api/a.js"]!, /@d |"@\//);
  assert.doesNotMatch(bundle["src/view.js"]!, /<p/);
});

test("a stack trace names the lines of TypeScript", async () => {
  const result = await bed.build({
    "api/a.ts": 'import { fail } from "../lib/fail";\nexport default (): void => fail({ why: "boom" });\n',
    "lib/fail.ts":
      "interface Reason {\n  readonly why: string;\n}\n\nexport function fail(reason: Reason): never {\n  throw new Error(reason.why);\n}\n",
  });
  const directory = await mkdtemp(join(tmpdir(), "mayfly-stack-"));
  try {
    for (const [path, text] of Object.entries(await bed.bundle(functionAt(result, "api/a")))) {
      await mkdir(dirname(join(directory, path)), { recursive: true });
      await writeFile(join(directory, path), text);
    }
    const script = `import { mapStackTraces } from ${json(resolve(import.meta.dirname, "../runtime/source-maps.js"))};
      import { createRequire } from "node:module";
      mapStackTraces();
      try { createRequire("/")(${json(join(directory, "api/a.js"))}).default(); } catch (error) { console.log(error.stack); }`;
    const stack = execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
    assert.match(stack, /^Error: boom\n {4}at fail \(.*lib\/fail\.ts:6:9\)\n {4}at .*api\/a\.ts:2:\d+/);
    assert.ok(stack.includes("node:internal"), "Node's own frames are left as they are");
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('TypeScript in a "type": "module" package stays modules', async () => {
  const result = await bed.build({
    "package.json": json({ type: "module" }),
    "api/a.ts": 'import { x } from "../lib/x.ts";\nexport const GET = () => new Response(x);\n',
    "lib/x.ts": 'export const x: string = "x";\n',
    "api/c.cjs": "",
  });
  const bundle = await bed.bundle(functionAt(result, "api/a"));
  assert.deepEqual(Object.keys(bundle), ["api/a.js", "lib/x.js", "package.json"]);
  assert.match(bundle["api/a.js"]!, /from "\.\.\/lib\/x\.js"/);
});

test("JSX, decorators and other tsconfig options work", async () => {
  const result = await bed.build({
    "tsconfig.json": '{ // with a comment\n "compilerOptions": { "jsx": "preserve", "experimentalDecorators": true } }',
    "api/a.tsx":
      "/** @jsxImportSource ./jsx */\nconst d = (c: unknown) => c as never;\n@d class C {}\nexport default () => <p>{String(C)}</p>;\n",
    "api/jsx/jsx-runtime.js": "exports.jsx = (type) => type;",
  });
  const bundle = await bed.bundle(functionAt(result, "api/a"));
  assert.doesNotMatch(bundle["api/a.js"]!, /<p>|@d/);
});

test("settings of vercel.json and of the file itself", async () => {
  const result = await bed.build({
    "vercel.json": json({
      functions: { "api/a.js": { memory: 256, maxDuration: 7, includeFiles: "data/**" }, "api/big.js": { memory: 9000 } },
    }),
    "api/a.js": "exports.config = { maxDuration: 60 }; module.exports = () => {};",
    "api/b.js": "export const maxDuration = 9; // export const maxDuration = 1\nexport default () => {};",
    "api/computed.js": "export const config = { maxDuration: 5 * 60 };\nexport default () => {};",
    "api/big.js": "",
    "data/x/y.txt": "y",
    "other.txt": "",
  });
  const a = functionAt(result, "api/a");
  assert.equal(a.memoryMB, 256);
  assert.equal(a.maxDurationS, 7);
  assert.deepEqual(Object.keys(await bed.bundle(a)), ["api/a.js", "data/x/y.txt"]);
  assert.equal(functionAt(result, "api/b").maxDurationS, 9);
  assert.equal(functionAt(result, "api/computed").maxDurationS, 300, "5 * 60 is no 5");
  assert.equal(functionAt(result, "api/big").memoryMB, 3008);
  assert.ok(result.log.some((line) => /memory of 9000 MB/.test(line)));
});

test("build.env of vercel.json is heard wherever a plan is built, and is no secret; what the build is given wins", async () => {
  const files = {
    "vercel.json": json({ build: { env: { FIRST: "production", SECOND: "production" } } }),
    "package.json": json({ scripts: { build: 'mkdir -p public && echo "$FIRST $SECOND" | tee public/index.html' } }),
  };
  const result = await bed.build(files, { buildEnv: { SECOND: "given-secret" } });
  assert.equal(await bed.text(result, "index.html"), "production given-secret\n");
  const line = result.log.find((one) => one.startsWith("production "));
  assert.ok(line !== undefined && !line.includes("given-secret"), result.log.join("\n"));
});

test("config exports of a file, over which vercel.json wins; and the project's Node", async () => {
  const result = await bed.build({
    "package.json": json({ engines: { node: ">=20 <24" } }),
    "vercel.json": json({ regions: ["lhr1"], functions: { "api/b.*": { memory: 512, regions: ["fra1"] } } }),
    "api/c.js": "module.exports = () => {};",
    "api/a.ts": "export const config = { maxDuration: 30, memory: 1024, regions: [\"iad1\", 'sfo1'] };\nexport default () => {};",
    "api/b.js": 'module.exports = () => {}; module.exports.config = { memory: 1024, maxDuration: 30, regions: ["iad1"] };',
  });
  const settingsOf = (path: string) => {
    const { memoryMB, maxDurationS, regions, runtime } = functionAt(result, path);
    return { memoryMB, maxDurationS, regions, runtime };
  };
  assert.deepEqual(settingsOf("api/a"), { memoryMB: 1024, maxDurationS: 30, regions: ["iad1", "sfo1"], runtime: "nodejs22.x" });
  assert.deepEqual(settingsOf("api/b"), { memoryMB: 512, maxDurationS: 30, regions: ["fra1"], runtime: "nodejs22.x" });
  assert.deepEqual(settingsOf("api/c").regions, ["lhr1"]);
  await refused(
    { "package.json": json({ engines: { node: "12.x" } }), "api/a.js": "" },
    "BUILD_FAILED",
    /"engines": \{"node": "12\.x"\} in package\.json/,
  );
});

test("a syntax error never fails the build: its Function throws it", async () => {
  const result = await bed.build({
    "api/good.js": "module.exports = () => {};",
    "api/bad.js": "module.exports = () => { return ]; };",
    "api/worse.js": "import x from './lib'; export default {{;",
    "api/typed.ts": "export default (: number) => {};",
    "lib.js": "",
  });
  assert.match((await bed.bundle(functionAt(result, "api/bad")))["api/bad.js"]!, /return \]/);
  assert.match((await bed.bundle(functionAt(result, "api/worse")))["api/worse.js"]!, /default \{\{/);
  assert.match((await bed.bundle(functionAt(result, "api/typed")))["api/typed.js"]!, /^throw new SyntaxError\(".*api\/typed\.ts:1:16/);
  assert.ok(result.log.some((line) => /api\/typed\.ts/.test(line)));
});

test("legacy builds: settings in their config, and a build of its own directory", async () => {
  const result = await bed.build({
    "vercel.json": json({
      builds: [
        {
          src: "api/*.js",
          use: "@vercel/node",
          config: { includeFiles: ["data/**"], excludeFiles: "data/no.txt", memory: 512, helpers: false },
        },
        { src: "web/package.json", use: "@vercel/static-build", config: { distDir: "out" } },
        { src: "docs/build.sh", use: "@vercel/static-build", config: { distDir: "html" } },
      ],
    }),
    "api/a.js": "module.exports = () => {};",
    "data/x.txt": "x",
    "data/no.txt": "",
    "web/package.json": json({ scripts: { "vercel-build": "mkdir out && echo web > out/index.html" } }),
    "docs/build.sh": "#!/bin/sh\nmkdir html && echo docs > html/index.html\n",
  });
  const spec = functionAt(result, "api/a.js");
  assert.deepEqual([spec.memoryMB, spec.helpers], [512, false]);
  assert.deepEqual(Object.keys(await bed.bundle(spec)), ["api/a.js", "data/x.txt"]);
  assert.equal(await bed.text(result, "web/index.html"), "web\n");
  assert.equal(await bed.text(result, "docs/index.html"), "docs\n");
});

test("a runtime that there is not is refused by name", async () => {
  await refused(
    { "api/e.js": 'export const config = { runtime: "bun" };\nexport default () => {};' },
    "BUILD_OUTPUT_UNSUPPORTED",
    /"api\/e\.js".*"bun"/,
  );
});

test("a server answers every path that no file does", async () => {
  const result = await bed.build({
    "server.js": 'require("node:http").createServer((q, s) => s.end("x")).listen(3000)',
    "package.json": "{}",
  });
  assert.equal(result.framework, "node");
  assert.equal(functionAt(result, "index").handler, "server.js");
  const unbuilt = await bed.plan({
    "src/index.ts": 'import { createServer } from "node:http";\ncreateServer().listen(3000);',
    "vercel.json": json({ buildCommand: "" }),
  });
  assert.deepEqual(
    [unbuilt.job?.steps.map(({ entrypoint }) => entrypoint), unbuilt.outputs],
    [["src/index.ts"], {}],
    "its source is no site",
  );
  assert.ok(result.routes.some((route) => "src" in route && route.src === "^/(.*)$" && route.dest === "/"));
});

test("a server that its own build compiles runs as compiled", async () => {
  const result = await bed.build({
    "src/server.ts": "export default (req: unknown) => {};",
    "package.json": json({ scripts: { build: "mkdir dist && echo compiled > dist/server.js" } }),
  });
  assert.deepEqual(await bed.bundle(functionAt(result, "index")).then((bundle) => bundle["dist/server.js"]), "compiled\n");
});

test("a build script's output directory, with the environment of a build", async () => {
  const result = await bed.build(
    {
      "package.json": json({
        scripts: { build: "mkdir public && echo $CI $VERCEL_ENV $PLAIN > public/index.html && env | sort > public/env.txt" },
      }),
    },
    { buildEnv: { PLAIN: "word", PATH: "/nowhere", NODE_OPTIONS: "--no-warnings" } },
  );
  assert.equal(await bed.text(result, "index.html"), "1 production word\n");
  const env = await bed.text(result, "env.txt");
  assert.doesNotMatch(env, /MAYFLY/);
  for (const name of Object.keys(process.env)) {
    if (/TOKEN|SECRET|PASSWORD/.test(name)) assert.doesNotMatch(env, new RegExp(`^${name}=`, "m"));
  }
  assert.ok(result.log.includes("Building: npm run build"));
});

test("a build that fails, and one that leaves nothing", async () => {
  await refused(
    { "package.json": json({ scripts: { build: "echo no >&2; exit 3" } }) },
    "BUILD_FAILED",
    /"npm run build" ended with exit code 3/,
  );
  for (const [path, file] of [
    ["vercel.json", { buildCommand: "hugo --gc" }],
    ["package.json", { scripts: { build: "hugo --gc" } }],
  ] as const)
    await refused({ [path]: json(file), "hugo.toml": "" }, "BUILD_FAILED", /exit code 127\. Builds have no program "hugo"/);
  await refused(
    { "vercel.json": json({ buildCommand: "true", outputDirectory: "out" }), a: "" },
    "BUILD_FAILED",
    /no output directory "out"/,
  );
});

test(".vercel/output that a build writes is taken as it is, with api/ beside it", async () => {
  const script = `
    const fs = require("fs");
    fs.mkdirSync(".vercel/output/static/deep", { recursive: true });
    fs.mkdirSync(".vercel/output/functions/render.func", { recursive: true });
    fs.writeFileSync(".vercel/output/static/deep/page.html", "<p>");
    fs.writeFileSync(".vercel/output/functions/render.func/index.js", "module.exports = () => {}");
    fs.writeFileSync(".vercel/output/functions/render.func/.vc-config.json", JSON.stringify({ runtime: "nodejs22.x", handler: "index.js", launcherType: "Nodejs" }));
    fs.symlinkSync("render.func", ".vercel/output/functions/again.func");
    fs.writeFileSync(".vercel/output/config.json", JSON.stringify({ version: 3,
      routes: [{ src: "/old", status: 308, headers: { Location: "/new" } }, { handle: "filesystem" }, { src: "/(.*)", dest: "/render" }],
      overrides: { "deep/page.html": { path: "deep", contentType: "text/html; charset=x" } } }));
  `;
  const result = await bed.build({
    "package.json": json({ scripts: { build: "node build.js" } }),
    "build.js": script,
    "api/a.js": "",
    ".vercel/output/static/stale": "",
  });
  assert.deepEqual(Object.keys(result.outputs).sort(), ["again", "api/a", "deep", "render"]);
  assert.deepEqual(result.outputs["again"], result.outputs["render"]);
  const page = result.outputs["deep"];
  assert.equal(page?.kind === "static" ? page.contentType : "", "text/html; charset=x");
  assert.equal(Object.keys(result.functions).length, 2);
  assert.ok(result.routes.some((route) => "src" in route && route.src === "/old"));
});

test("secrets are masked in the log and in the message, long lines are cut", async () => {
  const secret = "s3cret&value/é";
  const script = `const s = process.env.KEY; console.log("plain", s); console.log(Buffer.from(s).toString("base64")); console.error(encodeURIComponent(s));
    console.log("x".repeat(3000)); process.stdout.write("y".repeat(70000) + s + "z".repeat(70000)); process.exit(1)`;
  await assert.rejects(
    bed.build(
      { "vercel.json": json({ buildCommand: `node build.js # ${secret}` }), "build.js": script },
      { env: { OTHER: "word" }, buildEnv: { KEY: secret } },
    ),
    (error: Error & { log?: string[] }) => {
      const log = error.log ?? [];
      assert.ok(log.includes("plain ••••••"));
      for (const form of [secret, Buffer.from(secret).toString("base64"), encodeURIComponent(secret)]) {
        assert.ok(!log.join("").includes(form), form);
        assert.ok(!error.message.includes(form));
      }
      assert.ok(log.every((line) => Buffer.byteLength(line) <= 1024));
      assert.ok(log.join("").includes("z".repeat(1024)));
      return true;
    },
  );
});

test("a build has its time", async () => {
  await refused({ "vercel.json": json({ buildCommand: "sleep 60" }), a: "" }, "BUILD_TIMEOUT", /longer than 1 s/, {
    config: { buildTimeoutMs: 1000 },
  });
});

test("a build can be cancelled", async () => {
  await refused({ "vercel.json": json({ buildCommand: "sleep 60" }), a: "" }, "canceled", /./, { signal: AbortSignal.timeout(700) });
});

test("a command that was killed is out of memory", async () => {
  await refused({ "vercel.json": json({ buildCommand: "kill -9 $$" }), a: "" }, "BUILD_OUT_OF_MEMORY", /was killed/);
});

test("a build that needs more memory than it may have", async (context) => {
  if (bed.sandboxes.can.memoryLimit !== "tree") return context.skip("this sandbox driver has no memory limit");
  const hungry = "const kept = []; for (;;) kept.push(Buffer.alloc(1 << 24, 1));";
  await refused({ "vercel.json": json({ buildCommand: "node hungry.js" }), "hungry.js": hungry }, "BUILD_OUT_OF_MEMORY", /memory/, {
    config: { buildMemoryMB: 512 },
  });
});

test("a build that takes more disk than it may", async () => {
  const config = { buildDiskBytesMax: 32 * 1024 * 1024 };
  const filling = "dd if=/dev/zero of=big bs=1M count=64 2>/dev/null; sleep 60";
  await refused({ "vercel.json": json({ buildCommand: filling }), a: "" }, "BUILD_OUT_OF_DISK", /more than 32 MB of disk/, { config });
});

test("what a build leaves running ends with it", async () => {
  const marker = `mayfly-daemon-${process.pid}`;
  const files = {
    "vercel.json": json({
      buildCommand: `mkdir out && (setsid sh -c "sleep 300; echo ${marker}" >/dev/null 2>&1 &) && echo x > out/a`,
      outputDirectory: "out",
    }),
    a: "",
  };
  const result = await bed.build(files);
  assert.equal(await bed.text(result, "a"), "x\n");
  if (bed.sandboxes.can.processIsolation) assert.doesNotMatch(commandLines(), new RegExp(marker));
});

test("several Functions that fail are all named, and the log says which line is whose", async () => {
  const failing = 'export const config = { runtime: "python3.12" };\nexport default () => {};';
  await assert.rejects(
    bed.build({ "api/one.js": failing, "api/two.js": failing, "api/good.js": "module.exports = () => {};" }),
    (error: Error & { code?: string; log?: string[] }) => {
      assert.equal(error.code, "BUILD_OUTPUT_UNSUPPORTED");
      assert.match(error.message, /2 of 3 Functions failed:\n {2}api\/one\.js: .*python3\.12.*\n {2}api\/two\.js: /);
      for (const name of ["one", "two"])
        assert.ok(
          error.log?.some((line) => line.startsWith(`[api/${name}.js] Error: `)),
          error.log?.join("\n"),
        );
      return true;
    },
  );
});

test("directories without rights, or deeper than a path, do not stay behind", async () => {
  const script = `
    const fs = require("fs");
    fs.mkdirSync("shut/in", { recursive: true }); fs.chmodSync("shut", 0);
    for (let depth = 0; depth < 60; depth++) { const name = "d".repeat(100); fs.mkdirSync(name); process.chdir(name); }
    process.exit(1);`;
  await refused({ "vercel.json": json({ buildCommand: "node deep.js" }), "deep.js": script }, "BUILD_FAILED", /exit code 1/);
});

test("a worker that is killed, or lies, fails its own build only", async () => {
  await refused({ "vercel.json": json({ buildCommand: "kill -9 $PPID; sleep 5" }), a: "" }, "BUILD_FAILED", /exit code 137/);
});

test("a bundle that is too large names its largest files", async () => {
  const files: Record<string, string | Uint8Array> = {
    "api/a.js": "",
    "vercel.json": json({ functions: { "api/a.js": { includeFiles: "data/**" } } }),
  };
  for (let index = 0; index < 25; index++) files[`data/${index}.bin`] = new Uint8Array(100_000 + index);
  await refused(
    files,
    "FUNCTION_TOO_LARGE",
    /"api\/a" has 2\.38 MB in 26 files; the limit is 2\.00 MB.*\n {2}0\.10 MB {2}data\/24\.bin\n(?:.*\n){18}.*data\/5\.bin$/,
    {
      config: { functionBundleBytesMax: 2 * 1024 * 1024 },
    },
  );
});

test("links out of the source are not written", async () => {
  const result = await bed.build({
    "api/a.js": 'module.exports = () => require("fs").readFileSync(__dirname + "/../passwd")',
    passwd: { link: "../../../../../../etc/passwd" },
    absolute: { link: "/etc/passwd" },
    "vercel.json": json({ functions: { "api/a.js": { includeFiles: "*" } } }),
  });
  assert.deepEqual(Object.keys(await bed.bundle(functionAt(result, "api/a"))), ["api/a.js", "vercel.json"]);
  assert.equal(result.log.filter((line) => /leads out/.test(line)).length, 2);
});

// ── installs ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const registry = await hasRegistry();
const skip = registry ? false : "no npm registry can be reached";
const integrity = "sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA==";
const wantsMs = json({ name: "x", dependencies: { ms: "2.1.3" } });
const usesMs = 'module.exports = (req, res) => res.end(require("ms")(60000));';
const npmLock = json({
  name: "x",
  lockfileVersion: 3,
  requires: true,
  packages: { "": { name: "x", dependencies: { ms: "2.1.3" } }, "node_modules/ms": { version: "2.1.3", integrity, license: "MIT" } },
});

const managers: readonly (readonly [name: string, files: Files])[] = [
  ["npm", { "package-lock.json": npmLock }],
  [
    "pnpm",
    {
      "pnpm-lock.yaml": `lockfileVersion: '9.0'

settings:
  autoInstallPeers: true
  excludeLinksFromLockfile: false

importers:

  .:
    dependencies:
      ms:
        specifier: 2.1.3
        version: 2.1.3

packages:

  ms@2.1.3:
    resolution: {integrity: ${integrity}}

snapshots:

  ms@2.1.3: {}
`,
    },
  ],
  ["yarn", { "yarn.lock": `# yarn lockfile v1\n\n\nms@2.1.3:\n  version "2.1.3"\n  integrity ${integrity}\n` }],
  // Without `packageManager`: the lock file tells which Yarn has written it.
  [
    "yarn-berry",
    {
      "yarn.lock": `# This file is generated by running "yarn install" inside your project.
# Manual changes might be lost - proceed with caution!

__metadata:
  version: 8
  cacheKey: 10c0

"ms@npm:2.1.3":
  version: 2.1.3
  resolution: "ms@npm:2.1.3"
  checksum: 10c0/d924b57e7312b3b63ad21fc5b3dc0af5e78d61a1fc7cfb5457edaf26326bf62be5307cc87ffb6862ef1c2b33b0233cdb5d4f01c4c958cc0d660948b65a287a48
  languageName: node
  linkType: hard

"x@workspace:.":
  version: 0.0.0-use.local
  resolution: "x@workspace:."
  dependencies:
    ms: "npm:2.1.3"
  languageName: unknown
  linkType: soft
`,
    },
  ],
  [
    "bun",
    {
      "bun.lock": `{
  "lockfileVersion": 1,
  "workspaces": { "": { "name": "x", "dependencies": { "ms": "2.1.3" } } },
  "packages": { "ms": ["ms@2.1.3", "", {}, "${integrity}"] }
}
`,
    },
  ],
];

for (const [name, lock] of managers) {
  test(`${name} installs by its lock file`, { skip }, async () => {
    const result = await bed.build({ "package.json": wantsMs, "api/a.js": usesMs, ...lock });
    const bundle = Object.keys(await bed.bundle(functionAt(result, "api/a")));
    assert.ok(bundle.includes("api/a.js") && bundle.some((path) => path.endsWith("/ms/index.js")), bundle.join(" "));
    assert.ok(
      result.log.some((line) => line.startsWith(`Installing dependencies: ${name.split("-")[0]}`)),
      result.log.join("\n"),
    );
  });
}

test("directories install side by side, with their names before their lines", { skip }, async () => {
  const own = { "package.json": wantsMs, "package-lock.json": npmLock, "a.js": usesMs };
  const names = ["one", "two"];
  const files = names.flatMap((name) => Object.entries(own).map(([path, text]) => [`api/${name}/${path}`, text]));
  const result = await bed.build({ "package.json": "{}", ...Object.fromEntries(files) });
  for (const name of names) {
    const bundle = Object.keys(await bed.bundle(functionAt(result, `api/${name}/a`)));
    assert.ok(bundle.includes(`api/${name}/node_modules/ms/index.js`), bundle.join(" "));
  }
  const begun = result.log.findLastIndex((line) => line.startsWith("Installing dependencies in api/"));
  const ended = result.log.findIndex((line) => line.startsWith("Installed in api/"));
  if (availableParallelism() > 1) assert.ok(begun < ended, result.log.join("\n"));
  assert.ok(
    names.every((name) => result.log.some((line) => line.startsWith(`[api/${name}] `))),
    result.log.join("\n"),
  );
});

test("npm installs without a lock file, in TypeScript and as a module", { skip }, async () => {
  const result = await bed.build({
    "package.json": json({ type: "module", dependencies: { ms: "2.1.3" } }),
    "api/a.ts": 'import ms from "ms";\nexport default (_req: unknown, res: { end(text: string): void }) => res.end(ms(1));\n',
  });
  assert.deepEqual(Object.keys(await bed.bundle(functionAt(result, "api/a"))), [
    "api/a.js",
    "node_modules/ms/index.js",
    "node_modules/ms/package.json",
    "package.json",
  ]);
});

test("a lock file that does not fit fails with what to do", { skip }, async () => {
  await refused(
    { "package.json": json({ dependencies: { ms: "2.0.0" } }), "package-lock.json": npmLock, "api/a.js": usesMs },
    "INSTALL_FAILED",
    /"npm ci" ended with exit code 1\. The lock file does not fit/,
  );
});
