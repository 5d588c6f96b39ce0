/** The API's client against a server that answers well, badly, late or not at all. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, it } from "node:test";
import { MayflyError } from "../errors.ts";
import { ApiClient } from "./client.ts";
import { cancelDeployment, createDeployment, getUser, readBuild, readLogs } from "./deployments.ts";
import { followDeployment, type DeployEvent } from "./deploy.ts";
import { answer, openRecordingApi, refuse, type RecordingApiOptions } from "./recording-api.ts";

const create = { name: "site", files: [], target: "preview", prebuilt: false, force: false, env: {}, buildEnv: {} } as const;

/** A client and the API it talks to. */
async function open(options: RecordingApiOptions = {}, token: string | undefined = "mayfly_test") {
  const api = await openRecordingApi(options);
  const client = new ApiClient({ api: api.url, token, backoffMs: 1 });
  const close = async (): Promise<void> => {
    client[Symbol.dispose]();
    await api[Symbol.asyncDispose]();
  };
  return { api, client, [Symbol.asyncDispose]: close };
}

describe("ApiClient", () => {
  it("turns the server's errors into MayflyErrors with code, message and details", async () => {
    await using world = await open({
      intercept: (_request, response) => refuse(response, 404, "not_found", "No such thing.", { what: "x" }),
    });
    await assert.rejects(getUser(world.client), (error: unknown) => {
      assert.ok(error instanceof MayflyError);
      assert.deepEqual([error.code, error.message, error.details], ["not_found", "No such thing.", { what: "x" }]);
      return true;
    });
    assert.equal(world.api.requests.length, 1);
  });

  it("keeps a code that it does not know among the details", async () => {
    await using world = await open({ intercept: (_request, response) => refuse(response, 403, "team_suspended", "Pay first.") });
    await assert.rejects(getUser(world.client), {
      code: "forbidden",
      message: "Pay first. (team_suspended)",
      details: { serverCode: "team_suspended" },
    });
  });

  it("says when something else answers", async () => {
    await using world = await open({
      intercept(_request, response) {
        response.writeHead(404, { "content-type": "text/html" }).end("<h1>nginx</h1>");
        return true;
      },
    });
    await assert.rejects(getUser(world.client), { code: "server_unreachable", message: /not Mayfly's API \(HTTP 404/ });
    await using odd = await open({ intercept: (_request, response) => answer(response, 200, ["hello"]) });
    await assert.rejects(getUser(odd.client), { code: "server_unreachable", message: /not Mayfly's API/ });
  });

  it("repeats a GET after 5xx and broken connections", async () => {
    let calls = 0;
    await using world = await open({
      intercept(_request, response, incoming) {
        if (++calls === 1) return refuse(response, 502, "internal_error", "No.");
        if (calls === 2) {
          incoming.socket.destroy();
          return true;
        }
        return false;
      },
    });
    assert.equal((await getUser(world.client)).username, "alice");
    assert.equal(calls, 3);
  });

  it("never repeats a creation, whatever happened to it", async () => {
    let calls = 0;
    await using world = await open({
      intercept({ method }, response, incoming) {
        if (method !== "POST") return false;
        if (++calls === 1) return refuse(response, 500, "internal_error", "Half done.");
        incoming.socket.destroy();
        return true;
      },
    });
    await getUser(world.client);
    await assert.rejects(createDeployment(world.client, create), { code: "internal_error", message: "Half done." });
    await assert.rejects(createDeployment(world.client, create), {
      code: "server_unreachable",
      message: /broke during POST \/v13\/deployments/,
    });
    assert.equal(calls, 2);
  });

  it("waits when the server says 429", async () => {
    let calls = 0;
    await using world = await open({
      intercept: ({ method }, response) => method === "POST" && ++calls === 1 && refuse(response, 429, "bad_request", "Slowly."),
    });
    assert.ok("created" in (await createDeployment(world.client, create)));
    assert.equal(calls, 2);
  });

  it("tells at once that nobody listens, and later that the connection is gone", async () => {
    const server = createServer((_request, response) => response.end('{"user":{"username":"alice"}}'));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const api = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    using client = new ApiClient({ api, backoffMs: 1 });
    await getUser(client);
    await new Promise((resolve) => (server.close(resolve), server.closeAllConnections()));
    await assert.rejects(getUser(client), { code: "server_unreachable", message: /broke/ });
    using fresh = new ApiClient({ api, backoffMs: 60_000 });
    await assert.rejects(getUser(fresh), { code: "server_unreachable", message: `No Mayfly server answers at ${api} (ECONNREFUSED).` });
  });

  it("finds hosts below localhost without DNS", async () => {
    await using world = await open();
    using client = new ApiClient({ api: world.api.url.replace("127.0.0.1", "mayfly.localhost") });
    assert.equal((await getUser(client)).username, "alice");
  });

  it("ends a call when it is told to", async () => {
    await using world = await open({ intercept: () => true });
    const stop = new AbortController();
    const call = getUser(world.client, stop.signal);
    setTimeout(() => stop.abort(), 20);
    await assert.rejects(call, { code: "canceled" });
  });

  it("reads lines that come in pieces and passes over keep-alives", async () => {
    await using world = await open({
      async intercept(_request, response) {
        response.writeHead(200);
        for (const piece of ['{"serial":1,"te', 'xt":"ü', '"}\n\n{}\nnoise\n{"dropped":3}\n{"serial":2,', '"text":"end"}']) {
          response.write(piece);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        response.end();
        return true;
      },
    });
    const seen: unknown[] = [];
    for await (const entry of readLogs(world.client, "dpl_1", { source: "function" })) seen.push("dropped" in entry ? entry : entry.text);
    assert.deepEqual(seen, ["ü", { dropped: 3 }, "end"]);
  });

  it("says when a stream breaks", async () => {
    await using world = await open({
      intercept(_request, response) {
        response.writeHead(200);
        response.write('{"serial":1,"text":"a"}\n', () => response.destroy());
        return true;
      },
    });
    await assert.rejects(Array.fromAsync(readLogs(world.client, "dpl_1", { source: "function" })), { code: "server_unreachable" });
  });
});

describe("followDeployment", () => {
  it("passes every line on once, though the stream breaks, and ends with the state", async () => {
    let streams = 0;
    let final = false;
    await using world = await open({
      intercept({ path }, response) {
        if (path === "/v13/deployments/dpl_1") {
          return answer(response, 200, { id: "dpl_1", url: "a.localhost", readyState: final ? "READY" : "BUILDING" });
        }
        if (!path.endsWith("/events")) return false;
        streams++;
        response.writeHead(200);
        const line = (serial: number): string => `${JSON.stringify({ type: "stdout", serial: String(serial), text: `line ${serial}` })}\n`;
        if (streams === 1) response.write(line(1) + line(2), () => response.destroy());
        else {
          final = true;
          response.end(line(1) + line(2) + line(3));
        }
        return true;
      },
    });
    const events: DeployEvent[] = [];
    const ready = await followDeployment(world.client, "dpl_1", { onEvent: (event) => events.push(event) });
    assert.deepEqual([ready.state, ready.url, ready.host], ["READY", "https://a.localhost", "a.localhost"]);
    assert.deepEqual(
      events.map((event) => (event.type === "log" ? event.text : event.type === "state" ? event.state : event.type)),
      ["BUILDING", "line 1", "line 2", "line 3", "READY"],
    );
  });

  it("throws the deployment's own code, or deployment_failed when it has none that is known", async () => {
    await using known = await open({
      states: ["ERROR"],
      deployment: { errorCode: "FUNCTION_TOO_LARGE", errorMessage: "api/a.js is too large." },
    });
    await assert.rejects(followDeployment(known.client, "dpl_1"), { code: "FUNCTION_TOO_LARGE", message: "api/a.js is too large." });
    await using unknown = await open({ states: ["ERROR"], deployment: { errorCode: "WEIRD", errorMessage: "Weird." } });
    await assert.rejects(followDeployment(unknown.client, "dpl_1"), { code: "deployment_failed", message: "Weird." });
    await using canceled = await open({ states: ["CANCELED"] });
    await assert.rejects(followDeployment(canceled.client, "dpl_1"), { code: "canceled" });
  });

  it("is not held up by a stream of events that never ends or is not there", async () => {
    await using silent = await open({
      intercept: ({ path }, response) => path.endsWith("/events") && Boolean(response.writeHead(200).write("\n")),
    });
    assert.equal((await followDeployment(silent.client, "dpl_1")).state, "READY");
    await using absent = await open({
      intercept: ({ path }, response) => path.endsWith("/events") && refuse(response, 404, "not_found", "No."),
    });
    assert.equal((await followDeployment(absent.client, "dpl_1")).state, "READY");
  });
});

describe("resources", () => {
  it("reads outputs, Functions with their settings", async () => {
    const output = [
      { type: "file", path: "index.html", digest: "d1", mode: 0o100644, size: 5 },
      {
        type: "lambda",
        path: "api/a",
        digest: "d2",
        size: 9,
        lambda: { functionName: "api/a", deployedTo: ["dev1"], memory: 128, maxDuration: 5, runtime: "nodejs24.x" },
      },
    ];
    await using world = await open({ intercept: (_request, response) => answer(response, 200, { builds: [{ id: "bld_1", output }] }) });
    const none = { functionName: null, runtime: null, memoryMB: null, maxDurationS: null, regions: [] };
    assert.deepEqual((await readBuild(world.client, "dpl_1")).outputs, [
      {
        path: "api/a",
        kind: "function",
        size: 9,
        digest: "d2",
        functionName: "api/a",
        runtime: "nodejs24.x",
        memoryMB: 128,
        maxDurationS: 5,
        regions: ["dev1"],
      },
      { path: "index.html", kind: "static", size: 5, digest: "d1", ...none },
    ]);
  });

  it("accepts an empty answer", async () => {
    await using world = await open({ intercept: (_request, response) => answer(response, 204, undefined) });
    await cancelDeployment(world.client, "dpl_1");
    assert.deepEqual(
      world.api.requests.map(({ method, path }) => [method, path]),
      [["PATCH", "/v12/deployments/dpl_1/cancel"]],
    );
  });
});
