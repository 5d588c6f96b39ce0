/** The GitHub driver against a GitHub that checks each call by its published OpenAPI description. */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { it } from "node:test";
import { FakeGithub } from "../../test/git/fake-github.ts";
import { MayflyError } from "../errors.ts";
import { conformanceNow, conformanceSha, gitHostConformance } from "./git-host.conformance.ts";
import type { GitAccess } from "./git-host.ts";
import { createGithub } from "./github.ts";
import { createHostFetch } from "./host-fetch.ts";

const fetch = createHostFetch({ deadlineMs: 10_000, answerBytesMax: 1_000_000 });
const open = () => createGithub({ fetch, now: () => conformanceNow });

gitHostConformance("github", async () => {
  const fake = await FakeGithub.open();
  fake.members.add("mia");
  return {
    host: open(),
    fake,
    member: "mia",
    sign(secret, id) {
      const payload = {
        ref: "refs/heads/main",
        after: conformanceSha,
        deleted: false,
        head_commit: { author: { username: "ann" } },
        repository: { id: fake.idOf("ann/shop") },
      };
      const body = Buffer.from(JSON.stringify(payload));
      const signature = `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
      return { body, headers: { "x-github-event": "push", "x-github-delivery": id, "x-hub-signature-256": signature } };
    },
    states: (sha) => (fake.statuses.get(sha) ?? []).map(({ state }) => state),
    comments: (number) => fake.comments.get(number) ?? [],
  };
});

it("waits until the renewal of a limit that is used up, also where GitHub calls it forbidden", async () => {
  const fake = await FakeGithub.open();
  fake.repository("ann/shop");
  const access: GitAccess = { kind: "token", baseUrl: fake.url, token: fake.token };
  const reset = String(conformanceNow / 1000 + 90);
  fake.failure = {
    status: 403,
    body: { message: "API rate limit exceeded" },
    headers: { "x-ratelimit-remaining": "0", "x-ratelimit-reset": reset },
  };
  await assert.rejects(
    open().repository(access, "ann/shop"),
    (error) => error instanceof MayflyError && error.code === "git_host_unavailable" && error.details["retryAfterMs"] === 90_000,
  );
  fake.failure = { status: 403, body: { message: "Resource not accessible" } };
  await assert.rejects(open().repository(access, "ann/shop"), (error) => error instanceof MayflyError && error.code === "git_host_refused");
});

it("reaches a repository as an App by a token that it asks for once", async () => {
  const fake = await FakeGithub.open();
  fake.repository("ann/shop");
  const privateKey = fake.appKeys.privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  const access: GitAccess = { kind: "app", baseUrl: fake.url, appId: "4711", privateKey, installationId: "77" };
  const host = open();
  await host.repository(access, "ann/shop");
  assert.deepEqual(await host.cloneCredentials(access), { username: "x-access-token", password: fake.installationToken });
  assert.equal(fake.called("POST", /access_tokens$/).length, 1);
  assert.deepEqual(fake.wrong, []);
});
