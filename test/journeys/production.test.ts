/** Promote, rollback, redeploy and environments, through the front door and under load. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { request } from "undici";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import { eventually, type Mayfly } from "../server.ts";

interface Json {
  readonly [key: string]: unknown;
}

describe("production", () => {
  let mayfly: Mayfly;
  let token: string;
  before(async () => {
    mayfly = await startMayfly();
    token = Object.values(
      JSON.parse(readFileSync(join(mayfly.home, "config", "mayfly", "credentials.json"), "utf8")) as Record<string, string>,
    )[0]!;
  });

  const call = async <T = Json>(method: "GET" | "POST" | "PATCH" | "DELETE", path: string, body?: unknown): Promise<T> => {
    const response = await request(mayfly.api + path, {
      method,
      headers: { authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.body.text();
    assert.ok(response.statusCode < 300, `${method} ${path}: ${response.statusCode} ${text}`);
    return (text === "" ? {} : JSON.parse(text)) as T;
  };
  const idOf = async (url: string) => (await call<{ id: string }>("GET", `/v13/deployments/${new URL(url).hostname}`)).id;
  const ready = (id: string) =>
    eventually(`${id} is ready`, async () => {
      const deployment = await call<{ readyState: string; url: string; errorMessage?: string }>("GET", `/v13/deployments/${id}`);
      assert.notEqual(deployment.readyState, "ERROR", deployment.errorMessage);
      return deployment.readyState === "READY" ? deployment : null;
    });

  it("switches 100 times under constant traffic: no request fails, and after the answer each is the new deployment's", async () => {
    const handler = (name: string) => `module.exports = (req, res) => res.send('${name}')`;
    const ids: string[] = [];
    for (const name of ["a", "b"]) {
      const directory = projectDirectory({ "index.html": name, "api/who.js": handler(name) });
      ids.push(await idOf(await mayfly.deploy(directory, "--name", "switched", "--prod")));
    }
    const base = `http://switched.localhost:${mayfly.port}`;
    let current = "b";
    let switching = false;
    const over = new AbortController();
    let asked = 0;
    const wrong: string[] = [];
    const traffic = Array.from({ length: 4 }, async (_, lane) => {
      while (!over.signal.aborted) {
        const [settledBefore, expected] = [!switching, current];
        const { status, text } = await mayfly.fetch(base + (lane % 2 === 0 ? "/" : "/api/who"));
        asked++;
        const settledAfter = !switching && current === expected;
        if (status !== 200 || !["a", "b"].includes(text)) wrong.push(`${status} ${text}`);
        else if (settledBefore && settledAfter && text !== expected) wrong.push(`${text} instead of ${expected}`);
      }
    });
    for (let index = 0; index < 100; index++) {
      const next = index % 2;
      switching = true;
      await call("POST", `/v10/projects/switched/promote/${ids[next]}`, {});
      current = ["a", "b"][next]!;
      switching = false;
      const { text } = await mayfly.fetch(`${base}/`);
      if (text !== current) wrong.push(`after the answer ${text} instead of ${current}`);
    }
    over.abort();
    await Promise.all(traffic);
    assert.deepEqual(wrong, []);
    assert.ok(asked > 100, `only ${asked} requests were made`);
  });

  it("rolls back and stays there until a promote", async () => {
    const deploy = (text: string, ...flags: string[]) =>
      mayfly.deploy(projectDirectory({ "index.html": text }), "--name", "back", ...flags);
    const first = await idOf(await deploy("one"));
    const second = await idOf(await deploy("two", "--prod"));
    const production = async () => (await mayfly.fetch(`http://back.localhost:${mayfly.port}/`)).text;
    assert.equal(await production(), "two");
    await call("POST", `/v9/projects/back/rollback/${first}`, {});
    assert.equal(await production(), "one");
    const project = await call<{ lastAliasRequest: Json }>("GET", "/v9/projects/back?rollbackInfo=true");
    const { type, jobStatus, fromDeploymentId, toDeploymentId } = project.lastAliasRequest;
    assert.deepEqual([type, jobStatus, fromDeploymentId, toDeploymentId], ["rollback", "succeeded", second, first]);
    await deploy("three", "--prod");
    assert.equal(await production(), "one");
    await call("POST", `/v10/projects/back/promote/${second}`, {});
    assert.equal(await production(), "two");
    await deploy("four", "--prod");
    assert.equal(await production(), "four");
  });

  it("gives builds and Functions the project's environment for target and branch, and a redeploy the present one", async () => {
    const directory = projectDirectory({
      "package.json": JSON.stringify({ scripts: { build: "node build.cjs" } }),
      "build.cjs": `require("fs").mkdirSync("public", { recursive: true }); require("fs").writeFileSync("public/built.txt", [process.env.PLAIN, process.env.SECRET].join())`,
      "api/env.js":
        "module.exports = (req, res) => res.json([process.env.PLAIN, process.env.SECRET, process.env.OWN, process.env.VERCEL_PROJECT_ID])",
    });
    const { id: projectId } = await call<{ id: string }>("POST", "/v1/projects", { name: "environed" });
    await call("POST", "/v10/projects/environed/env", [
      { key: "PLAIN", value: "p1", type: "plain", target: ["production"] },
      { key: "PLAIN", value: "preview", type: "plain", target: ["preview"] },
      { key: "SECRET", value: "correct-horse", target: ["production", "preview"] },
    ]);
    const url = await mayfly.deploy(directory, "--name", "environed", "--env", "OWN=own");
    assert.deepEqual(JSON.parse((await mayfly.fetch(`${url}/api/env`)).text), ["p1", "correct-horse", "own", projectId]);
    assert.equal((await mayfly.fetch(`${url}/built.txt`)).text, "p1,correct-horse");
    const id = await idOf(url);

    const listed = JSON.stringify(await call("GET", "/v10/projects/environed/env?decrypt=true"));
    const pulled = await call<{ env: Json }>("GET", "/v3/env/pull/environed/production");
    const ofDeployment = await call<{ env: Json }>("GET", `/v3/env/pull/${id}`);
    assert.ok(!(listed + JSON.stringify(pulled) + JSON.stringify(ofDeployment)).includes("correct-horse"));
    assert.deepEqual([pulled.env["PLAIN"], pulled.env["SECRET"], ofDeployment.env["OWN"]], ["p1", "", "own"]);

    await call("POST", "/v10/projects/environed/env?upsert=true", { key: "PLAIN", value: "p2", type: "plain", target: ["production"] });
    const again = await call<{ id: string }>("POST", "/v13/deployments?forceNew=1", {
      deploymentId: id,
      name: "environed",
      target: "production",
      meta: { action: "redeploy" },
    });
    const { url: host } = await ready(again.id);
    const reply = await mayfly.fetch(`http://${host}:${mayfly.port}/api/env`);
    assert.deepEqual(JSON.parse(reply.text), ["p2", "correct-horse", "own", projectId]);
    assert.deepEqual(JSON.parse((await mayfly.fetch(`${url}/api/env`)).text)[0], "p1", "the first stays as it was");
  });

  it("makes one deployment of a repeated call, and refuses the key for another", async () => {
    const body = JSON.stringify({ name: "once", files: [{ file: "index.html", data: "x" }] });
    const create = async (text: string) => {
      const headers = { authorization: `Bearer ${token}`, "idempotency-key": "k-1" };
      const response = await request(`${mayfly.api}/v13/deployments`, { method: "POST", headers, body: text });
      return { status: response.statusCode, json: (await response.body.json()) as { id: string } };
    };
    const made = await Promise.all([create(body), create(body), create(body)]);
    assert.equal(new Set(made.map(({ json }) => json.id)).size, 1);
    assert.equal((await create(body.replace('"x"', '"y"'))).status, 409);
  });

  it("lists the cron jobs of vercel.json and runs one at once, as a request with the secret", async () => {
    const directory = projectDirectory({
      "vercel.json": JSON.stringify({ crons: [{ path: "/api/job", schedule: "0 5 1 1 *" }] }),
      "api/job.js":
        "module.exports = (req, res) => { console.log(req.headers['user-agent'], req.headers.authorization); res.status(202).end() }",
    });
    await mayfly.deploy(directory, "--name", "timed", "--env", "CRON_SECRET=open-sesame");
    const list = async () => JSON.parse((await mayfly.run("cron", "ls", "--project", "timed", "--json")).stdout) as Json[];
    const [job] = await list();
    assert.deepEqual([job!["path"], job!["schedule"], job!["lastRun"]], ["/api/job", "0 5 1 1 *", null]);
    const run = await mayfly.run("cron", "run", "/api/job", "--project", "timed");
    assert.equal(run.code, 0, run.stderr);
    await eventually("the run has ended well", async () => {
      const last = (await list())[0]!["lastRun"] as { status: number | null } | null;
      return last?.status === 202 ? last : null;
    });
    const { stdout } = await mayfly.run("logs", "timed.localhost");
    assert.match(stdout, /vercel-cron\/1\.0 Bearer open-sesame/);
    assert.equal((await mayfly.run("cron", "run", "/none", "--project", "timed")).code, 1);
    const rotated = await mayfly.run("secrets", "rotate", "--json");
    assert.ok((JSON.parse(rotated.stdout) as { resealed: number }).resealed > 0, rotated.stderr);
  });

  it("shows requests with their lines, clears away on demand, and rotates the key while it serves", async () => {
    const url = await mayfly.deploy(
      projectDirectory({
        "api/say.js": "module.exports = (req, res) => { console.log('said', process.env.S); res.status(418).send('x') }",
      }),
      "--name",
      "saying",
      "--env",
      "S=secret",
    );
    await mayfly.fetch(`${url}/api/say?hidden=1`);
    const { id } = await call<{ id: string }>("GET", "/v9/projects/saying");
    const row = await eventually("the request is logged", async () => {
      const { rows } = await call<{ rows: Json[] }>("GET", `/api/logs/request-logs?projectId=${id}&page=0&statusCode=4xx&search=said`);
      return rows[0] ?? null;
    });
    assert.deepEqual([row["requestMethod"], row["requestPath"], row["statusCode"]], ["GET", "/api/say", 418]);
    await mayfly.fetch(`${url}/nowhere`);
    const requests = await eventually("a request to no Function is logged", async () => {
      const { stdout } = await mayfly.run("logs", url, "--requests");
      return stdout.includes("/nowhere") ? stdout : null;
    });
    assert.match(requests, /418 {2}GET {2}\S+\/api\/say {2}serverless {2}MISS[^]*404 {2}GET {2}\S+\/nowhere {2}static/);
    assert.doesNotMatch(requests, /hidden/);
    const metrics = await request(`${mayfly.api}/metrics`, { headers: { authorization: `Bearer ${token}` } });
    const text = await metrics.body.text();
    assert.match(text, /^mayfly_data_plane_up 1$/m);
    assert.match(text, /^mayfly_requests_total\{status="4xx"\} [1-9]/m);
    assert.match(text, /^mayfly_function_starts_total\{start="(cold|warm|hot)"\} [1-9]/m);
    assert.match(text, /^mayfly_deployments\{state="READY"\} [1-9]/m);
    const dry = await call<{ deleted: number; kept: number }>("POST", "/mayfly/gc", { dryRun: true });
    assert.ok(dry.deleted === 0 && dry.kept > 0);
    const { resealed } = await call<{ resealed: number }>("POST", "/mayfly/secrets/rotate");
    assert.ok(resealed > 0);
    const next = await mayfly.deploy(
      projectDirectory({ "api/say.js": "module.exports = (req, res) => res.send(process.env.S)" }),
      "--name",
      "saying",
      "--env",
      "S=after",
    );
    assert.equal((await mayfly.fetch(`${next}/api/say`)).text, "after", "the gateway has read the new key");
  });
});
