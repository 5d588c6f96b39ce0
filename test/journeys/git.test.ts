/**
 * From a push to a site and back to the host's page, on both hosts: real git, a real Git server, fake APIs that check every
 * call. What comes of each event is also a row of docs/git.md: `MAYFLY_WRITE_DOCS=1` writes it, this test compares.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { openJourney, settled, type GitJourney } from "../git/journey.ts";
import { gitPage, type EventRow } from "../git/page.ts";
import { git } from "../git/repository.ts";
import { Scene } from "../git/scene.ts";
import { eventually } from "../server.ts";

const success = "success";
const failed = { github: "failure", gitlab: "failed" } as const;

let journey: GitJourney;
let scenes: readonly Scene[];
const rows: EventRow[] = [];

/** A test on both hosts; it says what came of the event. */
function event(title: string, run: (scene: Scene) => Promise<string>): void {
  it(title, async () => {
    await Promise.all(scenes.map((scene) => scene.result())); // what came before is over
    const results = await Promise.all(scenes.map(run));
    const [github, gitlab] = results.map((result) => result.replaceAll(/\b[0-9a-f]{7}\b/g, "…").replaceAll(/-git(?:hub|lab)\b/g, ""));
    rows.push({ event: title, github: github!, gitlab: gitlab! });
  });
}

before(async () => {
  journey = await openJourney();
  const { mayfly, github, gitlab } = journey;
  scenes = await Promise.all([
    Scene.open(mayfly, github, "shop", { private: true }),
    Scene.open(mayfly, gitlab, "shop", { private: true }),
  ]);
});

after(() => {
  assert.deepEqual([...journey.github.wrong, ...journey.gitlab.wrong], [], "every call is one that the host has published");
});

