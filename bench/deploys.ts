/** From the command to the first 200: a new project, changed files, nothing changed. */
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Mayfly } from "../test/server.ts";
import { Sample } from "./sample.ts";
import type { Figure } from "./table.ts";

const rounds = 11;

export async function benchDeploys(mayfly: Mayfly, hello: string, scratch: string): Promise<Figure[]> {
  const directory = join(scratch, "hello");
  cpSync(hello, directory, { recursive: true });
  const first = new Sample();
  const changed = new Sample();
  const unchanged = new Sample();
  const untilFirst200 = (name: string) => async () => {
    const url = await mayfly.deploy(directory, "--name", name);
    for (const path of ["", "/api/date"]) {
      const { status } = await mayfly.fetch(url + path);
      if (status !== 200) throw new Error(`${url}${path} answered ${status}.`);
    }
  };
  for (let round = 0; round < rounds; round++) {
    writeFileSync(join(directory, "note.txt"), `new project ${round}`);
    await first.time(untilFirst200(`first-${round}`));
    writeFileSync(join(directory, "note.txt"), `changed ${round}`);
    await changed.time(untilFirst200("changing"));
    await unchanged.time(untilFirst200("changing"));
  }
  const figure = (what: string, sample: Sample): Figure => ({ what, unit: "ms", mayfly: sample.p50, other: null, rounds: sample.count });
  return [
    figure("`mayfly deploy examples/hello` to the first 200 of page and Function, new project", first),
    figure("the same, one file changed", changed),
    figure("the same, no file changed", unchanged),
  ];
}
