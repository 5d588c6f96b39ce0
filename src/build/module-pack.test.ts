/**
 * Module packs: a Function behaves with its pack as without it. Each program is built, run from its pack, and run again in
 * the same place without; what it answers has to be equal to the last character, stack traces too.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, describe, it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { readBundle } from "../blobs/bundle.ts";
import { unpack } from "../functions/unpack.ts";
import type { FunctionSpec } from "../model.ts";
import { ModulePack, packPath, packPaths } from "../runtime/module-pack.js";
import type { BuildResult } from "./build.ts";
import { openTestbed } from "./testbed.ts";
import type { BuildOptions, Files, Testbed } from "./testbed.ts";

let bed: Testbed;
before(async () => {
  bed = await openTestbed();
});
after(() => bed[Symbol.asyncDispose]());

/** A module heavy enough for a pack. */
const heavy = `module.exports = "heavy"; // ${"x".repeat(140_000)}`;
const handlerModule = resolve(import.meta.dirname, "../runtime/handler.js");

/** Loads a Function as the guest does, calls it once, and prints what it sent or why it could not. */
const guest = `
  import { loadHandler } from ${JSON.stringify(handlerModule)};
  const [root, handler] = process.argv.slice(1);
  process.chdir(root);
  let text;
  try {
    const answer = await loadHandler({ type: "load", root, handler, helpers: false, awsHandler: "", env: {} });
    text = await new Promise((resolve, reject) => { Promise.resolve(answer({}, { end: resolve })).catch(reject); });
  } catch (error) {
    text = "failed: " + error.stack;
  }
  process.stdout.write(String(text), () => process.exit(0));`;

class Unpacked {
  readonly root: string;
  readonly handler: string;

  private constructor(root: string, handler: string) {
    this.root = root;
    this.handler = handler;
  }

  static async of(spec: FunctionSpec): Promise<Unpacked> {
    const root = join(scratchDirectory(), "task");
    await unpack(await readBundle(spec.bundleDigest, bed.blobs), root, bed.blobs);
    execFileSync("chmod", ["-R", "u+w", root]);
    return new Unpacked(root, spec.handler);
  }

  get pack(): string {
    return join(this.root, packPath);
  }

  run(env: Record<string, string> = {}): string {
    const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", guest, this.root, this.handler], {
      encoding: "utf8",
      env: { PATH: process.env["PATH"], NODE_ENV: "production", ...env },
    });
    assert.equal(stderr, "");
    return stdout;
  }

  /** With the pack and then without. */
  runBoth(env: Record<string, string> = {}): { readonly packed: string; readonly plain: string } {
    assert.ok(existsSync(this.pack), "there is a pack");
    const packed = this.run(env);
    this.removePacks();
    return { packed, plain: this.run(env) };
  }

  removePacks(): void {
    for (const path of packPaths) rmSync(join(this.root, path), { force: true });
  }

  remove(path: string): void {
    rmSync(join(this.root, path));
  }

  /** Paths of the modules in the pack, as a wrong reading of its header would not find them. */
  get modules(): readonly string[] {
    const bytes = readFileSync(this.pack);
    const header = JSON.parse(bytes.toString("utf8", 4, 4 + bytes.readUInt32LE(0))) as { modules: { path: string }[] };
    return header.modules.map(({ path }) => path);
  }
}

function functionAt(result: BuildResult, path: string): FunctionSpec {
  const output = result.outputs[path];
  assert.equal(output?.kind, "function");
  return result.functions[output.functionId]!;
}

async function build(files: Files, options: BuildOptions = {}): Promise<Unpacked> {
  return Unpacked.of(functionAt(await bed.build({ "lib/heavy.js": heavy, ...files }, options), "api/f"));
}

/** Builds it and says what it answers, which is the same from the pack. */
async function answerOf(files: Files, env: Record<string, string> = {}): Promise<string> {
  const { packed, plain } = (await build(files)).runBoth(env);
  assert.deepEqual(packed.split(/(?<=[,:])/), plain.split(/(?<=[,:])/));
  return packed;
}

