/** What a file says of itself, and files that are made to be read for ever: the platform reads a middleware's. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readStaticConfig } from "./static-config.ts";

test("comments and strings are told apart", () => {
  const source = `
    /* export const config = { runtime: "edge" } * / */
    // export const memory = 128
    const glob = "/*";
    export const maxDuration = 7;
    const end = "*/";
      export const config = { matcher: ["/a/:path*", '/b'] };`;
  assert.deepEqual(readStaticConfig(source), { maxDuration: 7, matcher: ["/a/:path*", "/b"] });
  assert.deepEqual(readStaticConfig('/* not closed: export const config = { runtime: "edge" }'), {});
});

// Each would take hours if every beginning were followed to the file's end, and the time limit would tell.
for (const piece of ["/*", "\n", "export const config ", "export const runtime ", "exports.config = {", "regions: ['a',", "'\\", "`\\"]) {
  test(`a megabyte of ${JSON.stringify(piece)} is read in its time`, { timeout: 60_000 }, () => {
    assert.deepEqual(readStaticConfig(`runtime ${piece.repeat(2 ** 20 / piece.length)}`), {});
  });
}
