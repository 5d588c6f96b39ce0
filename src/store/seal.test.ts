/** Sealed values: bound to their place and key; keys that rotate, files that are damaged. */
import assert from "node:assert/strict";
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { openSeal } from "./seal.ts";

it("opens what it closed, in its place only and with its key only", () => {
  const path = join(scratchDirectory(), "secret.key");
  const seal = openSeal(path);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const sealed = seal.close("p4ssword ü", "dpl_1/DB");
  assert.ok(!sealed.includes("p4ssword"));
  assert.notEqual(sealed, seal.close("p4ssword ü", "dpl_1/DB"), "the same value looks different each time");
  assert.equal(openSeal(path).open(sealed, "dpl_1/DB"), "p4ssword ü");
  assert.throws(() => seal.open(sealed, "dpl_2/DB"), { code: "internal_error" });
  assert.throws(() => seal.open(sealed.slice(0, -2) + "AA", "dpl_1/DB"), { code: "internal_error" });
  assert.throws(() => seal.open("plain", "dpl_1/DB"), { code: "internal_error" });
  assert.throws(() => openSeal(join(scratchDirectory(), "other.key")).open(sealed, "dpl_1/DB"), { code: "internal_error" });
});

it("refuses a damaged key file", () => {
  const path = join(scratchDirectory(), "secret.key");
  writeFileSync(path, "short\n");
  assert.throws(() => openSeal(path), { code: "data_directory_unusable" });
});
