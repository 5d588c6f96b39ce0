/** The GitLab driver, against a GitLab that signs its webhooks and one that is too old to. */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { it } from "node:test";
import { FakeGitlab } from "../../test/git/fake-gitlab.ts";
import { conformanceNow, conformanceSha, gitHostConformance, type Rig } from "./git-host.conformance.ts";
import { createGitlab } from "./gitlab.ts";
import { gitlabSigningToken, gitlabToken } from "./gitlab-secret.ts";
import { createHostFetch } from "./host-fetch.ts";

const fetch = createHostFetch({ deadlineMs: 10_000, answerBytesMax: 1_000_000 });
const open = () => createGitlab({ fetch, now: () => conformanceNow });

const rig = (signs: boolean) => async (): Promise<Rig> => {
  const fake = await FakeGitlab.open();
  fake.members.add("7");
  return {
    host: open(),
    fake,
    member: "7",
    sign: (secret, id, now) => sign(fake.idOf("ann/shop"), secret, id, now, signs),
    states: (sha) => (fake.statuses.get(sha) ?? []).map(({ state }) => state),
    comments: (number) => fake.notes.get(number) ?? [],
  };
};

function sign(repositoryId: string, secret: string, id: string, now: number, signs: boolean) {
  const body = Buffer.from(
    JSON.stringify({ ref: "refs/heads/main", after: conformanceSha, user_username: "ann", project: { id: Number(repositoryId) } }),
  );
  const headers: Record<string, string> = { "x-gitlab-event": "Push Hook", "idempotency-key": id, "x-gitlab-token": gitlabToken(secret) };
  if (!signs) return { body, headers };
  const timestamp = String(now / 1000);
  const key = Buffer.from(gitlabSigningToken(secret).slice("whsec_".length), "base64");
  const signature = `v1,${createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64")}`;
  return { body, headers: { ...headers, "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature } };
}

gitHostConformance("gitlab that signs", rig(true));
gitHostConformance("gitlab with a token alone", rig(false));

it("takes no signature that is too old, nor one for another id or body", () => {
  const webhook = sign("1", "secret", "id", conformanceNow, true);
  const host = open();
  assert.ok(host.verify(webhook, "secret", conformanceNow + 299_000));
  assert.equal(host.verify(webhook, "secret", conformanceNow + 301_000), null, "replayed later");
  assert.equal(host.verify({ ...webhook, headers: { ...webhook.headers, "webhook-id": "other" } }, "secret", conformanceNow), null);
  assert.equal(host.verify({ ...webhook, body: Buffer.from("{}") }, "secret", conformanceNow), null);
});

it("does not send the key of its signatures in the clear", () => {
  assert.match(gitlabSigningToken("s"), /^whsec_[A-Za-z0-9+/]{43}=$/);
  assert.ok(!gitlabSigningToken("s").includes(gitlabToken("s")));
});
