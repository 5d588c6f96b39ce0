/** From a push to a site and back to the host's page: real git, a real Git server, fake APIs that check every call. */
import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { connectProject, deploymentOf, openJourney, visit, type GitJourney } from "../git/journey.ts";
import { eventually } from "../server.ts";

let journey: GitJourney;
before(async () => {
  journey = await openJourney();
});
after(() => {
  assert.deepEqual(journey.github.wrong, []);
  assert.deepEqual(journey.gitlab.wrong, []);
});

it("a push becomes a preview, a merge production, a revert the old page", async () => {
  const { mayfly, github } = journey;
  const repository = github.repository("ann/shop");
  await connectProject(mayfly, github, "ann/shop", "shop");
  const first = repository.commit("main", { "index.html": "one" });
  repository.push("main");
  const [answer] = await github.push("ann/shop", "main", first);
  assert.equal(answer?.status, 202, answer?.text);
  await deploymentOf(mayfly, "shop", first);
  assert.equal((await visit(mayfly, "shop.localhost")).text, "one");

  const second = repository.commit("feature/two", { "index.html": "two" });
  repository.push("feature/two");
  await github.push("ann/shop", "feature/two", second);
  const preview = await deploymentOf(mayfly, "shop", second);
  assert.equal(preview.target, null);
  assert.equal((await visit(mayfly, preview.url)).text, "two");
  assert.equal((await visit(mayfly, "shop-git-feature-two.localhost")).text, "two");
  assert.equal((await visit(mayfly, "shop.localhost")).text, "one");
  const status = await eventually("GitHub is told", () => github.statuses.get(second)?.find(({ state }) => state === "success") ?? null);
  assert.match(status.target_url, new RegExp(preview.url));
});
