/** `mayfly dev`: turns flags into a development session and shows what happens in it, until Ctrl-C. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { loadConfig } from "../../config.ts";
import type { DevEvent, DevSession } from "../../dev/dev.ts";
import { MayflyError } from "../../errors.ts";
import type { Command, Invocation } from "../command.ts";
import { counted, formatDuration, type Terminal } from "../output.ts";

/** Without --port the next free one is taken, so many after the usual one. */
const portsTried = 20;
const portDefault = 3000;

export const dev: Command = {
  name: "dev",
  summary: "Serve a directory while you work on it.",
  usage: "dev [DIR] [options]",
  description:
    "Serves the directory as a deployment would be: same routes, Functions and sandbox, no server needed. A change is there at the next " +
    "request: files at once, a Function as soon as it is built again (milliseconds). What is wrong is shown here and as a page. Installed " +
    "packages are those of your node_modules; variables come from .env, .env.development, .env.local and .env.development.local. A " +
    "framework with a development server (Next.js, Vite, Astro, …) runs it behind this address, with hot reloading; your api/ Functions " +
    "are beside it. vercel.json's devCommand chooses another one.\n" +
    'With --json, stdout has one object a line: {"url"}, then what happens.',
  flags: {
    port: { type: "string", value: "N", doc: `Port (default: ${portDefault}, or the next one that is free).` },
    host: { type: "string", value: "TEXT", doc: "Address to listen on (default: 127.0.0.1)." },
    sandbox: {
      type: "string",
      value: "TEXT",
      choices: ["auto", "oci", "bubblewrap", "process"],
      doc: "How Functions are isolated (default: auto, the strongest that works here).",
    },
  },
  positionals: { min: 0, max: 1 },
  examples: [
    { run: "mayfly dev", does: "This directory at http://localhost:3000." },
    { run: "mayfly dev site --port 4000", does: "Another directory, another port." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    const json = invocation.has("json");
    const startedMs = performance.now();
    const signal = invocation.interruption();
    const ended = new Promise<void>((end) => signal.addEventListener("abort", () => end(), { once: true }));
    const data = mkdtempSync(join(tmpdir(), "mayfly-dev-"));
    try {
      const show = json ? (event: DevEvent) => terminal.json(event) : showOn(terminal);
      await using session = await openSession(invocation, data, show);
      const url = `http://localhost:${session.port}`;
      if (json) terminal.json({ url });
      else {
        terminal.note(terminal.paintNote("dim", `Sandbox: ${session.sandbox}. Ctrl-C ends it.`));
        terminal.note(terminal.paintNote("green", `Ready in ${formatDuration(performance.now() - startedMs)}`));
        terminal.out(url);
      }
      if (!signal.aborted) await ended;
    } finally {
      rmSync(data, { recursive: true, force: true });
    }
    return 0;
  },
};

async function openSession(invocation: Invocation, data: string, onEvent: (event: DevEvent) => void): Promise<DevSession> {
  const directory = resolve(invocation.cwd, invocation.positionals[0] ?? ".");
  const { openDev } = await import("../../dev/dev.ts");
  const asked = invocation.value("port");
  const first = Number(asked ?? portDefault);
  for (let port = first; ; port++) {
    const flags = { port: String(asked ?? port), host: invocation.value("host"), sandbox: invocation.value("sandbox"), data };
    try {
      return await openDev({ directory, config: loadConfig(flags, invocation.env), env: invocation.env, onEvent });
    } catch (error) {
      const isTaken = error instanceof MayflyError && error.code === "port_in_use";
      if (!isTaken || asked !== undefined || port >= first + portsTried) throw error;
    }
  }
}

function showOn(terminal: Terminal): (event: DevEvent) => void {
  return (event) => {
    switch (event.type) {
      case "built": {
        const [name, ...others] = event.changed;
        const what = others.length === 0 ? name : `${name} and ${counted(others.length, "other file")}`;
        const functions = event.functions === 0 ? "" : ` · ${counted(event.functions, "function")}, ${event.built} built`;
        terminal.note(`${terminal.paintNote("dim", formatDuration(event.ms))} ${terminal.foreignNote(what ?? "")}${functions}`);
        break;
      }
      case "failed":
        terminal.note(
          `${terminal.paintNote("red", "Error:")} ${terminal.foreignNote(event.message)} ${terminal.paintNote("dim", `(${event.code})`)}`,
        );
        break;
      case "server":
        terminal.note(`Running ${terminal.paintNote("cyan", terminal.foreignNote(event.command))} behind this address.`);
        break;
      case "request": {
        const status = terminal.paintNote(event.status >= 500 ? "red" : event.status >= 400 ? "yellow" : "green", String(event.status));
        const path = terminal.foreignNote(event.path);
        terminal.note(`${status} ${event.method} ${path} ${terminal.paintNote("dim", formatDuration(event.ms))}`);
        break;
      }
      case "note":
        terminal.note(terminal.foreignNote(event.text));
        break;
      case "line": {
        const from = event.from === "" ? "" : `${terminal.paintNote("cyan", terminal.foreignNote(event.from))}  `;
        const text = terminal.foreignNote(event.text);
        terminal.note(
          from +
            (event.stream === "stderr"
              ? terminal.paintNote("red", text)
              : event.stream === "system"
                ? terminal.paintNote("yellow", text)
                : text),
        );
        break;
      }
    }
  };
}
