/** Cron jobs against a real server on a socket, with a clock that the test owns. */
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { it } from "node:test";
import { atEnd } from "../../test/at-end.ts";
import { ManualClock } from "../../test/manual-clock.ts";
import { eventually } from "../../test/server.ts";
import { listCronRuns } from "../store/cron-runs.ts";
import { switchProduction } from "../store/aliases.ts";
import { findProject } from "../store/projects.ts";
import { Cron, isSchedule } from "./cron.ts";
import { openData, type Data } from "./testbed.ts";

const midnight = Date.UTC(2026, 0, 1);
const minuteMs = 60_000;

async function gateway(answer: (request: IncomingMessage, response: ServerResponse) => void = (_, response) => void response.end("ok")) {
  const asked: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    asked.push(request);
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  atEnd(() => void server.close().closeAllConnections());
  return { asked, host: "127.0.0.1", port: (server.address() as AddressInfo).port };
}

function open(data: Data, clock: ManualClock, to: { host: string; port: number }, store = data.store): Cron {
  const cron = new Cron({ ...data, store, clock, gateway: to, log: (line) => assert.fail(line) });
  atEnd(() => cron.close());
  return cron;
}

const runsOf = async (data: Data) => listCronRuns(data.store, (await findProject(data.store, data.teamId, "site"))!.id, 100);

it("runs what is due, of production only, with its secret, and follows no redirect", async () => {
  const data = await openData();
  const clock = new ManualClock(midnight + 1000);
  const to = await gateway((_, response) => void response.writeHead(307, { location: "/elsewhere" }).end());
  const crons = [
    { path: "/api/hourly?a=b c", schedule: "0 * * * *" },
    { path: "/api/never", schedule: "nonsense" },
  ];
  const first = await data.deployment("site", { manifest: { crons }, env: { CRON_SECRET: "open sesame" } });
  await data.deployment("site", { target: "preview", createdAt: 2000, manifest: { crons: [{ path: "/preview", schedule: "* * * * *" }] } });
  const cron = open(data, clock, to);
  cron.start();
  for (let minute = 0; minute < 60; minute++) clock.advance(minuteMs);
  const [request] = await eventually("the job was asked", () => (to.asked.length > 0 ? to.asked : null));
  assert.equal(request!.url, "/api/hourly?a=b%20c");
  assert.equal(request!.method, "GET");
  assert.equal(request!.headers.host, "site.localhost");
  assert.equal(request!.headers["user-agent"], "vercel-cron/1.0");
  assert.equal(request!.headers.authorization, "Bearer open sesame");
  const [run] = await eventually("the run has ended", async () => {
    const runs = await runsOf(data);
    return runs[0]?.endedAt == null ? null : runs;
  });
  assert.deepEqual([run!.status, run!.error, run!.dueAt, run!.deploymentId], [307, null, midnight + 60 * minuteMs, first.id]);
  assert.equal(to.asked.length, 1);

  // Production is another deployment now: its jobs count.
  const second = await data.deployment("site", { createdAt: 3000, manifest: { crons: [{ path: "/new", schedule: "*/5 * * * *" }] } });
  await cron.tick(midnight + 120 * minuteMs);
  assert.equal(to.asked.at(-1)!.url, "/new");
  await switchProduction(
    data.store,
    { type: "rollback", deploymentId: first.id, projectId: second.projectId, host: "site.localhost" },
    4000,
  );
  await cron.tick(midnight + 180 * minuteMs);
  assert.equal(to.asked.at(-1)!.url, "/api/hourly?a=b%20c");
});

it("runs a job once though two control planes share the database", async () => {
  const data = await openData();
  const to = await gateway();
  await data.deployment("site", { manifest: { crons: [{ path: "/job", schedule: "* * * * *" }] } });
  const crons = [open(data, new ManualClock(midnight), to), open(data, new ManualClock(midnight), to, await data.another())];
  // One after the other: two connections of one process would wait for each other's lock, and stop this one's loop.
  for (let minute = 1; minute <= 5; minute++) for (const cron of crons) await cron.tick(midnight + minute * minuteMs);
  assert.equal(to.asked.length, 5);
});

it("does not begin a job again while it runs, and says so; one that died with its control plane is not waited for", async () => {
  const data = await openData();
  const waiting: ServerResponse[] = [];
  const to = await gateway((_, response) => void waiting.push(response));
  await data.deployment("site", { manifest: { crons: [{ path: "/slow", schedule: "* * * * *" }] } });
  const clock = new ManualClock(midnight);
  const cron = open(data, clock, to);
  const first = cron.tick(midnight);
  await eventually("the first run is under way", () => (waiting.length === 1 ? true : null));
  await cron.tick(midnight + minuteMs);
  assert.match((await runsOf(data))[0]!.error!, /Skipped/);
  const project = (await findProject(data.store, data.teamId, "site"))!;
  await assert.rejects(cron.runNow(project, "/slow"), { code: "conflict" });
  await assert.rejects(cron.runNow(project, "/none"), { code: "not_found" });
  waiting[0]!.end();
  await first;

  await data.store.db
    .insertInto("cron_runs")
    .values({
      project_id: project.id,
      path: "/slow",
      schedule: "* * * * *",
      due_at: midnight + 2 * minuteMs,
      deployment_id: "dpl_x",
      started_at: clock.now(),
    })
    .execute();
  clock.advance(3_600_000);
  const later = cron.tick(midnight + 60 * minuteMs);
  (await eventually("it runs again", () => waiting[1] ?? null)).end();
  await later;
});

it("does not make up for minutes that passed while nothing ran", async () => {
  const data = await openData();
  const to = await gateway();
  await data.deployment("site", { manifest: { crons: [{ path: "/job", schedule: "* * * * *" }] } });
  const clock = new ManualClock(midnight);
  open(data, clock, to).start();
  clock.advance(minuteMs);
  await eventually("the first minute", () => (to.asked.length === 1 ? true : null));
  assert.deepEqual(["* * * * *", "0 5 * * 1", "*/15 0-6 1,15 * *", "* * * * * *", "61 * * * *", "", "@daily"].map(isSchedule), [
    true,
    true,
    true,
    false,
    false,
    false,
    false,
  ]);
});
