/** `mayfly start`: turns flags and environment into the configuration and runs a node until it is told to end. */
import { flushCompileCache } from "node:module";
import { fileURLToPath } from "node:url";
import { ApiClient } from "../../client/client.ts";
import { followDeployment, startDeployment } from "../../client/deploy.ts";
import { knobs, loadConfig, type Knob } from "../../config.ts";
import { messageOf } from "../../errors.ts";
import type { Command, Flags, Invocation } from "../command.ts";
import { readToken, writeToken } from "../credentials.ts";

const exampleDirectory = fileURLToPath(new URL("../../../examples/hello", import.meta.url));

/** The knobs that have a flag; config.ts has their bounds. */
const knobFlags: Flags = Object.fromEntries(
  Object.values<Knob>(knobs)
    .filter((knob) => knob.flag !== undefined)
    .map((knob) => {
      if (knob.type === "boolean") return [knob.flag!, { type: "boolean", doc: knob.doc }];
      const choices = knob.type === "string" && knob.values !== undefined ? ` One of ${knob.values.join(", ")}.` : "";
      const fallback = knob.default === "" ? "" : ` Default: ${knob.default}.`;
      return [knob.flag!, { type: "string", value: knob.type === "number" ? "N" : "TEXT", doc: `${knob.doc}${choices}${fallback}` }];
    }),
);

export const start: Command = {
  name: "start",
  summary: "Start the platform.",
  usage: "start [options]",
  description:
    "Runs the gateway, the API and the builds until Ctrl-C. The first start stores a token for this machine's user, so that " +
    '"mayfly deploy" works at once, and deploys an example. Every other setting is an environment variable: see docs/config.md.\n' +
    'With --json, stdout has {"api","url"} once it answers.',
  flags: { ...knobFlags, "no-example": { type: "boolean", doc: "Do not deploy the example at the first start." } },
  positionals: { min: 0, max: 0 },
  examples: [
    { run: "mayfly start", does: "Listen on 127.0.0.1:3000 and keep everything in .mayfly." },
    {
      run: "mayfly start --port 8080 --host 0.0.0.0 --domain apps.example.com",
      does: "Serve other machines; deployments answer below apps.example.com.",
    },
    { run: "mayfly start --data /var/lib/mayfly", does: "Keep database, files and bundles elsewhere." },
  ],

  async run(invocation) {
    const { value, terminal, env } = invocation;
    const config = loadConfig(
      Object.fromEntries(Object.keys(knobFlags).map((flag) => [flag, invocation.has(flag) ? value(flag) || "1" : undefined])),
      env,
    );
    const { runNode } = await import("../../node.ts");
    await runNode(config, {
      say: (line) => terminal.note(line),
      token: (api) => readToken(api, env),
      keepToken: (api, token) => writeToken(api, token, env),
      async started({ api, url, fresh }) {
        if (invocation.has("json")) terminal.json({ api, url });
        void compileDeploying();
        if (fresh && !invocation.has("no-example")) await deployExample(api, invocation);
      },
      interruption: invocation.interruption(),
    });
    return 0;
  },
};

/** The first deployment from this machine finds the command line's modules compiled: 200 ms of its processor time. */
async function compileDeploying(): Promise<void> {
  await import("./deploy.ts");
  flushCompileCache();
}

/** A new platform has something to show. When that fails the platform runs all the same. */
async function deployExample(api: string, { terminal, env, interruption }: Invocation): Promise<void> {
  const signal = interruption();
  try {
    using client = new ApiClient({ api, token: await readToken(api, env) });
    const request = { name: "hello", target: "production", prebuilt: false, force: false, env: {}, buildEnv: {} } as const;
    const { id } = await startDeployment(client, { ...request, directory: exampleDirectory }, { signal });
    const { url, aliases } = await followDeployment(client, id, { signal });
    const production = aliases.map((host) => Object.assign(new URL(url), { hostname: host }).origin);
    terminal.note(`The example "hello" answers at ${[...production, url].join(" and ")}`);
  } catch (error) {
    if (!signal.aborted) terminal.note(`The example "hello" could not be deployed: ${messageOf(error)}`);
  }
}
