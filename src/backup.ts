/**
 * Backups of a data directory, made while the platform runs: a snapshot of each database, then every blob by hard link
 * (they never change; a copy where the backup lies on another disk), then the key file. A blob that the snapshot names
 * was there before it, so a backup is whole; it has its name only when all of it is on the disk. It holds the key: whoever
 * has it can read every secret.
 */
import { createHash } from "node:crypto";
import { constants, createReadStream, existsSync } from "node:fs";
import { copyFile, cp, link, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { backup as copyDatabase, DatabaseSync } from "node:sqlite";
import { errnoOf, MayflyError } from "./errors.ts";
import { randomId } from "./names.ts";

const databases = ["mayfly.db", "logs.db", "usage.db"];
const keyFile = "secret.key";
const labelFile = "backup.json";
/** Certificates and the local authority, where TLS is served. */
const tlsDirectory = "tls";

export interface BackupReport {
  readonly directory: string;
  readonly blobs: number;
  /** Of the blobs. */
  readonly bytes: number;
}

/** Writes a backup of `data` to `directory`, which must not exist. Nothing may be cleared away meanwhile (deploy/maintenance.ts). */
export async function writeBackup(data: string, directory: string, now: number): Promise<BackupReport> {
  const temporary = `${directory}.${randomId(8)}`;
  try {
    await mkdir(temporary, { recursive: true, mode: 0o700 });
    for (const name of databases) {
      if (!existsSync(join(data, name))) continue;
      const database = new DatabaseSync(join(data, name), { readOnly: true });
      try {
        await copyDatabase(database, join(temporary, name));
      } finally {
        database.close();
      }
    }
    let blobs = 0;
    let bytes = 0;
    for await (const { prefix, name, path } of blobFiles(join(data, "blobs"))) {
      await mkdir(join(temporary, "blobs", prefix), { recursive: true });
      await linkOrCopy(path, join(temporary, "blobs", prefix, name));
      blobs++;
      bytes += (await stat(path)).size;
    }
    await copyFile(join(data, keyFile), join(temporary, keyFile));
    if (existsSync(join(data, tlsDirectory))) await cp(join(data, tlsDirectory), join(temporary, tlsDirectory), { recursive: true });
    await writeFile(join(temporary, labelFile), `${JSON.stringify({ version: 1, createdAt: now, blobs, bytes })}\n`);
    await syncTree(temporary);
    await rename(temporary, directory);
    await syncOne(dirname(directory));
    return { directory, blobs, bytes };
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}

/**
 * Makes a data directory of a backup; every blob's bytes and the databases' structure are checked on the way.
 * @param data must be absent or empty
 * @throws MayflyError backup_invalid, data_directory_unusable; `data` is then as it was
 */
export async function restoreBackup(directory: string, data: string): Promise<BackupReport> {
  const label = await readLabel(directory);
  if (existsSync(data) && (await readdir(data)).length > 0) {
    throw new MayflyError("data_directory_unusable", `Cannot restore to ${data}: it is not empty.`);
  }
  const temporary = `${data}.${randomId(8)}`;
  try {
    await mkdir(join(temporary, "blobs"), { recursive: true, mode: 0o700 });
    for (const name of databases) {
      if (!existsSync(join(directory, name))) continue;
      await copyFile(join(directory, name), join(temporary, name), constants.COPYFILE_FICLONE);
      checkDatabase(join(temporary, name));
    }
    await copyFile(join(directory, keyFile), join(temporary, keyFile));
    if (existsSync(join(directory, tlsDirectory)))
      await cp(join(directory, tlsDirectory), join(temporary, tlsDirectory), { recursive: true });
    let blobs = 0;
    let bytes = 0;
    for await (const { prefix, name, path } of blobFiles(join(directory, "blobs"))) {
      const hash = createHash("sha256");
      await pipeline(createReadStream(path), hash);
      if (hash.digest("hex") !== prefix + name) throw new MayflyError("backup_invalid", `The file ${path} is damaged.`);
      await mkdir(join(temporary, "blobs", prefix), { recursive: true });
      await copyFile(path, join(temporary, "blobs", prefix, name), constants.COPYFILE_FICLONE);
      blobs++;
      bytes += (await stat(path)).size;
    }
    if (blobs !== label.blobs) throw new MayflyError("backup_invalid", `The backup has ${blobs} files; ${label.blobs} were written.`);
    await rm(data, { recursive: true, force: true });
    await mkdir(dirname(data), { recursive: true });
    await syncTree(temporary);
    await rename(temporary, data);
    await syncOne(dirname(data));
    return { directory: data, blobs, bytes };
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}

async function readLabel(directory: string): Promise<{ readonly blobs: number }> {
  try {
    const label = JSON.parse(await readFile(join(directory, labelFile), "utf8")) as { version: number; blobs: number };
    if (label.version === 1) return label;
  } catch (error) {
    throw new MayflyError("backup_invalid", `There is no backup at ${directory}.`, { cause: error });
  }
  throw new MayflyError("backup_invalid", `The backup at ${directory} is of a newer version.`);
}

function checkDatabase(path: string): void {
  let result: unknown;
  try {
    const database = new DatabaseSync(path);
    try {
      result = database.prepare("pragma integrity_check").get()?.["integrity_check"];
    } finally {
      database.close();
    }
  } catch (error) {
    throw new MayflyError("backup_invalid", `The database ${path} is damaged.`, { cause: error });
  }
  if (result !== "ok") throw new MayflyError("backup_invalid", `The database ${path} is damaged: ${String(result)}`);
}

async function* blobFiles(directory: string): AsyncGenerator<{ prefix: string; name: string; path: string }> {
  if (!existsSync(directory)) return;
  for (const prefix of await readdir(directory)) {
    if (!/^[0-9a-f]{2}$/.test(prefix)) continue;
    for (const name of await readdir(join(directory, prefix))) {
      if (/^[0-9a-f]{62}$/.test(name)) yield { prefix, name, path: join(directory, prefix, name) };
    }
  }
}

/**
 * Makes everything below reach the disk, directories too. Of blobs that were linked the bytes are there since they were stored, and
 * that costs nothing; where they were copied it is what a backup is for.
 */
async function syncTree(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else await syncOne(path);
  }
  await syncOne(directory);
}

async function syncOne(path: string): Promise<void> {
  await using file = await open(path, "r");
  await file.sync();
}

async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (!["EXDEV", "EPERM", "EMLINK", "ENOTSUP"].includes(errnoOf(error) ?? "")) throw error;
    await copyFile(from, to);
  }
}
