/** What the store must do for Git hosts, whatever the database: {@link gitStoreConformance} registers the tests for one driver. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { noSettings, type GitConnection } from "../model.ts";
import { deleteProject } from "./deployments.ts";
import * as connections from "./git-connections.ts";
import * as deliveries from "./git-deliveries.ts";
import * as reports from "./git-reports.ts";
import { ensureProject } from "./projects.ts";
import type { Store } from "./store.ts";
import { ensureFirstIdentity } from "./teams.ts";

export function gitStoreConformance(name: string, fresh: () => { open: () => Promise<Store> }): void {
  const withConnection = (test: (store: Store, connection: GitConnection) => Promise<void>) => async () => {
    const store = await fresh().open();
    try {
      const { team, user } = await ensureFirstIdentity(store, "ann");
      const { project } = await ensureProject(store, team.id, "shop", noSettings, 1);
      const connection: GitConnection = {
        id: "git_1",
        teamId: team.id,
        projectId: project.id,
        creatorId: user.id,
        provider: "github",
        baseUrl: "https://github.com",
        repository: "ann/shop",
        repositoryId: "7",
        productionBranch: "main",
        appId: null,
        installationId: null,
        webhookId: null,
        createdAt: 1,
      };
      const secrets = { token: "sealed token", webhookSecret: "sealed secret" };
      assert.equal(await connections.insertGitConnection(store, connection, secrets), true);
      assert.equal(await connections.insertGitConnection(store, { ...connection, id: "git_2" }, secrets), false, "one a project");
      await test(store, connection);
    } finally {
      await store.close();
    }
  };
  const delivery = (i: number, subject = "branch/main", body = `body ${i}`): deliveries.ReceivedDelivery => ({
    id: `gitd_${i}`,
    connectionId: "git_1",
    hostDeliveryId: `host-${i}`,
    bodyDigest: body,
    event: "push",
    detail: "{}",
    subject,
    receivedAt: i,
  });
  const rules = { unique: true, pendingMax: 3 };

  describe(`store of Git hosts: ${name}`, () => {
    it(
      "keeps a connection with its secrets apart, and lets it go with its project",
      withConnection(async (store, connection) => {
        assert.deepEqual(await connections.findGitConnection(store, "git_1"), connection);
        assert.deepEqual(await connections.findGitSecrets(store, "git_1"), { token: "sealed token", webhookSecret: "sealed secret" });
        await connections.updateGitConnection(store, "git_1", { webhookId: "9", repository: "ann/store" });
        const [listed] = await connections.listRepositoryConnections(store, connection);
        assert.deepEqual([listed?.webhookId, listed?.repository], ["9", "ann/store"]);
        await deliveries.receiveDeliveries(store, [delivery(1)], rules);
        await deleteProject(store, connection.projectId);
        assert.equal(await connections.findGitConnection(store, "git_1"), null);
        assert.deepEqual(await deliveries.listDeliveries(store, "git_1", 10), []);
      }),
    );

    it(
      "receives a delivery once, refuses a replay, and no more than may wait",
      withConnection(async (store) => {
        assert.equal(await deliveries.receiveDeliveries(store, [delivery(1)], rules), "received");
        assert.equal(await deliveries.receiveDeliveries(store, [delivery(1)], rules), "known");
        assert.equal(await deliveries.receiveDeliveries(store, [delivery(2, "branch/main", "body 1")], rules), "replayed");
        assert.equal(
          await deliveries.receiveDeliveries(store, [delivery(2, "branch/main", "body 1")], { ...rules, unique: false }),
          "received",
        );
        assert.equal(await deliveries.receiveDeliveries(store, [delivery(3)], rules), "received");
        assert.equal(await deliveries.receiveDeliveries(store, [delivery(4)], rules), "full");
        assert.equal((await deliveries.listDeliveries(store, "git_1", 10)).length, 3);
      }),
    );

    it(
      "acts on the newest of a subject, puts off, finishes, and does again what a person asks for",
      withConnection(async (store) => {
        for (const i of [1, 2]) await deliveries.receiveDeliveries(store, [delivery(i)], rules);
        await deliveries.receiveDeliveries(store, [delivery(3, "branch/other")], rules);
        const due = await deliveries.listDueDeliveries(store, 10, 10);
        assert.deepEqual(
          due.map(({ id }) => id),
          ["gitd_1", "gitd_2", "gitd_3"],
        );
        assert.equal(await deliveries.coalesceDeliveries(store, due[0]!, 11), "gitd_2");
        await deliveries.postponeDelivery(store, "gitd_2", "no answer", 50);
        assert.deepEqual(
          (await deliveries.listDueDeliveries(store, 49, 10)).map(({ id }) => id),
          ["gitd_3"],
        );
        await deliveries.finishDelivery(store, "gitd_3", { state: "DONE", result: "deployed", deploymentId: "dpl_1" }, 60);
        assert.equal(await deliveries.nextDeliveryAt(store), 50);
        assert.equal(await deliveries.redeliver(store, "git_1", "gitd_2", 70), false, "it waits already");
        assert.equal(await deliveries.redeliver(store, "git_other", "gitd_3", 70), false);
        assert.equal(await deliveries.redeliver(store, "git_1", "gitd_3", 70), true);
        const again = (await deliveries.listDueDeliveries(store, 70, 10)).find(({ id }) => id === "gitd_3");
        assert.deepEqual([again?.forced, again?.attempts], [true, 0]);
        await deliveries.finishDelivery(store, "gitd_3", { state: "FAILED", result: "no" }, 80);
        await deliveries.deleteDeliveriesBefore(store, 1000);
        assert.deepEqual(
          (await deliveries.listDeliveries(store, "git_1", 10)).map(({ id }) => id),
          ["gitd_2"],
          "what waits stays",
        );
      }),
    );

    it(
      "remembers of a branch what it is told, field by field",
      withConnection(async (store) => {
        await deliveries.updateBranch(store, "git_1", "branch/main", { sha: "a" }, 1);
        await deliveries.updateBranch(store, "git_1", "branch/main", { pullRequest: 5 }, 2);
        assert.deepEqual(await deliveries.findBranch(store, "git_1", "branch/main"), { sha: "a", pullRequest: 5, approvedSha: null });
        await deliveries.updateBranch(store, "git_1", "branch/main", { pullRequest: null, approvedSha: "b" }, 3);
        assert.deepEqual(await deliveries.findBranch(store, "git_1", "branch/main"), { sha: "a", pullRequest: null, approvedSha: "b" });
        await deliveries.deleteBranch(store, "git_1", "branch/main");
        assert.equal((await deliveries.findBranch(store, "git_1", "branch/main")).sha, null);
      }),
    );

    it(
      "lists what a host does not know yet, not before its time",
      withConnection(async (store) => {
        const commit = { connectionId: "git_1", branch: "main", pullRequest: 5, production: true, fork: false, description: null };
        await reports.insertGitReport(store, { ...commit, id: "r1", deploymentId: "dpl_gone", sha: "a", outcome: null, createdAt: 1 });
        await reports.insertGitReport(store, { ...commit, id: "r2", deploymentId: null, sha: "b", outcome: "skipped", createdAt: 2 });
        assert.deepEqual(
          (await reports.listDueReports(store, 10, 10)).map(({ id }) => id),
          ["r1", "r2"],
        );
        await reports.markReported(store, "r2", "skipped");
        await reports.postponeReport(store, "r1", "no answer", 50);
        assert.deepEqual(await reports.listDueReports(store, 49, 10), []);
        assert.equal(await reports.nextReportAt(store, 10), 50);
        assert.deepEqual(
          (await reports.listDueReports(store, 50, 10)).map(({ attempts, error }) => [attempts, error]),
          [[1, "no answer"]],
        );
        assert.equal((await reports.newestReportOf(store, "git_1", 5))?.id, "r2");
        await reports.attachPullRequest(store, "git_1", "b", 6);
        assert.deepEqual(
          (await reports.listDueReports(store, 49, 10)).map(({ id }) => id),
          ["r2"],
          "it is said again, with the comment",
        );
        const place = { baseUrl: "https://github.com", repositoryId: "7", pullRequest: 5 };
        await reports.recordComment(store, place, { commentId: "1", textDigest: "x" });
        await reports.recordComment(store, place, { commentId: "1", textDigest: "y" });
        assert.deepEqual(await reports.findComment(store, place), { commentId: "1", textDigest: "y" });
      }),
    );

    it(
      "uses the request for an App up once, and keeps no App that is in use from being used",
      withConnection(async (store, { teamId }) => {
        const request = { stateDigest: "d", teamId, baseUrl: "https://github.com", organization: null, expiresAt: 100 };
        await connections.insertGitAppRequest(store, request, 1);
        assert.deepEqual(await connections.findGitAppRequest(store, "d", 99), request);
        assert.equal(await connections.findGitAppRequest(store, "d", 100), null);
        assert.equal(await connections.takeGitAppRequest(store, "d"), true);
        assert.equal(await connections.takeGitAppRequest(store, "d"), false);
        const app = { id: "gita_1", teamId, baseUrl: "https://github.com", appId: "4", slug: "mayfly", createdAt: 1 };
        await connections.insertGitApp(store, app, { privateKey: "k", webhookSecret: "s" });
        assert.deepEqual(await connections.listGitApps(store, teamId), [app]);
        await store.db.updateTable("git_connections").set({ app_id: "gita_1" }).execute();
        assert.equal((await connections.listAppConnections(store, "gita_1", "7")).length, 1);
        assert.equal(await connections.deleteGitApp(store, "gita_1"), false);
      }),
    );
  });
}
