/** Git as teams use it: many pushes, many projects in one repository, an App of their own, the command line. */
import assert from "node:assert/strict";
import { before, it } from "node:test";
import { callApi, listDeployments, openJourney, settled, visit, deploymentOf, type GitJourney } from "../git/journey.ts";
import { Scene } from "../git/scene.ts";
import { eventually } from "../server.ts";

let journey: GitJourney;
before(async () => {
  journey = await openJourney({ MAYFLY_BUILDS_MAX: "1" });
});

it("builds only the newest of 50 pushes to one branch", { timeout: 240_000 }, async () => {
  const { mayfly, github } = journey;
  const scene = await Scene.open(mayfly, github, "busy");
  const build = (page: number) => ({
    "package.json": JSON.stringify({ scripts: { build: `sleep 1; mkdir -p public; echo ${page} > public/index.html` } }),
  });
  let sha = "";
  const begin = Date.now();
  for (let i = 1; i <= 50; i++) {
    sha = await scene.push("main", build(i), `Push ${i}`);
    const wait = begin + i * 200 - Date.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
  }
  await scene.ready(sha);
  assert.equal((await scene.visitProduction()).text.trim(), "50");
  const deployments = await listDeployments(mayfly, scene.project);
  const built = deployments.filter(({ state }) => state === "READY");
  assert.ok(built.length < 30, `${built.length} of 50 were built`);
  assert.ok(deployments.every(({ state }) => state === "READY" || state === "CANCELED"));
  assert.equal((await settled(mayfly, scene.project)).length, 50);
});

it("builds of a monorepo the projects that a push concerns", async () => {
  const { mayfly, github } = journey;
  const web = await Scene.open(mayfly, github, "mono", { settings: { rootDirectory: "apps/web" } });
  await callApi(mayfly, "POST", "/v9/projects", { name: "mono-docs", rootDirectory: "apps/docs" });
  const connected = await callApi(mayfly, "POST", "/v1/mayfly/git/projects/mono-docs", {
    repository: github.addressOf(web.path),
    token: github.token,
  });
  assert.equal(connected.status, 201, JSON.stringify(connected.body));
  const manifest = (name: string, needs: Record<string, string> = {}) => JSON.stringify({ name, dependencies: needs });
  const first = await web.push("main", {
    "package.json": JSON.stringify({ workspaces: ["apps/*", "packages/*"] }),
    "apps/web/index.html": "web 1",
    "apps/web/package.json": manifest("web", { "@acme/ui": "*" }),
    "apps/docs/index.html": "docs 1",
    "packages/ui/package.json": manifest("@acme/ui", { "@acme/base": "*" }),
    "packages/base/package.json": manifest("@acme/base"),
  });
  await web.ready(first);
  await deploymentOf(mayfly, "mono-docs", first);
  const counts = async () => {
    await settled(mayfly, web.project);
    await settled(mayfly, "mono-docs");
    return [(await listDeployments(mayfly, web.project)).length, (await listDeployments(mayfly, "mono-docs")).length];
  };
  assert.deepEqual(await counts(), [1, 1]);
  const docs = await web.push("main", { "apps/docs/index.html": "docs 2" });
  assert.deepEqual(await counts(), [1, 2], "only docs");
  await eventually("the status says why", () => (web.statuses(docs).at(-1)?.description.includes("apps/web") === true ? true : null));
  await web.push("main", { "packages/base/index.js": "1" });
  assert.deepEqual(await counts(), [2, 2], "web needs ui, and ui base");
  await web.push("main", { "package-lock.json": "{}" });
  assert.deepEqual(await counts(), [3, 3], "all projects are built with it");
  await web.push("main", { "README.md": "words" });
  assert.deepEqual(await counts(), [3, 3]);
  const [last] = await settled(mayfly, web.project);
  const again = await callApi(mayfly, "POST", `/v1/mayfly/git/projects/${web.project}/deliveries/${last!.id}/redeliver`);
  assert.equal(again.status, 200, JSON.stringify(again.body));
  assert.deepEqual(await counts(), [4, 3], "what a person asks for is not skipped");

  const branch = await web.push("both", { "apps/web/index.html": "web 2", "apps/docs/index.html": "docs 3" });
  await web.pull(4, "opened", "both", branch);
  const text = await web.commented(4, /mono-docs.*Ready/s);
  assert.match(text, new RegExp(`\\*\\*${web.project}\\*\\*`), "one comment has a row for each project");
});