describe("a module pack", { timeout: 120_000 }, () => {
  it("is made for a Function with much code, which then needs no other file of it", async () => {
    const bundle = await build({
      "api/f.js": 'const dep = require("../lib/dep"); module.exports = (q, s) => s.end(dep());',
      "lib/dep.js": 'const heavy = require("./heavy"); module.exports = () => "dep " + heavy;',
    });
    assert.deepEqual(bundle.modules, ["api/f.js", "lib/dep.js", "lib/heavy.js"]);
    for (const path of ["lib/dep.js", "lib/heavy.js"]) bundle.remove(path);
    assert.equal(bundle.run(), "dep heavy");
  });

  it("is not made for a little Function, whose code a build never runs", async () => {
    const result = await bed.build({
      "api/f.js": 'require("node:fs").writeFileSync("/nowhere/mark", ""); require("./lib.js"); module.exports = () => {};',
      "api/lib.js": "",
    });
    assert.deepEqual(Object.keys(await bed.bundle(functionAt(result, "api/f"))), ["api/f.js", "api/lib.js"]);
  });

  it("changes nothing of CommonJS", async () => {
    const answer = await answerOf({
      "api/f.js": `
        require("../lib/heavy");
        const first = require("../lib/counter");
        delete require.cache[require.resolve("../lib/counter")];
        const second = require("../lib/counter");
        const names = ["plain", "other"];
        module.exports = async (q, s) => s.end(JSON.stringify({
          counters: [first.n, second.n, first === second],
          dynamic: names.map((name) => require("../lib/by-name/" + name)),
          circular: require("../lib/circle-a"),
          json: require("../lib/data.json"),
          asset: require("fs").readFileSync(require("path").join(__dirname, "../data/asset.txt"), "utf8"),
          here: [__filename, __dirname, module.id, module.filename, module.paths, module.loaded],
          parents: [module.parent === undefined, require("../lib/parent")],
          main: [require.main === undefined, process.mainModule === undefined],
          resolve: [require.resolve("../lib/heavy"), require.resolve.paths("x"), require.resolve("../lib/heavy.js", { paths: [__dirname] })],
          cached: Object.keys(require.cache).sort(),
          this: require("../lib/this"),
          arguments: require("../lib/arguments"),
          hashbang: require("../lib/hashbang"),
          unicode: require("../lib/unicode"),
          imported: (await import("../lib/module.mjs")).default,
          required: require("../lib/module.mjs").default,
          missing: (() => { try { require("./absent"); } catch (error) { return [error.code, error.message]; } })(),
          self: [require("self-named"), require("pkg"), require("#internal")],
          extensions: Object.keys(require.extensions),
          strict: require("../lib/strict"),
        }));`,
      "package.json": '{"name":"self-named","exports":"./lib/heavy.js","imports":{"#internal":"./lib/internal.js"}}',
      "lib/counter.js": "exports.n = globalThis.n = (globalThis.n ?? 0) + 1;",
      "lib/by-name/plain.js": 'module.exports = "plain";',
      "lib/by-name/other.js": 'module.exports = "other";',
      "lib/circle-a.js": 'exports.early = 1; const b = require("./circle-b"); exports.b = b; exports.late = 2;',
      "lib/circle-b.js": 'exports.seen = Object.keys(require("./circle-a"));',
      "lib/data.json": '{"a":1}',
      "lib/parent.js": "module.exports = [module.parent.filename, module.parent.children.length > 0];",
      "lib/this.js": "module.exports = this === exports;",
      "lib/arguments.js": "module.exports = [arguments.length, typeof arguments[1].resolve, typeof arguments.callee];",
      "lib/hashbang.js": "#!/usr/bin/env node\nmodule.exports = 'hashbang';",
      "lib/unicode.js": 'module.exports = "żółć 🦟 é";',
      "lib/module.mjs": 'export default [import.meta.url, "module"];',
      "lib/internal.js": 'module.exports = "internal";',
      "lib/strict.js": '"use strict"; module.exports = (function () { return this === undefined; })();',
      "data/asset.txt": "asset",
      "node_modules/pkg/package.json": '{"name":"pkg","exports":{".":{"module-sync":"./sync.js","require":"./old.js"}}}',
      "node_modules/pkg/sync.js": 'module.exports = "module-sync";',
      "node_modules/pkg/old.js": 'module.exports = "require";',
    });
    assert.match(answer, /"counters":\[1,2,false\]/);
    assert.match(answer, /"unicode":"żółć 🦟 é"/);
    assert.match(answer, /"module-sync","internal"/);
  });

  it("names files, lines and columns in stack traces as they are", async () => {
    const answer = await answerOf({
      "api/f.js": `require("../lib/heavy"); const early = require("../lib/throws"); module.exports = (q, s) => {\n  try { early(); } catch (error) { s.end(error.stack.split("\\n").slice(0, 4).join("\\n")); }\n};`,
      "lib/throws.js": 'module.exports = () => { throw new Error("thrown on purpose"); };',
    });
    assert.match(answer, /thrown on purpose\n.*\/lib\/throws\.js:1:\d+\)?\n.*\/api\/f\.js:2:\d+/);
  });

  it("names the TypeScript file's own path, as JavaScript", async () => {
    const answer = await answerOf({
      "api/f.ts": `import heavy from "../lib/heavy";\nexport default (q: unknown, s: { end(text: string): void }): void => {\n  s.end(heavy + new Error("x").stack!.split("\\n")[1]);\n};`,
    });
    assert.match(answer, /^heavy.*\/api\/f\.js:\d+/);
  });

  it("serves modules that ECMAScript modules import; those are Node's to load", async () => {
    const files = {
      "package.json": '{"type":"module"}',
      "api/f.js": `import dep from "../lib/dep.cjs"; import data from "../lib/data.json" with { type: "json" };\nconst late = await Promise.resolve("late");\nexport default (q, s) => s.end([dep.heavy, data.a, late, import.meta.url].join());`,
      "lib/data.json": '{"a":1}',
      "lib/dep.cjs": 'exports.heavy = require("./heavy.cjs");',
      "lib/heavy.cjs": heavy,
      "lib/heavy.js": "",
    };
    const bundle = await build(files);
    assert.deepEqual(bundle.modules, ["lib/dep.cjs", "lib/heavy.cjs"]);
    const { packed, plain } = bundle.runBoth();
    assert.equal(packed, plain);
    assert.match(packed, /^heavy,1,late,file:.*\/api\/f\.js$/);
  });

  it("leaves native addons where they are", async () => {
    const answer = await answerOf({
      "api/f.js": `const heavy = require("../lib/heavy"); let addon; try { addon = require("../lib/addon.node"); } catch (error) { addon = error.code + error.message; }\nmodule.exports = (q, s) => s.end(heavy + addon);`,
      "lib/addon.node": "no library",
    });
    assert.match(answer, /^heavyERR_DLOPEN_FAILED.*\/lib\/addon\.node/);
  });

  it("knows a server by what it is told to listen", async () => {
    const bundle = await build({
      "api/f.js": 'require("../lib/heavy"); require("node:http").createServer((q, s) => s.end("served")).listen(process.env.PORT);',
    });
    const { packed, plain } = bundle.runBoth();
    assert.deepEqual([packed, plain], ["served", "served"]);
  });
});

