/** What every driver of the usage store must do: {@link usageStoreConformance} registers the tests for one of them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ManualClock } from "../../test/manual-clock.ts";
import type { Clock } from "../clock.ts";
import type { UsageQuery, UsageRecord, UsageRow, UsageStore } from "./usage-store.ts";

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;
/** Begin of an hour. */
const noonMs = Date.UTC(2026, 0, 1, 12);

/** `fresh` begins an empty place that is opened again and again; stores keep 90 days and buffer 50 rows. */
export function usageStoreConformance(name: string, fresh: () => { open: (clock: Clock) => Promise<UsageStore> }): void {
  const withStores = (test: (usage: UsageStore, clock: ManualClock, again: () => Promise<UsageStore>) => Promise<void>) => async () => {
    const { open } = fresh();
    const clock = new ManualClock(noonMs);
    const opened: UsageStore[] = [];
    const again = async () => {
      const usage = await open(clock);
      opened.push(usage);
      return usage;
    };
    try {
      await test(await again(), clock, again);
    } finally {
      for (const usage of opened) await usage.close();
    }
  };
  const all: UsageQuery = { sinceMs: 0, untilMs: noonMs + dayMs, bucketMs: minuteMs };
  const sums = (rows: readonly UsageRow[]) =>
    rows.map((row) => [(row.startMs - noonMs) / minuteMs, row.deploymentId, row.functionName, row.invocations]);

  describe(`usage store: ${name}`, () => {
    it(
      "adds up by Function, deployment and minute, whoever wrote it and when",
      withStores(async (usage, _clock, again) => {
        const record = use({ errors: 1, coldStarts: 1, wallMs: 10.5, cpuMs: 2.25, gbSeconds: 0.01 });
        usage.append([record, { ...record, timestampMs: noonMs + minuteMs - 1 }]);
        await usage.flush();
        const other = await again();
        other.append([record]);
        await other.flush();
        const expected = {
          startMs: noonMs,
          projectId: "prj_1",
          deploymentId: "dpl_1",
          functionName: "api/x",
          invocations: 3,
          errors: 3,
          coldStarts: 3,
          wallMs: 31.5,
          cpuMs: 6.75,
          gbSeconds: 0.03,
        };
        assert.deepEqual(await usage.query(all), [expected]);
        await usage.close();
        assert.deepEqual(await (await again()).query(all), [expected], "also after it was closed");
      }),
    );

    it(
      "filters, and groups by bucket, Function or deployment",
      withStores(async (usage) => {
        usage.append([
          use({}),
          use({ timestampMs: noonMs + 5 * minuteMs }),
          use({ functionName: "api/y" }),
          use({ deploymentId: "dpl_2", timestampMs: noonMs + hourMs }),
          use({ teamId: "team_2", projectId: "prj_2", deploymentId: "dpl_3" }),
        ]);
        const of = async (query: Partial<UsageQuery>) => sums(await usage.query({ ...all, teamId: "team_1", ...query }));
        assert.deepEqual(await of({}), [
          [0, "dpl_1", "api/x", 1],
          [0, "dpl_1", "api/y", 1],
          [5, "dpl_1", "api/x", 1],
          [60, "dpl_2", "api/x", 1],
        ]);
        assert.deepEqual(await of({ bucketMs: dayMs, groupBy: "function" }), [
          [-720, null, "api/x", 3],
          [-720, null, "api/y", 1],
        ]);
        assert.deepEqual(await of({ bucketMs: hourMs, groupBy: "deployment" }), [
          [0, "dpl_1", null, 3],
          [60, "dpl_2", null, 1],
        ]);
        assert.deepEqual(await of({ deploymentId: "dpl_1", functionName: "api/y" }), [[0, "dpl_1", "api/y", 1]]);
        assert.deepEqual(await of({ projectId: "prj_2" }), [], "another team's");
        assert.deepEqual(await of({ limit: 1 }), [[0, "dpl_1", "api/x", 1]]);
        assert.deepEqual(
          await of({ sinceMs: noonMs + 5 * minuteMs + 30_000, untilMs: noonMs + hourMs }),
          [[5, "dpl_1", "api/x", 1]],
          "the minute that `since` lies in, none from `until` on",
        );
      }),
    );

    it(
      "tells CPU time that nobody could measure from none",
      withStores(async (usage) => {
        const cpu = async () => (await usage.query(all)).map(({ cpuMs }) => cpuMs);
        usage.append([use({ cpuMs: null }), use({ cpuMs: null })]);
        assert.deepEqual(await cpu(), [null]);
        usage.append([use({ cpuMs: 0 })]);
        assert.deepEqual(await cpu(), [0]);
        usage.append([use({ cpuMs: 4 }), use({ cpuMs: null })]);
        usage.append([use({ cpuMs: null, functionName: "api/y" })]);
        assert.deepEqual(await cpu(), [4, null]);
      }),
    );

    it(
      "forgets a deployment, also what comes for it later",
      withStores(async (usage, _clock, again) => {
        const writer = await again();
        for (let minute = 0; minute < 50; minute++) {
          writer.append(Array.from({ length: 50 }, (_, i) => use({ timestampMs: noonMs + minute * minuteMs, functionName: `f${i}` })));
          await writer.flush();
        }
        usage.append([use({ deploymentId: "dpl_2" })]);
        await usage.deleteDeployment("dpl_1");
        writer.append([use({}), use({ deploymentId: "dpl_2" })]);
        await writer.flush();
        assert.deepEqual(sums(await usage.query(all)), [[0, "dpl_2", "api/x", 2]]);
        await usage.deleteDeployment("dpl_1");
      }),
    );

    it(
      "keeps what is younger than its days",
      withStores(async (usage, clock, again) => {
        const old = use({ timestampMs: noonMs - 90 * dayMs - minuteMs });
        const young = use({ timestampMs: noonMs - 90 * dayMs + 3 * hourMs });
        usage.append([old, young]);
        await usage.flush();
        clock.advance(hourMs);
        usage.append([use({})]);
        assert.equal((await usage.query(all)).length, 2);
        clock.advance(3 * hourMs);
        await usage.close();
        assert.deepEqual(sums(await (await again()).query(all)), [[0, "dpl_1", "api/x", 1]]);
      }),
    );

    it(
      "drops, and says so, what it has no room for; what it has room for it writes by itself",
      withStores(async (usage, clock, again) => {
        const warned = new Promise<Error>((resolve) => process.once("warning", resolve));
        usage.append(Array.from({ length: 60 }, (_, i) => use({ functionName: `f${i}` })));
        usage.append([use({ functionName: "f1" })]);
        clock.advance(minuteMs);
        assert.match((await warned).message, /^10 records of usage were lost/);
        const rows = await (await again()).query(all);
        assert.deepEqual([rows.length, rows.reduce((sum, { invocations }) => sum + invocations, 0)], [50, 51]);
      }),
    );
  });
}

function use(of: Partial<UsageRecord>): UsageRecord {
  return {
    teamId: "team_1",
    projectId: "prj_1",
    deploymentId: "dpl_1",
    functionName: "api/x",
    timestampMs: noonMs,
    invocations: 1,
    errors: 0,
    coldStarts: 0,
    wallMs: 1,
    cpuMs: 1,
    gbSeconds: 1,
    ...of,
  };
}
