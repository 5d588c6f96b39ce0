/** `mayfly build`: builds a directory on this machine into `.vercel/output`. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { loadConfig } from "../../config.ts";
import { MayflyError } from "../../errors.ts";
import type { Command } from "../command.ts";
import { counted, formatDuration } from "../output.ts";
import { parseVariables } from "../variables.ts";

export const build: Command = {
  name: "build",
  summary: "Build a directory here.",
  usage: "build [DIR] [options]",
  description:
    "Builds as a server would, from the files that deploy would send, in a sandbox, and writes .vercel/output (Build Output API) for " +
    '"mayfly deploy --prebuilt". No server is needed. Variables come from .vercel/.env.<target>.local (see "vercel pull") and ' +
    "--build-env. stdout has the output's path; the build's log goes to stderr. With --json: output, functions, files, ms, sandbox.",
  flags: {
    prod: { type: "boolean", doc: "Build for production; deploy it with --prod." },
    "build-env": {
      type: "string",
      value: "K=V",
      multiple: true,
      doc: "Environment variable of the build; K alone takes this shell's value.",
    },
    sandbox: {
      type: "string",
      value: "TEXT",
      choices: ["auto", "oci", "bubblewrap", "process"],
      doc: "How the build is isolated (default: auto, the strongest that works here; process isolates nothing).",
    },
  },
  positionals: { min: 0, max: 1 },
  examples: [
    { run: "mayfly build && mayfly deploy --prebuilt", does: "Build here, deploy the result." },
    { run: "mayfly build --prod site && mayfly deploy --prod --prebuilt site", does: "The same for production." },
  ],

  async run(invocation) {
    const { terminal, env } = invocation;
    const startedMs = performance.now();
    const directory = resolve(invocation.cwd, invocation.positionals[0] ?? ".");
    const variables = parseVariables("--build-env", invocation.values("build-env"), env);
    const data = mkdtempSync(join(tmpdir(), "mayfly-build-"));
    const signal = invocation.interruption();
    const { buildLocally } = await import("../../dev/local-build.ts");
    let sandbox = "";
    try {
      const done = await buildLocally({
        directory,
        target: invocation.has("prod") ? "production" : "preview",
        env: variables,
        config: loadConfig({ sandbox: invocation.value("sandbox"), data }, env),
        onSandbox: (name) => {
          sandbox = name;
          if (name === "process") {
            terminal.note(
              `${terminal.paintNote("yellow", "Warning:")} the build is not isolated: it may do what you may do on this machine.`,
            );
          }
        },
        log: (line, stream) => {
          const text = terminal.foreignNote(line);
          terminal.note(stream === "system" ? terminal.paintNote("yellow", text) : text);
        },
        signal,
      });
      const ms = performance.now() - startedMs;
      const what = `${counted(done.functions, "function")}, ${counted(done.files, "static file")}`;
      terminal.note(terminal.paintNote("green", `Built in ${formatDuration(ms)} · ${what}`));
      if (invocation.has("json")) terminal.json({ ...done, ms: Math.round(ms), sandbox });
      else terminal.out(done.output);
      return 0;
    } catch (error) {
      throw signal.aborted ? new MayflyError("canceled", "The build was canceled; .vercel/output is as it was.", { cause: error }) : error;
    } finally {
      rmSync(data, { recursive: true, force: true });
    }
  },
};
