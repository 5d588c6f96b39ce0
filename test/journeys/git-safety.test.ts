/** Webhooks that lie, secrets that must not be seen, strangers' code, and an end at the worst moment. */
import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { before, it } from "node:test";
import { request } from "undici";
import { callApi, deliveriesOf, hostsEnv, listDeployments, openJourney, settled, type GitJourney } from "../git/journey.ts";
import { Scene } from "../git/scene.ts";
import { startMayfly } from "../mayfly.ts";
import { eventually } from "../server.ts";

let journey: GitJourney;
before(async () => {
  journey = await openJourney();
});

it("401 for a webhook without a signature, with a wrong one, of another body, and for one that is replayed", async () => {
  const { mayfly, github, gitlab } = journey;
  const scene = await Scene.open(mayfly, github, "signed");
  const sha = scene.repository.commit("main", { "index.html": "one" });
  scene.repository.push("main");
  const payload = { ref: "refs/heads/main", after: sha, deleted: false };
  const [hook] = github.hooks.get(scene.path)!;
  const sign = (body: string, secret: string) => `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
  const body = JSON.stringify({ ...payload, repository: { id: github.idOf(scene.path), full_name: scene.path } });
  for (const signature of [
    null,
    "",
    "sha256=",
    sign(body, "guessed"),
    sign(`${body} `, hook!.secret),
    sign(body, hook!.secret).replace("sha256", "sha1"),
  ]) {
    const [answer] = await github.deliver(scene.path, "push", payload, { signature });
    assert.equal(answer?.status, 401, String(signature));
    assert.match(answer.text, /invalid_signature/);
  }
  assert.deepEqual(await deliveriesOf(mayfly, scene.project), []);

  const id = randomUUID();
  assert.equal((await github.deliver(scene.path, "push", payload, { id }))[0]?.status, 202);
  const replay = await github.deliver(scene.path, "push", payload);
  assert.equal(replay[0]?.status, 401, "the same signed bytes under another id");
  const again = await github.deliver(scene.path, "push", payload, { id });
  assert.match(again[0]!.text, /known/, "the host may send one again");
  await scene.ready(sha);
  assert.equal((await listDeployments(mayfly, scene.project)).length, 1);

  const other = await Scene.open(mayfly, gitlab, "signed");
  const old = await gitlab.deliver(other.path, "Push Hook", payload, { at: Date.now() - 600_000 });
  assert.equal(old[0]?.status, 401, "a signature of ten minutes ago");
  gitlab.signs = false;
  try {
    assert.equal((await gitlab.deliver(other.path, "Push Hook", payload))[0]?.status, 202, "a GitLab that cannot sign");
  } finally {
    gitlab.signs = true;
  }
  const nobody = await mayfly.fetch(`http://localhost:${mayfly.port}/mayfly/git/webhooks/git_none`, { method: "POST", body: "{}" });
  assert.equal(nobody.status, 404);
  // Over a connection of its own: it is closed with the answer.
  const target = new URL(hook!.url);
  const large = { method: "POST", body: Buffer.alloc(26 * 1024 * 1024), headers: { host: target.host }, reset: true } as const;
  const refused = await request(`${mayfly.api}${target.pathname}`, large);
  assert.equal(refused.statusCode, 413);
  await refused.body.dump();
});

it("asks a repository by its record alone, whatever the webhook says of addresses", async () => {
  const { mayfly, github } = journey;
  const scene = await Scene.open(mayfly, github, "ssrf");
  const sha = scene.repository.commit("main", { "index.html": "mine" });
  scene.repository.push("main");
  const evil = { clone_url: "file:///etc", ssh_url: "ext::sh -c id", git_url: "http://169.254.169.254/" };
  await github.deliver(scene.path, "push", { ref: "refs/heads/main", after: sha, deleted: false, ...evil });
  await scene.ready(sha);
  for (const branch of ["--upload-pack=touch /tmp/x", "a b", "../../x", "$(id)", "a..b"]) {
    await github.push(scene.path, branch, sha);
    const [last] = await settled(mayfly, scene.project);
    assert.match(String(last?.result), /not the name of a branch|is gone/, branch);
  }
  for (const repository of ["file:///etc/passwd", "http://169.254.169.254/a/b", "ext::sh -c id", "--x", `${github.url}/../etc`]) {
    await callApi(mayfly, "POST", "/v9/projects", { name: "refused" });
    const { status, body } = await callApi(mayfly, "POST", "/v1/mayfly/git/projects/refused", { repository, token: "x" });
    assert.equal(status, 400, JSON.stringify(body));
    assert.match(JSON.stringify(body), /git_refused/);
  }
});

