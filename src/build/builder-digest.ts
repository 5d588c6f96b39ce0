/** What tells one version of the code that builds from another: another digest, other outputs. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");

/** Of the builders, the guest's runtime, their packages and this Node. Hexadecimal. */
export const builderDigest: string = (() => {
  const hash = createHash("sha256").update(`${process.versions.node} ${process.arch}`);
  for (const directory of ["src/build", "src/runtime"]) {
    for (const name of readdirSync(join(root, directory)).sort()) {
      if (/\.[jt]s$/.test(name) && !name.endsWith(".test.ts")) hash.update(`\n${name}\n`).update(readFileSync(join(root, directory, name)));
    }
  }
  return hash.update(readFileSync(join(root, "package-lock.json"))).digest("hex");
})();
