/** What every driver of the log store must do: {@link logStoreConformance} registers the tests for one of them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { LoggedRequest, LogLine } from "../model.ts";
import type { LogStore, RequestQuery } from "./log-store.ts";

/** `fresh` begins an empty place that is opened again and again; stores keep 10 lines and buffer 50. */
export function logStoreConformance(name: string, fresh: () => { open: () => Promise<LogStore> }): void {
  const withStores = (test: (logs: LogStore, again: () => Promise<LogStore>) => Promise<void>) => async () => {
    const { open } = fresh();
    const opened: LogStore[] = [];
    const again = async () => {
      const logs = await open();
      opened.push(logs);
      return logs;
    };
    try {
      await test(await again(), again);
    } finally {
      for (const logs of opened) await logs.close();
    }
  };
  const texts = (page: { lines: readonly { text: string }[] }) => page.lines.map(({ text }) => text);

  describe(`log store: ${name}`, () => {
    it(
      "gives lines back by deployment, source, Function, invocation and time, in order",
      withStores(async (logs, again) => {
        logs.append([line("a"), line("b", { functionName: "api/x", invocationId: "i1" }), line("c", { source: "build" })]);
        logs.append([line("d", { timestampMs: 50 }), line("e", { deploymentId: "dpl_2" })]);
        await logs.flush();
        const reader = await again();
        assert.deepEqual(texts(await reader.query({ deploymentId: "dpl_1" })), ["a", "b", "c", "d"]);
        assert.deepEqual(texts(await reader.query({ deploymentId: "dpl_1", source: "build" })), ["c"]);
        assert.deepEqual(texts(await reader.query({ deploymentId: "dpl_1", functionName: "api/x" })), ["b"]);
        assert.deepEqual(texts(await reader.query({ deploymentId: "dpl_1", invocationId: "i1" })), ["b"]);
        assert.deepEqual(texts(await reader.query({ deploymentId: "dpl_1", sinceMs: 50 })), ["d"]);
        const all = await reader.query({ deploymentId: "dpl_1", limit: 2 });
        assert.deepEqual(texts(all), ["c", "d"], "the newest");
        assert.deepEqual(texts(await reader.query({ deploymentId: "dpl_1", afterSerial: all.lines[0]!.serial })), ["d"]);
        await logs.deleteDeployment("dpl_1");
        assert.deepEqual(texts(await reader.query({ deploymentId: "dpl_1" })), []);
        assert.deepEqual(texts(await reader.query({ deploymentId: "dpl_2" })), ["e"]);
      }),
    );

    it(
      "keeps the newest lines of each Function and counts the others",
      withStores(async (logs) => {
        for (let i = 0; i < 25; i++) {
          logs.append([line(`x${i}`, { functionName: "api/x" })]);
          if (i % 5 === 0) await logs.flush();
        }
        logs.append([line("quiet", { functionName: "api/y" })]);
        const x = await logs.query({ deploymentId: "dpl_1", functionName: "api/x" });
        assert.deepEqual(
          texts(x),
          Array.from({ length: 10 }, (_, i) => `x${i + 15}`),
        );
        assert.equal(x.dropped, 15);
        assert.deepEqual(await logs.query({ deploymentId: "dpl_1", functionName: "api/y" }).then(texts), ["quiet"]);
      }),
    );

    it(
      "gives requests back by time, status, id and text, the newest first, and keeps the newest of each deployment",
      withStores(async (logs, again) => {
        const request = (index: number, more: Partial<LoggedRequest> = {}): LoggedRequest => ({
          deploymentId: "dpl_1",
          requestId: `r${index}`,
          functionName: "api/x",
          answeredBy: "function",
          cache: "",
          timestampMs: index,
          method: "GET",
          path: `/p${index}`,
          host: "site.localhost",
          status: 200,
          durationMs: 1.5,
          ...more,
        });
        logs.append([line("needle", { invocationId: "r2" })]);
        for (const one of [request(1), request(2, { status: 404 }), request(3, { status: 500, method: "POST" })]) logs.appendRequest(one);
        logs.appendRequest(request(4, { deploymentId: "dpl_2" }));
        await logs.flush();
        const reader = await again();
        const ids = async (query: Partial<RequestQuery> = {}) =>
          (await reader.queryRequests({ deploymentIds: ["dpl_1"], limit: 10, ...query })).map(({ requestId }) => requestId);
        assert.deepEqual(await ids(), ["r3", "r2", "r1"]);
        assert.deepEqual(await ids({ deploymentIds: ["dpl_1", "dpl_2"], limit: 2 }), ["r4", "r3"]);
        assert.deepEqual(await ids({ sinceMs: 2, untilMs: 3 }), ["r2"]);
        assert.deepEqual(await ids({ status: "4xx" }), ["r2"]);
        assert.deepEqual(await ids({ status: "500", method: "POST" }), ["r3"]);
        assert.deepEqual(await ids({ search: "needle" }), ["r2"]);
        assert.deepEqual(await ids({ search: "/p1" }), ["r1"]);
        assert.deepEqual(await ids({ requestId: "r1" }), ["r1"]);
        assert.deepEqual(await ids({ offset: 1, limit: 1 }), ["r2"]);
        for (let index = 0; index < 900; index++) {
          logs.appendRequest(request(100 + index));
          if (index % 40 === 39) await logs.flush();
        }
        await logs.flush();
        const kept = await ids({ limit: 1000 });
        assert.equal(kept[0], "r999");
        assert.ok(kept.length < 300, `${kept.length} are kept`);
        for (let index = 0; index < 900; index++) logs.appendRequest(request(2000 + index, { answeredBy: "static", functionName: "" }));
        await logs.flush();
        const [newest, ...others] = await reader.queryRequests({ deploymentIds: ["dpl_1"], limit: 2000 });
        assert.deepEqual([newest?.answeredBy, newest?.functionName], ["static", ""]);
        assert.ok(others.filter(({ answeredBy }) => answeredBy === "function").length >= 10, "files push out no Function");
        await logs.deleteDeployment("dpl_1");
        assert.deepEqual(await ids(), []);
      }),
    );

    it(
      "drops and counts what comes faster than it can be written",
      withStores(async (logs) => {
        logs.append(Array.from({ length: 500 }, (_, i) => line(`flood ${i}`)));
        const page = await logs.query({ deploymentId: "dpl_1" });
        assert.equal(page.lines.length, 10);
        assert.equal(page.dropped, 490);
      }),
    );

    it(
      "follows what another process writes, until it is told to stop",
      withStores(async (logs, again) => {
        const writer = await again();
        writer.append([line("before")]);
        await writer.flush();
        const stop = new AbortController();
        const seen: string[] = [];
        for await (const { text } of logs.follow({ deploymentId: "dpl_1" }, stop.signal)) {
          seen.push(text);
          if (text === "before") writer.append([line("after 1"), line("after 2")]);
          if (text === "after 2") stop.abort();
        }
        assert.deepEqual(seen, ["before", "after 1", "after 2"]);
      }),
    );
  });
}

function line(text: string, of: Partial<LogLine> = {}): LogLine {
  return {
    deploymentId: "dpl_1",
    source: "function",
    functionName: "",
    invocationId: "",
    stream: "stdout",
    timestampMs: 1,
    text,
    ...of,
  };
}
