/**
 * Secrets at rest: AES-256-GCM under a key file outside the database. Each value is bound to its place (say, deployment
 * and variable name) as additional data, so a ciphertext that was moved elsewhere does not open.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from "node:crypto";
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { errnoOf, MayflyError } from "../errors.ts";
import type { Sealed, TimestampMs } from "../model.ts";
import { randomId } from "../names.ts";

export interface Seal {
  /** `place` says where the value belongs; the same words open it. */
  close(plain: string, place: string): Sealed;
  /** @throws MayflyError internal_error when the key, the place or the bytes are not those of `close` */
  open(sealed: Sealed, place: string): string;
  /** Tells whether two texts are equal, and nothing else of them: HMAC-SHA256 under the newest key, in hexadecimal. */
  digest(text: string): string;
  /** Whether a value is sealed with the newest key. */
  isCurrent(sealed: Sealed): boolean;
  /** The newest first. More than one: a rotation is under way. */
  keyIds(): readonly string[];
  /** Makes a new key; `close` takes it from now on, in this process and, when it next needs a key it lacks, in others. */
  addKey(): void;
  /** When the newest key was made. */
  newestSince(): TimestampMs;
  /** Only the newest key stays: what others have sealed opens no more. */
  dropOldKeys(): void;
}

interface Key {
  readonly id: string;
  readonly bytes: Buffer;
}

/** Opens the key file, or makes it (mode 0600); two processes that start at once get the same key. */
export function openSeal(keyPath: string): Seal {
  let keys = readKeys(keyPath) ?? makeKeyFile(keyPath);
  const find = (id: string | undefined): Key | undefined => keys.find((key) => key.id === id);
  return {
    close(plain, place) {
      const [key] = keys;
      const nonce = randomBytes(12);
      const cipher = createCipheriv("aes-256-gcm", key!.bytes, nonce).setAAD(Buffer.from(place));
      const bytes = Buffer.concat([cipher.update(plain, "utf8"), cipher.final(), cipher.getAuthTag()]);
      return ["v1", key!.id, nonce.toString("base64url"), bytes.toString("base64url")].join(".");
    },
    open(sealed, place) {
      const [version, id, nonce = "", text = ""] = sealed.split(".");
      const bytes = Buffer.from(text, "base64url");
      try {
        // Another process may have rotated since.
        if (find(id) === undefined) keys = readKeys(keyPath) ?? keys;
        const key = find(id);
        if (version !== "v1" || key === undefined || bytes.length < 16) throw new Error("not sealed with this key");
        const decipher = createDecipheriv("aes-256-gcm", key.bytes, Buffer.from(nonce, "base64url")).setAAD(Buffer.from(place));
        decipher.setAuthTag(bytes.subarray(-16));
        return Buffer.concat([decipher.update(bytes.subarray(0, -16)), decipher.final()]).toString("utf8");
      } catch (error) {
        throw new MayflyError("internal_error", "Cannot open a sealed value: it was moved, changed, or sealed with another key.", {
          cause: error,
        });
      }
    },
    digest: (text) => createHmac("sha256", keys[0]!.bytes).update("digest\0").update(text).digest("hex"),
    isCurrent: (sealed) => sealed.split(".")[1] === keys[0]!.id,
    keyIds: () => keys.map(({ id }) => id),
    addKey() {
      keys = [toKey(randomBytes(32)), ...(readKeys(keyPath) ?? keys)];
      replaceKeyFile(keyPath, keys);
    },
    newestSince: () => statSync(keyPath).mtimeMs,
    dropOldKeys() {
      keys = keys.slice(0, 1);
      replaceKeyFile(keyPath, keys);
    },
  };
}

/** The place of a deployment's variable. */
export const envPlace = (deploymentId: string, name: string): string => `${deploymentId}/${name}`;

/** The place of a project's variable. */
export const variablePlace = (projectId: string, name: string): string => `${projectId}/${name}`;

const toKey = (bytes: Buffer): Key => ({ id: createHash("sha256").update(bytes).digest("base64url").slice(0, 8), bytes });

/** One key a line in base64, the newest first. */
function readKeys(path: string): Key[] | null {
  try {
    const keys = readFileSync(path, "utf8")
      .trim()
      .split("\n")
      .map((line) => Buffer.from(line, "base64"));
    if (keys.some((key) => key.length !== 32)) throw new MayflyError("data_directory_unusable", `Key file ${path} is damaged.`);
    return keys.map(toKey);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
}

function makeKeyFile(path: string): Key[] {
  const keys = [toKey(randomBytes(32))];
  const temporary = writeKeyFile(path, keys);
  try {
    linkSync(temporary, path); // fails when another process was first
    return keys;
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
    const existing = readKeys(path);
    if (existing === null) throw error;
    return existing;
  } finally {
    rmSync(temporary, { force: true });
  }
}

function replaceKeyFile(path: string, keys: readonly Key[]): void {
  renameSync(writeKeyFile(path, keys), path);
  const directory = openSync(dirname(path), "r");
  try {
    fsyncSync(directory); // before anything is sealed with the new key
  } finally {
    closeSync(directory);
  }
}

/** @returns path of a file beside `path` that is on disk */
function writeKeyFile(path: string, keys: readonly Key[]): string {
  const temporary = `${path}.${randomId(8)}`;
  const file = openSync(temporary, "wx", 0o600);
  try {
    writeSync(file, keys.map(({ bytes }) => `${bytes.toString("base64")}\n`).join(""));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  return temporary;
}
