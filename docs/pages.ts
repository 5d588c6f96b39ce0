/**
 * The pages that are made from the code: docs/api.md from the table of endpoints, docs/config.md from the knobs, docs/errors.md from the error table, docs/cli.md
 * from the commands' own words. `npm run fix` writes them; test/tidy.test.ts compares.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { endpoints } from "../src/api/api.ts";
import { knobEnv, knobs, type Knob } from "../src/config.ts";
import { commonFlags } from "../src/cli/command.ts";
import { commands } from "../src/cli/commands.ts";
import { helpOf } from "../src/cli/help.ts";
import { errorTable } from "../src/errors.ts";

export const pages: Readonly<Record<string, () => string | Promise<string>>> = {
  "api.md": apiPage,
  "cli.md": cliPage,
  "config.md": configPage,
  "errors.md": errorsPage,
};

function apiPage(): string {
  const rows = endpoints
    .toSorted((a, b) => (a.path === b.path ? 0 : a.path < b.path ? -1 : 1))
    .map(({ method, path, access, summary }) => `| \`${method} ${path}\` | ${access} | ${summary} |`);
  return `# API

\`GET /openapi.json\` is the OpenAPI 3.1 document of what is listed here. Paths and shapes are those of Vercel's API where it
has them, so its clients work; a version prefix (\`/v13\`) and \`/now\` may stand before every path.

- **Who may call.** A bearer token: \`anyone\` needs none, \`read\` any, \`write\` one that is not read-only, \`admin\` an owner's that
  is not for one project. What belongs to another team, or to another project than the token is for, is not found (404).
- **Errors** are \`{"error":{"code","message",…}}\` with a [code](errors.md). 429 has \`Retry-After\`.
- **Pages.** Lists have \`pagination.next\`: the \`until\` of the next page, or null.
- **Repeating.** \`POST /deployments\` with an \`Idempotency-Key\` makes one deployment however often it is sent (for a day); uploads
  are by digest.

## What is worth knowing

- **Production.** A production deployment takes \`<project>.<domain>\` and the project's domains when it is ready, unless a newer one
  (by the time it was created) has taken them, production is pinned, or it was made with \`autoAssignCustomDomains: false\`. \`promote\`
  points them at any ready deployment and ends a pin; \`rollback\` points them at an earlier production deployment and pins it: new ones
  become ready, and wait for a promote. Deployments created before a promote or rollback do not undo it. The same order holds for
  \`<project>-git-<branch>.<domain>\`.
- **Variables** are \`sensitive\` unless \`type\` says \`plain\` or \`encrypted\`: sensitive values go into builds and Functions and nowhere else.
  A deployment keeps the values it was created with; a redeploy takes the present ones.
- **Cron jobs** run at whole minutes in UTC, on the production deployment only, as \`GET\` with \`user-agent: vercel-cron/1.0\` and, when the
  variable is set, \`authorization: Bearer $CRON_SECRET\`. A job that still runs is not begun again; what was due while the control plane
  was down is not made up for; redirects are not followed.
- **Retention.** Never deleted: what an alias points to, and the newest \`keepProduction\` (10) of production. The others go by age:
  \`productionDays\` (365), \`previewDays\` (180), \`errorDays\` (90), \`canceledDays\` (30), each for the server or for a project. Files
  that nothing refers to go after \`MAYFLY_GC_GRACE_MS\`.
- **Backups** are directories below the data directory and hold the key of all secrets: guard them like it.

## Endpoints

| endpoint | access | |
|---|---|---|
${rows.join("\n")}
`;
}

async function cliPage(): Promise<string> {
  const listed = await Promise.all(Object.values(commands).map((command) => command.load()));
  const sections = listed.map(
    (command) => `## ${command.name}\n\n\`\`\`\n${helpOf(command, { ...command.flags, ...commonFlags })}\n\`\`\``,
  );
  return `# Command line

Results go to standard output, progress and errors to standard error, so every command can be part of a script. With
\`--json\` standard output has JSON, one object (a line each for \`logs\`), and errors as \`{"error":{"code","message"}}\` too.

| exit code | meaning |
|---|---|
| 0 | done; for \`deploy\`: the deployment is ready |
| 1 | it failed; the message ends with the [code](errors.md) |
| 2 | the command line or the configuration was not understood |
| 130, 143 | ended by Ctrl-C or SIGTERM |

| variable | meaning |
|---|---|
| \`MAYFLY_API\` | origin of the server's API, else \`http://127.0.0.1:3000\`; \`--api\` wins |
| \`MAYFLY_TOKEN\` | token, else the one that is stored for this server in \`~/.config/mayfly/credentials.json\`; \`--token\` wins |
| \`NO_COLOR\` | no colours (there are none either when the output is no terminal) |
| \`MAYFLY_…\` | settings of \`start\`: [config.md](config.md) |

${sections.join("\n\n")}
`;
}

function configPage(): string {
  const rows = Object.entries<Knob>(knobs).map(([name, knob]) => {
    const names = [...(knob.flag === undefined ? [] : [`\`--${knob.flag}\``]), `\`${knobEnv(name)}\``].join(" ");
    const value = knob.default === "" ? "–" : `\`${knob.default}\``;
    const bounds =
      knob.type === "number"
        ? `${knob.unit}; ${knob.min} to ${knob.max}`
        : knob.type === "boolean"
          ? "1 or 0"
          : (knob.values?.join(", ") ?? "text");
    return `| ${names} | ${value} | ${bounds} | ${knob.doc} |`;
  });
  return `# Configuration

Every setting of \`mayfly start\`, from the one table in \`src/config.ts\`. A flag wins over the environment, the environment
over the default. A value out of bounds is refused at start, by name.

| flag and environment variable | default | unit and bounds | what it is |
|---|---|---|---|
${rows.join("\n")}
`;
}

function errorsPage(): string {
  const rows = Object.entries(errorTable).map(([code, { status, sentence }]) => `| \`${code}\` | ${status} | ${sentence} |`);
  return `# Errors

Every error that leaves Mayfly has a code from this one table (\`src/errors.ts\`). Upper-case codes answer requests to
deployments: as a page, JSON or text by \`Accept\`, with the code in \`x-vercel-error\` and the request's id. Codes that begin
with \`BUILD\`, \`FUNCTION_TOO_LARGE\` and their like are the \`errorCode\` of a deployment. Lower-case codes answer API calls as
\`{"error":{"code","message"}}\` and are printed by the command line.

| code | HTTP status | what it says |
|---|---|---|
${rows.join("\n")}
`;
}

if (import.meta.main) {
  for (const [name, page] of Object.entries(pages)) writeFileSync(join(import.meta.dirname, name), await page());
}