it("gives a private repository's token to the host alone: it is in no file, no answer, no log and no site", async () => {
  const { mayfly, github } = journey;
  const scene = await Scene.open(mayfly, github, "private", { private: true });
  const sha = await scene.push("main", { "index.html": "private" });
  await scene.ready(sha);
  assert.equal((await scene.visitProduction()).text, "private");
  assert.equal((await scene.visit(`${scene.project}.localhost`, "/.git/config")).status, 404);
  const { body } = await callApi(mayfly, "GET", `/v1/mayfly/git/projects/${scene.project}`);
  assert.ok(!JSON.stringify(body).includes(github.token));
  assert.ok(!mayfly.output.includes(github.token));
  const files = ["git", "blobs", "builds"].flatMap((name) =>
    readdirSync(join(mayfly.data, name), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name)),
  );
  const databases = readdirSync(mayfly.data)
    .filter((name) => /\.db/.test(name))
    .map((name) => join(mayfly.data, name));
  assert.ok(files.length > 5 && databases.length > 2);
  const leaks = [...files, ...databases].filter((path) => readFileSync(path).includes(github.token));
  assert.deepEqual(leaks, []);
});

it("builds a fork without the project's secrets and shows the commit to builds and Functions", { timeout: 240_000 }, async () => {
  const { mayfly, github } = journey;
  const scene = await Scene.open(mayfly, github, "secrets");
  for (const target of ["production", "preview"]) {
    const variable = { key: "API_KEY", value: "very-secret", type: "encrypted", target: [target] };
    const { status, body } = await callApi(mayfly, "POST", `/v10/projects/${scene.project}/env`, variable);
    assert.ok(status < 300, JSON.stringify(body));
  }
  const files = {
    "api/env.js": "module.exports = (req, res) => res.json(process.env)",
    "package.json": JSON.stringify({ scripts: { build: "mkdir -p public && env | sort > public/env.txt" } }),
  };
  const sha = await scene.push("topic", files, "Show the environment");
  const own = await scene.ready(sha);
  const env = JSON.parse((await scene.visit(own.url, "/api/env")).text) as Record<string, string>;
  assert.equal(env["API_KEY"], "very-secret");
  const expected = {
    VERCEL_GIT_PROVIDER: "github",
    VERCEL_GIT_REPO_OWNER: "ann",
    VERCEL_GIT_REPO_SLUG: "secrets",
    VERCEL_GIT_COMMIT_REF: "topic",
    VERCEL_GIT_COMMIT_SHA: sha,
    VERCEL_GIT_COMMIT_MESSAGE: "Show the environment",
    VERCEL_GIT_COMMIT_AUTHOR_NAME: "Ann",
    VERCEL_GIT_COMMIT_AUTHOR_LOGIN: "ann",
    VERCEL_GIT_PULL_REQUEST_ID: "",
    VERCEL_BRANCH_URL: `${scene.project}-git-topic.localhost`,
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(env[name], value, name);
  const built = (await scene.visit(own.url, "/env.txt")).text;
  assert.ok(built.includes(`VERCEL_GIT_COMMIT_SHA=${sha}`), built);

  const stranger = scene.repository.commit("fork", { ...files, "x.txt": "x" });
  await scene.pull(9, "opened", "fork", stranger, true);
  await scene.told(stranger, "pending");
  const { code, stdout, stderr } = await mayfly.run("git", "approve", "9", "--project", scene.project);
  assert.equal(code, 0, stderr);
  assert.equal(stdout.trim(), stranger);
  const fork = await scene.ready(stranger);
  const forkEnv = (await scene.visit(fork.url, "/api/env")).text;
  assert.ok(!forkEnv.includes("very-secret"));
  assert.ok(forkEnv.includes(stranger));
  assert.ok(!(await scene.visit(fork.url, "/env.txt")).text.includes("very-secret"));
  const refused = await mayfly.run("git", "approve", "9", "--project", scene.project);
  assert.match(refused.stderr, /conflict/, "nothing waits any more");
});

it("deploys what was acknowledged before a kill -9, and posts what was not posted", { timeout: 240_000 }, async () => {
  const { github, gitlab } = journey;
  let mayfly = await startMayfly({ env: hostsEnv(github, gitlab) });
  const scene = await Scene.open(mayfly, github, "killed");
  const sha = scene.repository.commit("main", { "index.html": "survived" });
  scene.repository.push("main");
  // The repository does not answer while the webhook comes, and the API not while the platform ends.
  github.onGit = (_request, response) => {
    response.writeHead(503).end();
    return true;
  };
  github.failure = { status: 503, body: {} };
  try {
    assert.deepEqual(await scene.pushed("main", sha), [202]);
    await eventually("it was tried", async () => ((await deliveriesOf(mayfly, scene.project))[0]?.result === null ? null : true));
    await mayfly.kill();
  } finally {
    github.onGit = () => false;
    github.failure = null;
  }
  mayfly = await startMayfly({ home: mayfly.home, env: hostsEnv(github, gitlab) });
  await eventually("it is served", async () => {
    const { text } = await mayfly.fetch(`http://${scene.project}.localhost:${mayfly.port}/`);
    return text === "survived" ? true : null;
  });
  await scene.told(sha, "success");
  assert.equal((await listDeployments(mayfly, scene.project)).length, 1);
});