it("makes a GitHub App by one click, and deploys by it", async () => {
  const { mayfly, github } = journey;
  const asked = await mayfly.run("git", "app", "--organization", "acme");
  assert.equal(asked.code, 0, asked.stderr);
  const page = await mayfly.fetch(asked.stdout.trim());
  assert.equal(page.status, 200);
  assert.match(String(page.headers["content-type"]), /html/);
  const form = /action="([^"]+)".*name="manifest" value="([^"]+)"/s.exec(page.text);
  const unescape = (text: string) => text.replaceAll(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code)));
  const target = new URL(unescape(form![1]!));
  assert.equal(target.href.startsWith(`${github.url}/organizations/acme/settings/apps/new?state=`), true, target.href);
  const manifest = JSON.parse(unescape(form![2]!)) as { hook_attributes: { url: string }; redirect_url: string; default_events: string[] };
  assert.deepEqual(manifest.default_events, ["push", "pull_request", "issue_comment"]);
  const state = target.searchParams.get("state")!;

  assert.equal((await mayfly.fetch(`${manifest.redirect_url}?code=good-code&state=${"0".repeat(48)}`)).status, 404);
  const done = await mayfly.fetch(`${manifest.redirect_url}?code=good-code&state=${state}`);
  assert.equal(done.status, 200, done.text);
  assert.match(done.text, /apps\/mayfly-test\/installations\/new/);
  assert.equal((await mayfly.fetch(`${manifest.redirect_url}?code=good-code&state=${state}`)).status, 404, "it is used once");

  const repository = github.repository("acme/app", { private: true });
  await callApi(mayfly, "POST", "/v9/projects", { name: "by-app" });
  const connected = await mayfly.run(
    "git",
    "connect",
    github.addressOf("acme/app"),
    "--project",
    "by-app",
    "--app",
    "mayfly-test",
    "--json",
  );
  assert.equal(connected.code, 0, connected.stderr);
  const sha = repository.commit("main", { "index.html": "by an App" });
  repository.push("main");
  const hooks = [{ url: manifest.hook_attributes.url, secret: github.appSecret }];
  assert.deepEqual(
    (await github.push("acme/app", "main", sha, { hooks })).map(({ status }) => status),
    [202],
  );
  await deploymentOf(mayfly, "by-app", sha);
  assert.equal((await visit(mayfly, "by-app.localhost")).text, "by an App");
  const forged = await github.push("acme/app", "main", sha, { hooks: [{ ...hooks[0]!, secret: "guessed" }] });
  assert.equal(forged[0]?.status, 401);
});

it("is connected, looked at and disconnected by the command line", async () => {
  const { mayfly, gitlab } = journey;
  const repository = gitlab.repository("group/sub/site");
  await callApi(mayfly, "POST", "/v9/projects", { name: "by-hand" });
  const connected = await mayfly.pipe(`${gitlab.token}\n`, "git", "connect", gitlab.addressOf("group/sub/site"), "--project", "by-hand");
  assert.equal(connected.code, 0, connected.stderr);
  const twice = await callApi(mayfly, "POST", "/v1/mayfly/git/projects/by-hand", {
    repository: gitlab.addressOf("group/sub/site"),
    token: gitlab.token,
  });
  assert.equal(twice.status, 409);
  const sha = repository.commit("main", { "index.html": "site" });
  repository.push("main");
  await gitlab.push("group/sub/site", "main", sha);
  await deploymentOf(mayfly, "by-hand", sha);
  const status = await mayfly.run("git", "status", "--project", "by-hand");
  assert.equal(status.code, 0, status.stderr);
  assert.match(
    status.stdout,
    new RegExp(
      `group/sub/site \\(production: main\\)[\\s\\S]*${sha.slice(0, 7)}\\s+main\\s+READY\\s+http://by-hand-[\\s\\S]*gitd_\\w+\\s+Push Hook\\s+DONE`,
    ),
  );
  const gone = await mayfly.run("git", "disconnect", "--project", "by-hand");
  assert.equal(gone.code, 0, gone.stderr);
  assert.equal(gitlab.hooks.has("group/sub/site"), false);
  assert.equal((await visit(mayfly, "by-hand.localhost")).text, "site");
  assert.match((await mayfly.run("git", "status", "--project", "by-hand")).stderr, /not_found/);

  const again = { repository: gitlab.addressOf("group/sub/site"), token: gitlab.token };
  assert.equal((await callApi(mayfly, "POST", "/v1/mayfly/git/projects/by-hand", again)).status, 201);
  assert.equal(gitlab.hooks.has("group/sub/site"), true);
  assert.equal((await callApi(mayfly, "DELETE", "/v9/projects/by-hand")).status, 204);
  assert.equal(gitlab.hooks.has("group/sub/site"), false, "a project that goes takes its webhook along");
});
