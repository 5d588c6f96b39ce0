/** What every driver of the Git host seam does: {@link gitHostConformance} registers the tests for one, against its fake. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { MayflyError } from "../errors.ts";
import type { GitAccess, GitHost, RemoteRepository, Report, ReportState, Webhook } from "./git-host.ts";

/** A fake of the driver's host. */
export interface HostUnderTest {
  readonly url: string;
  readonly token: string;
  /** Calls that its host would not have understood. */
  readonly wrong: readonly string[];
  /** When set, the API answers so. */
  failure: { status: number; body?: unknown; headers?: Readonly<Record<string, string>> } | null;
  repository(path: string): unknown;
}

export interface Rig {
  readonly host: GitHost;
  readonly fake: HostUnderTest;
  /** Actor who may push. */
  readonly member: string;
  /** A webhook of a push to `main`, signed with the secret at this time. */
  sign(secret: string, id: string, now: number): Webhook;
  /** States of a commit, in the host's words. */
  states(sha: string): readonly string[];
  comments(number: number): readonly { readonly body: string }[];
}

const now = Date.UTC(2026, 0, 1);
const sha = "a".repeat(40);

export function gitHostConformance(name: string, open: () => Promise<Rig>): void {
  describe(`git host: ${name}`, () => {
    let rig: Rig;
    let access: GitAccess;
    let repository: RemoteRepository;
    before(async () => {
      rig = await open();
      access = { kind: "token", baseUrl: rig.fake.url, token: rig.fake.token };
      rig.fake.repository("ann/shop");
      repository = await rig.host.repository(access, "ann/shop");
    });
    const report = (state: ReportState, more: Partial<Report> = {}): Report => ({
      repository,
      sha,
      branch: "main",
      context: "Mayfly – shop",
      environment: "Preview – shop",
      production: false,
      state,
      description: "Words.",
      url: "http://shop.localhost:3000",
      ...more,
    });
    const fails = async (work: () => Promise<unknown>): Promise<MayflyError> => {
      const error: unknown = await work().then(
        () => assert.fail("it should have failed"),
        (reason: unknown) => reason,
      );
      assert.ok(error instanceof MayflyError, String(error));
      assert.ok(!error.message.includes(rig.fake.token));
      return error;
    };

    it("takes a signature for what it is, and nothing else", () => {
      const { host } = rig;
      const webhook = rig.sign("secret", "id-1", now);
      assert.equal(host.verify(webhook, "secret", now)?.deliveryId, "id-1");
      assert.equal(host.verify(webhook, "other", now), null);
      assert.equal(host.verify({ ...webhook, headers: {} }, "secret", now), null);
      for (const [header, value] of Object.entries(webhook.headers)) {
        if (!/signature|token|timestamp/.test(header)) continue;
        const forged = [undefined, "", `${value}0`, "sha256=", "sha256=zz", "v1,", "v1,AAAA", "ü"];
        for (const other of forged) {
          const headers = { ...webhook.headers, [header]: other };
          // A GitLab that signs sends the token too: without a signature, that is what counts.
          if (header === "webhook-signature" && other === undefined) continue;
          if (header === "x-gitlab-token" && webhook.headers["webhook-signature"] !== undefined) continue;
          assert.equal(host.verify({ ...webhook, headers }, "secret", now), null, `${header}: ${other}`);
        }
      }
    });

    it("reads a push from the bytes that were signed", () => {
      const { body, headers } = rig.sign("secret", "id-2", now);
      const head = rig.host.verify({ body, headers }, "secret", now)!;
      const event = rig.host.parse(head.event, body);
      assert.deepEqual(event, { kind: "push", repositoryId: repository.id, branch: "main", sha, deleted: false, author: "ann" });
      assert.deepEqual(rig.host.parse("something else", body), { kind: "other", repositoryId: repository.id });
      for (const text of ["", "[]", "null", "{", "{}x"]) {
        assert.throws(() => rig.host.parse(head.event, Buffer.from(text)), /webhook/, text);
      }
    });

    it("finds a repository by path and by number", async () => {
      assert.deepEqual(await rig.host.repositoryById(access, repository.id), repository);
      assert.equal(repository.path, "ann/shop");
      assert.equal(repository.defaultBranch, "main");
      assert.equal(
        (await fails(() => rig.host.repository({ ...access, token: "wrong" } as GitAccess, "ann/shop"))).code,
        "git_host_refused",
      );
    });

    it("says every state, and the same one twice", async () => {
      for (const state of ["waiting", "queued", "queued", "building", "ready", "failed", "canceled", "skipped"] as const) {
        await rig.host.postStatus(access, report(state));
      }
      assert.ok(rig.states(sha).length >= 4);
      if (rig.host.can.deployments) {
        const id = await rig.host.postDeployment(access, report("building"), null);
        assert.equal(await rig.host.postDeployment(access, report("ready"), id), id);
      }
    });

    it("keeps one comment, also when its id was forgotten", async () => {
      const marker = "<!-- marker -->";
      const first = await rig.host.postComment(access, repository, 5, { text: `${marker} one`, marker }, null);
      assert.equal(await rig.host.postComment(access, repository, 5, { text: `${marker} two`, marker }, first), first);
      assert.equal(await rig.host.postComment(access, repository, 5, { text: `${marker} three`, marker }, null), first);
      assert.deepEqual(
        rig.comments(5).map(({ body }) => body),
        [`${marker} three`],
      );
    });

    it("makes and removes a webhook, and knows who may push", async () => {
      const id = await rig.host.createWebhook(access, repository, { url: "http://localhost:3000/x", secret: "s" });
      await rig.host.deleteWebhook(access, repository, id);
      assert.equal(await rig.host.mayWrite(access, repository, rig.member), true);
      assert.equal(await rig.host.mayWrite(access, repository, "99"), false);
    });

    it("tells what passes from what does not, and how long the host asks to wait", async () => {
      const post = () => rig.host.postStatus(access, report("ready"));
      const cases = [
        { failure: { status: 422, body: { message: "Validation Failed" } }, code: "git_host_refused", waitMs: undefined },
        { failure: { status: 500, body: {} }, code: "git_host_unavailable", waitMs: null },
        { failure: { status: 503, body: {}, headers: { "retry-after": "7" } }, code: "git_host_unavailable", waitMs: 7000 },
        { failure: { status: 429, body: {}, headers: { "retry-after": "60" } }, code: "git_host_unavailable", waitMs: 60_000 },
      ] as const;
      for (const { failure, code, waitMs } of cases) {
        rig.fake.failure = failure;
        const error = await fails(post);
        assert.deepEqual([error.code, error.details["retryAfterMs"]], [code, waitMs]);
      }
      rig.fake.failure = null;
      const nowhere: GitAccess = { kind: "token", baseUrl: "http://127.0.0.1:9", token: "x" };
      assert.equal((await fails(() => rig.host.repository(nowhere, "ann/shop"))).code, "git_host_unavailable");
    });

    it("makes no call that its host has not published", () => {
      assert.deepEqual(rig.fake.wrong, []);
    });
  });
}

export const conformanceNow = now;
export const conformanceSha = sha;
