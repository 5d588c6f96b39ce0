/** A thousand files of which one has changed: our command line and the `vercel` client, to the same server, in turns. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { installClients, runVercel, versions } from "../test/clients/clients.ts";
import { cleanEnv, type Mayfly } from "../test/server.ts";
import { Sample } from "./sample.ts";
import type { Figure } from "./table.ts";

const files = 1000;
const rounds = 7;

export async function benchLargeDeploys(mayfly: Mayfly, scratch: string): Promise<Figure[]> {
  installClients();
  const version = versions[0];
  const directory = join(scratch, "large");
  for (let index = 0; index < files; index++) {
    const place = join(directory, `d${index % 20}`);
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, `f${index}.txt`), `file ${index}\n`.repeat(200));
  }
  writeFileSync(join(directory, "index.html"), "begin");
  const global = join(scratch, "vercel");
  const must = ({ code, stderr }: { code: number | null; stderr: string }): void => {
    if (code !== 0) throw new Error(stderr);
  };
  must(await mayfly.run("use-vercel-cli", "--dir", global));
  must(await mayfly.run("link", directory, "--project", "large"));
  must(await mayfly.run("deploy", directory));
  const options = { cwd: directory, global, env: cleanEnv(mayfly.home) };
  const ours = new Sample();
  const theirs = new Sample();
  const start = { ours: new Sample(), theirs: new Sample() };
  for (let round = 0; round < rounds; round++) {
    writeFileSync(join(directory, "index.html"), `ours ${round}`);
    await ours.time(async () => must(await mayfly.run("deploy", directory)));
    writeFileSync(join(directory, "index.html"), `theirs ${round}`);
    await theirs.time(async () => must(await runVercel(version, ["deploy", "--yes"], options)));
    await start.ours.time(async () => must(await mayfly.run("whoami")));
    await start.theirs.time(async () => must(await runVercel(version, ["whoami"], options)));
  }
  const figure = (what: string, mine: Sample, other: Sample): Figure => ({
    what,
    unit: "ms",
    mayfly: mine.p50,
    other: { name: `vercel ${version}`, value: other.p50 },
    rounds: mine.count,
  });
  return [
    figure(
      `deploy of ${files.toLocaleString("en")} files of which 1 changed, to the same server, from the command to its end`,
      ours,
      theirs,
    ),
    figure("`whoami`: the client's start and one answer", start.ours, start.theirs),
  ];
}