describe("a pack is left aside", { timeout: 120_000 }, () => {
  const files = { "api/f.js": 'const heavy = require("../lib/heavy"); module.exports = (q, s) => s.end(heavy + "!");' };

  it("when it is of another Node, or damaged", async () => {
    const bundle = await build(files);
    const good = readFileSync(bundle.pack);
    chmodSync(bundle.pack, 0o644);
    for (const damaged of [Buffer.alloc(0), good.subarray(0, 100), Buffer.alloc(1000, 0xff)]) {
      writeFileSync(bundle.pack, damaged);
      assert.equal(ModulePack.open(bundle.root), undefined);
      assert.equal(bundle.run(), "heavy!");
    }
  });

  it("in its code cache alone, when V8 rejects that", async () => {
    const bundle = await build(files);
    const bytes = readFileSync(bundle.pack);
    const { modules } = JSON.parse(bytes.toString("utf8", 4, 4 + bytes.readUInt32LE(0))) as { modules: { cache: [number, number] }[] };
    const parts = Math.ceil((4 + bytes.readUInt32LE(0)) / 8) * 8;
    for (const { cache } of modules) bytes.fill(0, parts + cache[0], parts + cache[1]);
    writeFileSync(bundle.pack, bytes);
    bundle.remove("lib/heavy.js");
    assert.equal(bundle.run(), "heavy!");
  });

  it("by a Function that changes its modules while they are loaded", async () => {
    const hooked = await build({
      "api/f.js": `require("node:module").registerHooks({ load(url, context, next) {
        const loaded = next(url, context); if (!url.endsWith("heavy.js")) return loaded;
        return { ...loaded, source: 'module.exports = "changed"' }; } });\n${files["api/f.js"]}`,
    });
    assert.ok(!existsSync(hooked.pack));
    assert.equal(hooked.run(), "changed!");
    const compiled = await answerOf({
      "api/f.js": `const { Module } = require("node:module"); const compile = Module.prototype._compile;
        Module.prototype._compile = function (content, ...rest) { return compile.call(this, content.replaceAll('"heavy"', '"light"'), ...rest); };\n${files["api/f.js"]}`,
    });
    assert.equal(compiled, "light!");
  });

  it("when the Function kills the process that loads it", async () => {
    const bundle = await build({ "api/f.js": `if (!process.env.SERVED) process.kill(process.pid, "SIGKILL");${files["api/f.js"]}` });
    assert.ok(!existsSync(bundle.pack));
    assert.equal(bundle.run({ SERVED: "1" }), "heavy!");
  });

  it("when it would make the bundle too large", async () => {
    const config = { functionBundleBytesMax: 200_000 };
    assert.ok(!existsSync((await build(files, { config })).pack));
    await assert.rejects(build(files, { config: { functionBundleBytesMax: 100_000 } }), { code: "FUNCTION_TOO_LARGE" });
  });
});

