/** What goes and what stays: retention, collection of files, rotation of keys, backups. With real store and blobs. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync, chmodSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { ManualClock } from "../../test/manual-clock.ts";
import { scratchDirectory } from "../../test/scratch.ts";
import { restoreBackup, writeBackup } from "../backup.ts";
import { openDiskBlobs } from "../blobs/disk.ts";
import type { Manifest } from "../model.ts";
import { setAlias } from "../store/aliases.ts";
import { findDeploymentById } from "../store/deployments.ts";
import { addVariable, listVariables } from "../store/variables.ts";
import { envPlace, openSeal, variablePlace } from "../store/seal.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import { findUploads, recordUpload } from "../store/uploads.ts";
import { openVariable } from "./environment.ts";
import type { DeployContext } from "./deploy.ts";
import { collectGarbage } from "./garbage.ts";
import { retire } from "./retention.ts";
import { finishRotation, rotateSecrets } from "./rotation.ts";
import { openData } from "./testbed.ts";

const dayMs = 86_400_000;

it("collects what nothing refers to, after the grace age, and nothing that is used or on its way", async () => {
  const data = await openData();
  const { store, blobs, teamId } = data;
  const clock = new ManualClock(Date.now());
  const parts = { ...data, clock };
  const put = async (text: string) => (await blobs.put(text)).digest;
  const file = await put("a static file");
  const inBundle = await put("a Function's file");
  const source = await put("a source file");
  const inShared = await put("a file of a directory that Functions share");
  const shared = await put(JSON.stringify({ "x.js": { digest: inShared, size: 1, mode: 0o100644 } }));
  const bundle = await put(
    JSON.stringify({
      "index.js": { digest: inBundle, size: 1, mode: 0o100644 },
      lib: { treeDigest: shared, size: 1, mode: 0o040000 },
    }),
  );
  const tree = await put(JSON.stringify({ "a.txt": { digest: source, size: 1, mode: 0o100644 } }));
  const functions = { f: { bundleDigest: bundle } } as unknown as Manifest["functions"];
  const outputs: Manifest["outputs"] = { "a.txt": { kind: "static", file: { digest: file, size: 1, mode: 0o100644 } } };
  await data.deployment("site", { manifest: { outputs, functions }, more: { sourceDigest: tree } });
  const used = [file, inBundle, inShared, shared, source, bundle, tree];
  const upload = await blobs.put("uploaded long ago, never deployed");
  await recordUpload(store, teamId, upload, clock.now());
  const garbage = await put("garbage");

  assert.equal((await collectGarbage(parts, { dryRun: true })).deleted, 0);
  const first = await collectGarbage(parts, { dryRun: false });
  assert.deepEqual([first.deleted, first.waiting], [0, 2], "they wait"); // the other is the source that the testbed writes
  clock.advance(dayMs + 1);
  // Stored, announced and found meanwhile: each of them stays.
  const again = await blobs.put("announced again");
  await recordUpload(store, teamId, again, clock.now() - 2 * dayMs);
  const dry = await collectGarbage(parts, { dryRun: true });
  assert.deepEqual([dry.deleted, dry.bytes], [2, "garbage{}".length]);
  assert.equal(await blobs.read(garbage).then(String), "garbage", "a dry run deletes nothing");
  assert.equal(await blobs.has(garbage), true);
  const second = await collectGarbage(parts, { dryRun: false });
  assert.equal(second.deleted, 1, "not what was asked for a moment ago");
  assert.equal((await findUploads(store, teamId, [again.sha1], clock.now())).size, 1);

  await new Promise((resolve) => setTimeout(resolve, 60));
  clock.advance(dayMs / 2);
  const third = await collectGarbage(parts, { dryRun: false });
  assert.equal(await blobs.has(garbage), false);
  assert.ok(third.deleted >= 1);
  for (const digest of [...used, again.digest]) assert.equal(await blobs.has(digest), true, digest);
  clock.advance(3 * dayMs);
  await collectGarbage(parts, { dryRun: false });
  await new Promise((resolve) => setTimeout(resolve, 60));
  clock.advance(2 * dayMs);
  await collectGarbage(parts, { dryRun: false });
  assert.equal(await blobs.has(upload.digest), false, "an upload that was never used");
  assert.equal((await findUploads(store, teamId, [upload.sha1], clock.now())).size, 0, "the client is told to send it again");
});

it("deletes nothing when a document cannot be read", async () => {
  const data = await openData();
  const { sourceDigest } = await data.deployment("site", { more: { sourceDigest: "a".repeat(64) } });
  await assert.rejects(collectGarbage({ ...data, clock: new ManualClock() }, { dryRun: false }), new RegExp(sourceDigest));
});

it("deletes by age and by what became of a deployment, never what an alias points to, nor the newest of production", async () => {
  const data = await openData();
  const clock = new ManualClock(1000 * dayMs);
  const rule = { keepProduction: 2, productionDays: 300, previewDays: 100, errorDays: 50, canceledDays: 10 };
  const made = new Map<string, string>();
  const age = (days: number) => clock.now() - days * dayMs;
  for (const [name, days, target, state] of [
    ["production of long ago", 900, "production", "READY"],
    ["production of last year, aliased", 800, "production", "READY"],
    ["the second newest of production", 700, "production", "READY"],
    ["the newest of production", 600, "production", "READY"],
    ["a failure of production", 51, "production", "ERROR"],
    ["a young failure", 49, "preview", "ERROR"],
    ["canceled", 11, "preview", "CANCELED"],
    ["canceled just now", 9, "preview", "CANCELED"],
    ["an old preview", 101, "preview", "READY"],
    ["an old preview, aliased", 102, "preview", "READY"],
    ["a young preview", 99, "preview", "READY"],
    ["old and still queued", 999, "preview", "QUEUED"],
  ] as const) {
    const more = state === "READY" ? {} : { ready: false, more: { state } };
    const deployment = await data.deployment("site", { createdAt: age(days), target, ...more });
    made.set(deployment.id, name);
    if (!name.endsWith("aliased")) continue;
    const alias = { host: `a${days}.localhost`, deploymentId: deployment.id, projectId: deployment.projectId };
    await setAlias(data.store, { teamId: data.teamId, projectId: null }, alias, clock.now());
  }
  const logs = { deleteDeployment: async () => {} };
  const context = { ...data, clock, logs, config: rule } as unknown as DeployContext;
  const expected = ["a failure of production", "an old preview", "canceled", "production of long ago"];
  const names = (ids: readonly string[]) => ids.map((id) => made.get(id)).sort();
  assert.deepEqual(names(await retire(context, { dryRun: true })), expected);
  assert.deepEqual(names(await retire(context, { dryRun: false })), expected);
  assert.deepEqual(await retire(context, { dryRun: false }), []);
});

it("rotates the key: everything opens, old keys go when nobody can write with them, also when it was cut off", async () => {
  const data = await openData();
  const clock = new ManualClock(Date.now());
  const config = { buildTimeoutMs: 1000 };
  const { store, blobs, seal, directory } = data;
  const deployment = await data.deployment("site", { env: { SECRET: "s3cret" } });
  const value = seal.close("hidden", variablePlace(deployment.projectId, "V"));
  const variable = { name: "V", type: "sensitive", targets: ["production"], branch: null, comment: "", value } as const;
  await addVariable(store, deployment.projectId, data.userId, variable, { upsert: false, variablesMax: 10 }, 1);
  const key = join(directory, "secret.key");
  const before = readFileSync(key, "utf8");
  const [gateway, late] = [openSeal(key), openSeal(key)]; // other processes, which have the old key in memory

  seal.addKey(); // cut off here
  assert.equal(readFileSync(key, "utf8").trim().split("\n").length, 2);
  const later = openSeal(key);
  assert.equal(later.open(deployment.request.env["SECRET"]!, envPlace(deployment.id, "SECRET")), "s3cret");
  const parts = { store, blobs, seal: later, clock, config };
  assert.equal((await finishRotation(parts)).resealed, 2);
  // Read and sealed before the rotation, written after it.
  const lateVariable = { ...variable, name: "LATE", value: late.close("hidden too", variablePlace(deployment.projectId, "LATE")) };
  await addVariable(store, deployment.projectId, data.userId, lateVariable, { upsert: false, variablesMax: 10 }, 1);
  clock.advance(3_600_000);
  assert.equal((await finishRotation(parts)).resealed, 1);
  assert.ok(!readFileSync(key, "utf8").includes(before.trim()), "the old key is gone");
  const after = (await findDeploymentById(store, deployment.id))!;
  const manifest = JSON.parse((await blobs.read(after.manifestDigest!)).toString()) as Manifest;
  for (const reader of [later, gateway]) {
    assert.equal(reader.open(manifest.env["SECRET"]!, envPlace(after.id, "SECRET")), "s3cret");
    const variables = await listVariables(store, after.projectId);
    assert.deepEqual(variables.map((each) => openVariable(reader, each)).sort(), ["hidden", "hidden too"]);
  }
  assert.equal((await finishRotation(parts)).resealed, 0);
  assert.equal((await rotateSecrets(parts)).resealed, 3);
});

it("backs up what runs, restores it, and finds damage", async () => {
  const data = await openData();
  const deployment = await data.deployment("site", { env: { SECRET: "s3cret" } });
  const backup = join(scratchDirectory(), "backup");
  const report = await writeBackup(data.directory, backup, 1);
  const laterOn = await data.deployment("site", { createdAt: 2000 });
  const restored = join(scratchDirectory(), "restored");
  assert.deepEqual(await restoreBackup(backup, restored), { ...report, directory: restored });
  const store = await openSqliteStore({ path: join(restored, "mayfly.db") });
  try {
    const found = (await findDeploymentById(store, deployment.id))!;
    assert.equal(await findDeploymentById(store, laterOn.id), null);
    const manifest = await openDiskBlobs({ directory: join(restored, "blobs") }).read(found.manifestDigest!);
    assert.equal((JSON.parse(manifest.toString()) as Manifest).host, deployment.host);
    assert.equal(openSeal(join(restored, "secret.key")).open(found.request.env["SECRET"]!, envPlace(found.id, "SECRET")), "s3cret");
  } finally {
    await store.close();
  }
  await assert.rejects(restoreBackup(backup, restored), { code: "data_directory_unusable" });
  const blob = join(backup, "blobs", deployment.manifestDigest!.slice(0, 2), deployment.manifestDigest!.slice(2));
  chmodSync(blob, 0o600);
  const bytes = readFileSync(blob);
  writeFileSync(blob, "damaged");
  const elsewhere = join(scratchDirectory(), "elsewhere");
  await assert.rejects(restoreBackup(backup, elsewhere), { code: "backup_invalid" });
  writeFileSync(blob, bytes);
  writeFileSync(join(backup, "mayfly.db"), "no database");
  await assert.rejects(restoreBackup(backup, elsewhere), { code: "backup_invalid" });
  await assert.rejects(restoreBackup(scratchDirectory(), elsewhere), { code: "backup_invalid" });
  assert.equal(existsSync(elsewhere), false);
  assert.ok(readdirSync(restored).includes("mayfly.db"));
});