describe("what comes of an event", () => {
  event("push to the production branch", async (scene) => {
    const sha = await scene.push("main", { "index.html": "one" });
    assert.equal((await scene.ready(sha)).target, "production");
    assert.equal((await scene.visitProduction()).text, "one");
    await scene.told(sha, success);
    return scene.result();
  });

  event("push to another branch", async (scene) => {
    const sha = await scene.push("feature/Two", { "index.html": "two" });
    const { url, target } = await scene.ready(sha);
    assert.equal(target, null);
    assert.equal((await scene.visit(url)).text, "two");
    assert.equal((await scene.visitBranch("feature-two")).text, "two");
    assert.equal((await scene.visitProduction()).text, "one");
    const status = await scene.told(sha, success);
    assert.ok(status.target_url.includes(url));
    return scene.result();
  });

  event("pull request opened", async (scene) => {
    const sha = scene.repository.push("feature/Two");
    await scene.pull(1, "opened", "feature/Two", sha);
    const text = await scene.commented(1, /Ready/);
    assert.match(text, new RegExp(`\\*\\*${scene.project}\\*\\*.*Ready.*\\[this commit\\]\\(http.*\\[branch\\]\\(http.*\\d s`));
    return scene.result();
  });

  event("push to a pull request's branch", async (scene) => {
    const sha = await scene.push("feature/Two", { "index.html": "three" });
    const result = await scene.result();
    await scene.pull(1, "pushed", "feature/Two", sha);
    await scene.ready(sha);
    await scene.commented(1, new RegExp(`Ready.*${sha.slice(0, 7)}`));
    assert.equal((await scene.visitBranch("feature-two")).text, "three");
    return result;
  });

  event("merge", async (scene) => {
    await scene.pull(1, "closed", "feature/Two", scene.repository.push("feature/Two"));
    const sha = await scene.push("main", { "index.html": "three" }, "Merge feature/Two");
    await scene.ready(sha);
    assert.equal((await scene.visitProduction()).text, "three");
    return scene.result();
  });

  event("revert", async (scene) => {
    const sha = await scene.push("main", { "index.html": "one" }, 'Revert "Merge feature/Two"');
    await scene.ready(sha);
    assert.equal((await scene.visitProduction()).text, "one");
    return scene.result();
  });

  event("force push to an older commit", async (scene) => {
    await scene.push("forced", { "index.html": "good" });
    await scene.result();
    const bad = await scene.push("forced", { "index.html": "bad" });
    await scene.ready(bad);
    await scene.result();
    git(scene.repository.work, "reset", "--quiet", "--hard", "HEAD~1");
    const back = scene.repository.push("forced");
    await scene.pushed("forced", back);
    await eventually("the older page is back", async () => ((await scene.visitBranch("forced")).text === "good" ? true : null));
    return scene.result();
  });

  event("a webhook sent twice", async (scene) => {
    const sha = scene.repository.commit("twice", { "index.html": "twice" });
    scene.repository.push("twice");
    const id = `00000000-0000-4000-8000-${String(Date.now()).padStart(12, "0")}`;
    assert.deepEqual(await scene.pushed("twice", sha, { id }), [202]);
    await scene.ready(sha);
    const before = await settled(scene.mayfly, scene.project);
    const again = await scene.pushed("twice", sha, { id });
    assert.deepEqual(again, [202]);
    assert.equal((await settled(scene.mayfly, scene.project)).length, before.length, "it is the same delivery");
    return "acknowledged, and nothing is done: its id is known";
  });

  event("an older push's webhook after a newer one's", async (scene) => {
    const older = scene.repository.commit("late", { "index.html": "older" });
    const newer = scene.repository.commit("late", { "index.html": "newer" });
    scene.repository.push("late");
    await scene.pushed("late", newer);
    await scene.ready(newer);
    await scene.pushed("late", older);
    const result = await scene.result();
    assert.equal((await scene.visitBranch("late")).text, "newer");
    assert.equal(scene.statuses(older).length, 0);
    return result;
  });

  event("a commit that says [skip ci]", async (scene) => {
    const sha = await scene.push("skipped", { "index.html": "skipped" }, "Words only [skip ci]");
    const status = await scene.told(sha, success);
    assert.match(status.description, /\[skip ci\]/);
    return scene.result();
  });

  event("a branch that vercel.json turns off", async (scene) => {
    const config = JSON.stringify({ git: { deploymentEnabled: { "qui*": false, "*-please": true } } });
    const shown = await scene.push("quite-please", { "index.html": "shown", "vercel.json": config });
    await scene.ready(shown);
    await scene.push("quiet", { "index.html": "quiet", "vercel.json": config });
    return scene.result();
  });

  event("a branch deleted", async (scene) => {
    const sha = await scene.push("gone", { "index.html": "gone" });
    const { url } = await scene.ready(sha);
    assert.equal((await scene.visitBranch("gone")).status, 200);
    scene.repository.remove("gone");
    await scene.pushed("gone", sha, { deleted: true });
    const result = await scene.result();
    assert.equal((await scene.visitBranch("gone")).status, 404);
    assert.equal((await scene.visit(url)).text, "gone", "its deployment stays until retention says so");
    return result;
  });

  event("a fork's pull request by a stranger", async (scene) => {
    const sha = scene.repository.commit("fork-1", { "index.html": "from a fork" });
    await scene.pull(2, "opened", "fork-1", sha, true);
    await scene.told(sha, "pending");
    await scene.commented(2, /Waits for approval/);
    return scene.result();
  });

  event("a stranger's comment /mayfly deploy", async (scene) => {
    await scene.comment(2, "/mayfly deploy", "stranger");
    return (await scene.result()).replace(/^\S+/, "who wrote it");
  });

  event("a member's comment /mayfly deploy", async (scene) => {
    await scene.comment(2, "Looks good.\n/mayfly deploy", "member");
    const result = await scene.result();
    const sha = git(scene.repository.work, "rev-parse", "fork-1");
    const { url, target } = await scene.ready(sha);
    assert.equal(target, null);
    assert.equal((await scene.visit(url)).text, "from a fork");
    assert.equal((await scene.visitBranch("fork-1")).status, 404, "a fork takes no alias");
    await scene.commented(2, /Ready/);
    return result;
  });

  event("another push by the stranger", async (scene) => {
    const sha = scene.repository.commit("fork-1", { "index.html": "something else" });
    await scene.pull(2, "pushed", "fork-1", sha, true);
    await scene.told(sha, "pending");
    return scene.result();
  });

  event("a fork's pull request by a member", async (scene) => {
    const sha = scene.repository.commit("fork-2", { "index.html": "a member's fork" });
    await scene.pull(3, "opened", "fork-2", sha, true, "member");
    await scene.ready(sha);
    return scene.result();
  });

  event("a push that ignoreCommand is against", async (scene) => {
    const files = { "index.html": "asked", "vercel.json": JSON.stringify({ ignoreCommand: 'test "$VERCEL_GIT_COMMIT_REF" = ignored' }) };
    const ignored = await scene.push("ignored", files);
    const result = await scene.result();
    const { description } = await scene.told(ignored, success);
    await scene.ready(await scene.push("asked", files, "The same on another branch"));
    return `${result.replace("is deployed", "is asked about")}; then: ${description}`;
  });

  event("push after the repository was renamed", async (scene) => {
    scene.rename("ann/store");
    const sha = await scene.push("renamed", { "index.html": "renamed", "vercel.json": null });
    await scene.ready(sha);
    await scene.told(sha, success);
    return scene.result();
  });

  event("a push whose build fails", async (scene) => {
    const sha = await scene.push("broken", { "vercel.json": "{" });
    const status = await scene.told(sha, failed[scene.provider]);
    assert.match(status.description, /vercel\.json/);
    return scene.result();
  });

  event("a push whose commit cannot be deployed", async (scene) => {
    const deep = Array.from({ length: 6 }, (_, i) => String(i).repeat(200)).join("/");
    const sha = await scene.push("refused", { [deep]: "too deep" });
    const { description } = await scene.told(sha, failed[scene.provider]);
    assert.match(description, /File path/);
    return (await scene.result()).replace(/File path .* is/, "A file's path is");
  });

  it("docs/git.md says the same", () => {
    const page = gitPage(rows);
    const path = join(import.meta.dirname, "../../docs/git.md");
    if (process.env["MAYFLY_WRITE_DOCS"] === "1") writeFileSync(path, page);
    assert.equal(page, readFileSync(path, "utf8"), "run this test with MAYFLY_WRITE_DOCS=1");
  });
});