describe("loading at build time", { timeout: 120_000 }, () => {
  it("has nothing of the project's environment, and may fail: what was loaded by then is packed", async () => {
    const bundle = await build(
      {
        "api/f.js": `const heavy = require("../lib/heavy"); if (!process.env.KEY) throw new Error("no key"); module.exports = (q, s) => s.end(heavy + require("../lib/late")());`,
        "lib/late.js": 'module.exports = () => " late";',
      },
      { buildEnv: { KEY: "build" }, env: { KEY: "run" } },
    );
    assert.deepEqual(bundle.modules, ["api/f.js", "lib/heavy.js"]);
    const { packed, plain } = bundle.runBoth({ KEY: "1" });
    assert.deepEqual([packed, plain], ["heavy late", "heavy late"]);
  });

  it("ends what the Function opens, keeps what it writes away from the project, and prints nothing", async () => {
    const result = await bed.build({
      "lib/heavy.js": heavy,
      "api/f.js": `const heavy = require("../lib/heavy"); console.log("loaded"); setInterval(() => {}, 1000);
        try { require("fs").appendFileSync(__dirname + "/../lib/heavy.js", "// changed"); } catch {}
        require("child_process").spawn("sleep", ["60"]); module.exports = (q, s) => s.end(heavy);`,
    });
    const bundle = await bed.bundle(functionAt(result, "api/f"));
    assert.equal(bundle["lib/heavy.js"], heavy);
    assert.ok(!result.log.includes("loaded"));
    assert.deepEqual(await bed.leftovers(), []);
  });

  it("is the same to the byte when it is made again", async (t) => {
    await using strong = await openTestbed({ strongest: true });
    if (!strong.sandboxes.can.fileIsolation) return t.skip("Builds lie elsewhere each time.");
    const files = {
      "lib/heavy.js": `${heavy}\n${Array.from({ length: 50 }, (_, i) => `exports.name${i} = () => "value ${i}" + exports.name${i - 1};`).join("\n")}`,
      "api/f.js": 'const heavy = require("../lib/heavy"); module.exports = (q, s) => s.end(heavy.name1());',
    };
    const digests = [];
    for (let round = 0; round < 2; round++) digests.push(functionAt(await strong.build(files), "api/f").bundleDigest);
    assert.equal(digests[0], digests[1]);
  });

  it("gives every Function its own copy of a shared module's state", async () => {
    const source =
      'require("../lib/heavy"); const shared = require("../lib/shared"); module.exports = (q, s) => s.end(String(shared.next()));';
    const result = await bed.build({
      "lib/heavy.js": heavy,
      "lib/shared.js": "let n = 0; exports.next = () => ++n;",
      "api/f.js": source,
      "api/g.js": source,
    });
    for (const path of ["api/f", "api/g"]) assert.equal((await Unpacked.of(functionAt(result, path))).run(), "1");
  });
});

