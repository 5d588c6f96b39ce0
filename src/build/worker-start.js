/**
 * What a build sandbox runs first: the worker, with what V8 has compiled of it at an earlier time, if there is any
 * (compile-cache.ts). With `--compile` it only makes that. Plain JavaScript, because nothing of it is compiled before.
 *
 * Usage: node worker-start.js CACHE SCRATCH MEMORY   (CACHE may be "")
 *        node worker-start.js CACHE --compile
 */
import { mkdirSync, mkdtempSync, readdirSync, symlinkSync } from "node:fs";
import module from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

const [, , cache = "", first] = process.argv;
if (first === "--compile") {
  module.enableCompileCache(cache);
  for (const name of ["./worker.ts", "./node.ts", "./install.ts", "./script.ts", "./vercel.ts", "./edge.ts"]) await import(name);
  for (const name of ["@vercel/nft", "@vercel/routing-utils", "esbuild"]) await import(name);
  module.flushCompileCache();
  process.exit(0);
}
if (cache !== "") useCache(cache);
process.argv.splice(2, 1);
await import("./worker.ts");

/**
 * Node keeps the cache in a directory that ends with the user's number, and each sandbox has a user of its own.
 * @param {string} directory
 */
function useCache(directory) {
  try {
    const [name] = readdirSync(directory);
    if (name === undefined) return;
    const own = join(mkdtempSync(join(tmpdir(), "compiled-")), "cache");
    mkdirSync(own);
    symlinkSync(join(directory, name), join(own, name.replace(/-\d+$/, `-${process.getuid?.() ?? 0}`)));
    module.enableCompileCache(own);
  } catch {
    // It starts as well without, only later.
  }
}
