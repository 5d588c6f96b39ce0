/** Temporary directories for tests: removed when the test's file has ended, whether it passed or not. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { atEnd } from "./at-end.ts";

/** A new, empty directory. */
export function scratchDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "mayfly-test-"));
  atEnd(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