describe("packs that Functions share", { timeout: 120_000 }, () => {
  const answer = (name: string, more = ""): string =>
    `const lib = require("../lib/all"); ${more} module.exports = (q, s) => s.end(JSON.stringify(["${name}", lib, require.resolve("../lib/all").slice(-11)]));`;
  const shared: Files = {
    "lib/heavy.js": heavy,
    "lib/all.js":
      'exports.loaded = (globalThis.loads = (globalThis.loads ?? 0) + 1); exports.heavy = require("./heavy").length; exports.file = __filename.slice(-10);',
  };
  const packsOf = async (spec: FunctionSpec): Promise<readonly string[]> => {
    const tree = await readBundle(spec.bundleDigest, bed.blobs);
    return packPaths.flatMap((path) => tree[path]?.digest ?? []);
  };

  it("are one file, made by loading one of them, and change nothing", async () => {
    const result = await bed.build({
      ...shared,
      "api/a.js": answer("a"),
      "api/b.ts": `import "../lib/all";\n${answer("b")}`,
      "api/c.js": answer("c"),
    });
    const specs = ["a", "b", "c"].map((name) => functionAt(result, `api/${name}`));
    const packs = await Promise.all(specs.map(packsOf));
    assert.equal(packs[0]?.length, 1);
    assert.deepEqual(packs[1], packs[0]);
    assert.deepEqual(packs[2], packs[0]);
    for (const spec of specs) {
      const bundle = await Unpacked.of(spec);
      assert.deepEqual(bundle.modules.toSorted(), ["lib/all.js", "lib/heavy.js"]);
      const { packed, plain } = bundle.runBoth();
      assert.equal(packed, plain);
    }
  });

  it("stand beside a pack of its own for a Function that has much code of its own", async () => {
    const own = { "lib/own.js": heavy.replace("heavy", "own") };
    const result = await bed.build({
      ...shared,
      ...own,
      "api/a.js": answer("a", 'lib.own = require("../lib/own");'),
      "api/b.js": answer("b"),
    });
    const [a, b] = await Promise.all(["api/a", "api/b"].map((path) => packsOf(functionAt(result, path))));
    assert.equal(a?.length, 2);
    assert.deepEqual(b, a.slice(1));
    const bundle = await Unpacked.of(functionAt(result, "api/a"));
    assert.deepEqual(bundle.modules.toSorted(), ["api/a.js", "lib/own.js"]);
    const { packed, plain } = bundle.runBoth();
    assert.match(packed, /"own":"own"/);
    assert.equal(packed, plain);
  });

  it("are made by another Function when the first fails to load", async () => {
    const result = await bed.build({
      ...shared,
      "api/a.js": 'if (!process.env.SECRET) throw new Error("no"); require("../lib/all");',
      "api/b.js": answer("b"),
    });
    const bundle = await Unpacked.of(functionAt(result, "api/b"));
    assert.deepEqual(bundle.modules.toSorted(), ["lib/all.js", "lib/heavy.js"]);
    assert.deepEqual(await packsOf(functionAt(result, "api/a")), await packsOf(functionAt(result, "api/b")));
  });

  it("are kept from a Function that changes how modules are loaded", async () => {
    const hooking =
      'const { Module } = require("node:module"); const { _compile } = Module.prototype; Module.prototype._compile = function (text, ...more) { return _compile.call(this, text.replace("heavy", "hooked"), ...more); };';
    const result = await bed.build({
      ...shared,
      "api/a.js": `${hooking} ${answer("a")}`,
      "api/b.js": answer("b"),
      "api/c.js": answer("c"),
    });
    const [a, b, c] = await Promise.all(["api/a", "api/b", "api/c"].map((path) => packsOf(functionAt(result, path))));
    assert.deepEqual(b, c);
    assert.notDeepEqual(a, b);
    const bundle = await Unpacked.of(functionAt(result, "api/a"));
    const packed = bundle.run();
    bundle.removePacks();
    assert.equal(packed, bundle.run());
  });
});
