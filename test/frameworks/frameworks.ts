/**
 * Deploys a starter of each framework through the front door and asks it for what such a site must answer. Slow (packages
 * are installed from the registry), so not part of `npm test`: `npm run test:frameworks [-- NAME…]`. What passes gets its
 * row in docs/frameworks.md.
 *
 * Each directory beside this file is one project, exactly as a person would deploy it; what to ask it is below.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { callApi } from "../git/journey.ts";
import { startMayfly } from "../mayfly.ts";
import type { Mayfly, Reply } from "../server.ts";
import { starters, versionOf, type Check } from "./starters.ts";

const asked = process.argv.slice(2);
const names = asked.length > 0 ? asked : Object.keys(starters);
/** Title → row of the table. */
const rows = new Map<string, string>();
let mayfly: Mayfly | undefined;

for (const name of names) {
  test(name, { timeout: 900_000 }, async () => {
    const starter = starters[name];
    assert.ok(starter !== undefined, `There is no starter "${name}": ${Object.keys(starters).join(", ")}`);
    mayfly ??= await startMayfly();
    const load = (loadavg()[0]! / availableParallelism()).toFixed(1);
    const made = await starter.make?.();
    const directory = made?.directory ?? join(import.meta.dirname, name);
    if (made !== undefined) await callApi(mayfly, "POST", "/v9/projects", { name, rootDirectory: made.rootDirectory });
    const { code, stdout, stderr } = await mayfly.run("deploy", directory, "--name", name);
    assert.equal(code, 0, stderr);
    const url = stdout.trim();
    let coldMs: number | null = null;
    for (const check of starter.checks) {
      const begun = performance.now();
      const reply = await ask(mayfly, url, check);
      if (coldMs === null && reply.headers["x-mayfly-start"] === "cold") coldMs = performance.now() - begun;
    }
    const seconds = secondsOf(stderr);
    const checked = starter.checks.map(({ what, asset }) => (asset === undefined ? what : `${what}, assets`));
    if (starter.also !== undefined) checked.push(...(await starter.also(mayfly, url, stderr)));
    rows.set(
      starter.title,
      `| ${starter.title} | ${made?.version ?? versionOf(name, starter.package)} | ${[...new Set(checked)].join(", ")} | ${seconds} | ${coldMs === null ? "–" : Math.round(coldMs)} | ${load} |`,
    );
  });
}

/** Rows of what was not run stay as they are. */
after(() => {
  const page = join(import.meta.dirname, "../../docs/frameworks.md");
  const kept = existsSync(page) ? readFileSync(page, "utf8").split("\n") : [];
  for (const { title } of Object.values(starters)) {
    const old = kept.find((line) => line.startsWith(`| ${title} |`));
    if (!rows.has(title) && old !== undefined) rows.set(title, old);
  }
  const sorted = [...rows].sort(([a], [b]) => a.localeCompare(b, "en")).map(([, row]) => row);
  if (sorted.length > 0) writeFileSync(page, `${head}${sorted.join("\n")}\n`);
});

async function ask(server: Mayfly, url: string, check: Check): Promise<Reply> {
  const body = check.json === undefined ? {} : { method: "POST" as const, body: JSON.stringify(check.json) };
  const headers = { accept: "text/html,*/*", ...(check.json === undefined ? {} : { "content-type": "application/json" }) };
  const reply = await server.fetch(url + check.path, { ...body, headers });
  const said = `${check.what} (${check.path}): ${reply.status}\n${reply.text.slice(0, 2000)}`;
  assert.equal(reply.status, check.status ?? 200, said);
  if (check.body !== undefined) assert.match(reply.text, check.body, said);
  if (check.header !== undefined) assert.match(String(reply.headers[check.header[0]]), check.header[1], said);
  if (check.asset !== undefined) {
    const asset = check.asset.exec(reply.text)?.[1];
    assert.ok(asset !== undefined, `${said}\nnames no asset`);
    const file = await server.fetch(new URL(asset, url + check.path).href);
    assert.deepEqual([file.status, file.headers["x-vercel-cache"]], [200, "HIT"], asset);
  }
  return reply;
}

/** `Ready in 7.6 s`, `Ready in 1 min 59 s`, as the command line tells it. */
function secondsOf(progress: string): string {
  const found = /Ready in (?:(\d+) min\s*)?(?:([\d.]+) (ms|s))?/.exec(progress);
  if (found === null) return "?";
  const [, minutes = "0", value = "0", unit] = found;
  return (Number(minutes) * 60 + Number(value) / (unit === "ms" ? 1000 : 1)).toFixed(1);
}

const head = `# Frameworks

Each starter in \`test/frameworks/\` is deployed as it is and asked for what the table says; \`npm run test:frameworks\` does
it again and writes this page. Build seconds are from the create call to ready, installs from the registry included; cold
milliseconds are those of the first request that met no instance, its whole way included. *Load* is how many processes wanted
each core before the build began: at 0 the machine was the build's own, at 3 it had a quarter of it.

| framework | version | checked | build s | cold ms | load |
|---|---|---|---|---|---|
`;
