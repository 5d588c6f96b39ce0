/** What Functions use, metered through the front door and told by `mayfly usage`, in the strongest sandbox of this machine. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import { eventually, type Mayfly } from "../server.ts";

const files = {
  "api/burn.js": `const used = () => { const { user, system } = process.cpuUsage(); return user + system; };
    module.exports = (req, res) => { const end = used() + 200_000; while (used() < end); res.send('burnt'); };`,
  "api/sleep.js": "module.exports = async (req, res) => { await new Promise((done) => setTimeout(done, 200)); res.send('slept'); };",
  "api/fails.js": "module.exports = () => { throw new Error('on purpose'); };",
  "api/broken.js": "module.exports = (",
  "vercel.json": JSON.stringify({ functions: { "api/sleep.js": { memory: 512 } } }),
};
const rounds = 5;

interface Amounts {
  readonly invocations: number;
  readonly errors: number;
  readonly coldStarts: number;
  readonly wallMs: number;
  readonly cpuMs: number | null;
  readonly gbSeconds: number;
}
type Row = Amounts & { readonly functionName: string | null; readonly deploymentId: string | null; readonly projectName: string };

describe("usage", () => {
  let mayfly: Mayfly;
  let url: string;
  /** Function → responses that said that an instance was booted for them. */
  const cold = new Map<string, number>();
  /** Function → requests that were not refused unasked: one that ends again and again without an answer is let alone for a while. */
  const invoked = new Map<string, number>();
  const invokedOf = (...names: string[]) => names.reduce((sum, name) => sum + invoked.get(name)!, 0);
  const report = async (...parameters: string[]): Promise<{ usage: Row[]; totals: Amounts }> =>
    JSON.parse((await mayfly.run("usage", ...parameters, "--since", "1d", "--json")).stdout);
  /** Of one Function, over all hours. */
  const used = async (name: string): Promise<Amounts> => {
    const rows = (await report("metered")).usage.filter(({ functionName }) => functionName === name);
    const sum = (of: (row: Row) => number) => rows.reduce((total, row) => total + of(row), 0);
    return {
      invocations: sum((row) => row.invocations),
      errors: sum((row) => row.errors),
      coldStarts: sum((row) => row.coldStarts),
      wallMs: sum((row) => row.wallMs),
      cpuMs: sum((row) => row.cpuMs!),
      gbSeconds: sum((row) => row.gbSeconds),
    };
  };
  const within = (what: string, value: number, least: number, most: number) =>
    assert.ok(value >= least && value <= most, `${what} is ${value}, not ${least} to ${most}`);

  before(async () => {
    mayfly = await startMayfly();
    url = await mayfly.deploy(projectDirectory(files), "--name", "metered");
    for (let round = 0; round < rounds; round++) {
      for (const name of ["burn", "sleep", "fails", "broken"]) {
        const { headers } = await mayfly.fetch(`${url}/api/${name}`);
        if (headers["x-mayfly-start"] === "cold") cold.set(name, (cold.get(name) ?? 0) + 1);
        if (headers["retry-after"] === undefined) invoked.set(name, (invoked.get(name) ?? 0) + 1);
      }
    }
    // CPU time is read after the response, so it comes a little later than the count.
    let earlier = "";
    await eventually("all invocations are counted, with what they used", async () => {
      await new Promise((resolve) => setTimeout(resolve, 1500));
      const { totals } = await report();
      const settled = totals.invocations === invokedOf(...invoked.keys()) && JSON.stringify(totals) === earlier;
      earlier = JSON.stringify(totals);
      return settled ? true : null;
    });
  });

  it("counts invocations, errors and cold starts", async () => {
    const counts = async (name: string) => {
      const { invocations, errors, coldStarts } = await used(`api/${name}`);
      return [invocations, errors, coldStarts];
    };
    assert.deepEqual(await counts("burn"), [rounds, 0, cold.get("burn")]);
    assert.deepEqual(await counts("sleep"), [rounds, 0, cold.get("sleep")]);
    for (const name of ["fails", "broken"]) {
      assert.deepEqual((await counts(name)).slice(0, 2), [invokedOf(name), invokedOf(name)]);
    }
  });

  it("measures time, CPU time and GB-seconds", async () => {
    const burn = await used("api/burn");
    within("CPU time of what burns", burn.cpuMs!, rounds * 150, rounds * 320);
    within("time of what burns", burn.wallMs, rounds * 190, rounds * 1000);
    within("GB-seconds of what burns", burn.gbSeconds / ((1769 / 1024) * (burn.wallMs / 1000)), 0.99, 1.01);
    const sleep = await used("api/sleep");
    within("CPU time of what sleeps", sleep.cpuMs!, 0, rounds * 100);
    within("time of what sleeps", sleep.wallMs, rounds * 195, rounds * 1000);
    within("GB-seconds of what sleeps", sleep.gbSeconds / ((512 / 1024) * (sleep.wallMs / 1000)), 0.99, 1.01);
  });

  it("counts nothing while idle", async () => {
    const earlier = await report();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    assert.deepEqual((await report()).totals, earlier.totals);
  });

  it("shows a table, by Function or deployment, of a project, a deployment or all", async () => {
    const table = await mayfly.run("usage", url);
    assert.match(table.stdout, /^FUNCTION +INVOKED.*\n(?:api\/\w+ +[1-5] .*\n){4}total +\d+ +\d+ .*█\n$/);
    const [, invocations, errors] = /^total +(\d+) +(\d+)/m.exec(table.stdout)!;
    assert.deepEqual([Number(invocations), Number(errors)], [invokedOf(...invoked.keys()), invokedOf("fails", "broken")]);
    const { usage } = await report("--by", "deployment");
    const { id } = JSON.parse((await mayfly.run("inspect", url, "--json")).stdout);
    assert.deepEqual(usage.map(({ deploymentId, functionName, projectName }) => [deploymentId, functionName, projectName])[0], [
      id,
      null,
      "metered",
    ]);
    assert.equal(JSON.parse((await mayfly.run("usage", "nobody", "--json")).stdout).error.code, "not_found");
  });

  it("survives a restart, and goes with the deployment", async () => {
    const earlier = (await report()).totals;
    await mayfly.fetch(`${url}/api/sleep`);
    await mayfly.stop();
    mayfly = await startMayfly({ home: mayfly.home });
    const later = (await report()).totals;
    assert.deepEqual([later.invocations, later.errors], [earlier.invocations + 1, earlier.errors], "the last one was not lost");
    within("time of one more", later.wallMs - earlier.wallMs, 195, 2000);
    assert.equal((await mayfly.run("rm", url)).code, 0);
    assert.deepEqual((await report()).usage, []);
  });
});
