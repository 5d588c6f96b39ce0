/** Servers and directories for a test file: opened here, gone when the file has ended, whether it passed or not. */
import { atEnd } from "./at-end.ts";
import { scratchDirectory } from "./scratch.ts";
import { openMayfly, writeFiles, type Mayfly, type StartOptions } from "./server.ts";

/** A running server, stopped when the test's file has ended. */
export async function startMayfly(options: StartOptions = {}): Promise<Mayfly> {
  // Most tests install nothing, and many servers start.
  const env = { MAYFLY_NPM_AHEAD: "0", ...options.env };
  const mayfly = await openMayfly({ ...options, env, home: options.home ?? scratchDirectory() });
  atEnd(() => mayfly.stop());
  return mayfly;
}

/** A directory with these files. */
export function projectDirectory(files: Readonly<Record<string, string | Buffer>>): string {
  const directory = scratchDirectory();
  writeFiles(directory, files);
  return directory;
}
