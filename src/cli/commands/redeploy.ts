/** `mayfly redeploy`: the source of an earlier deployment is built anew, with the variables of today. */
import { getDeployment, redeployDeployment } from "../../client/deployments.ts";
import { apiFlags, type Command } from "../command.ts";
import { openSession, parseDeploymentRef } from "../session.ts";
import { followOrCancel, printResult, progressOn, readyLine } from "./deploy.ts";

export const redeploy: Command = {
  name: "redeploy",
  summary: "Build a deployment's source again.",
  usage: "redeploy DEPLOYMENT [options]",
  description:
    "Makes a new deployment from the source of an earlier one, with the project's variables and settings of today. DEPLOYMENT is an id, " +
    "a host or a URL. Output and exit code are those of deploy.",
  flags: {
    target: {
      type: "string",
      value: "TARGET",
      choices: ["production", "preview"],
      doc: "production or preview (default: that of the earlier one).",
    },
    "no-wait": { type: "boolean", doc: "Return when the deployment is created, before it is built." },
    ...apiFlags,
  },
  positionals: { min: 1, max: 1 },
  examples: [
    { run: "mayfly redeploy shop.localhost", does: "Build production again: a variable has changed." },
    { run: "mayfly redeploy dpl_8kq2… --target production", does: "A preview becomes production, built with its variables." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    const startedMs = performance.now();
    const ref = parseDeploymentRef(invocation.positionals[0]!);
    using client = await openSession(invocation);
    const earlier = await getDeployment(client, ref);
    const target = (invocation.value("target") as "production" | "preview" | undefined) ?? earlier.target;
    const created = await redeployDeployment(client, earlier, target);
    terminal.note(`Created ${created.id} at ${created.url}`);
    if (invocation.has("no-wait")) {
      printResult(invocation, created);
      return 0;
    }
    const ready = await followOrCancel(client, created, invocation, invocation.interruption(), progressOn(terminal));
    terminal.settle();
    terminal.note(terminal.paintNote("green", readyLine(performance.now() - startedMs, ready.buildSummary)));
    printResult(invocation, ready);
    return 0;
  },
};
