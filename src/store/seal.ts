/**
 * Secrets at rest: AES-256-GCM under a key file outside the database. Each value is bound to its place (say, deployment
 * and variable name) as additional data, so a ciphertext that was moved elsewhere does not open.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from "node:crypto";
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { errnoOf, MayflyError } from "../errors.ts";
import type { Sealed } from "../model.ts";
import { randomId } from "../names.ts";

export interface Seal {
  /** `place` says where the value belongs; the same words open it. */
  close(plain: string, place: string): Sealed;
  /** @throws MayflyError internal_error when the key, the place or the bytes are not those of `close` */
  open(sealed: Sealed, place: string): string;
  /** Tells whether two texts are equal, and nothing else of them: HMAC-SHA256 under the key, in hexadecimal. */
  digest(text: string): string;
}

/** Opens the key file, or makes it (mode 0600); two processes that start at once get the same key. */
export function openSeal(keyPath: string): Seal {
  const key = readKey(keyPath) ?? makeKey(keyPath);
  const keyId = createHash("sha256").update(key).digest("base64url").slice(0, 8);
  return {
    close(plain, place) {
      const nonce = randomBytes(12);
      const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(Buffer.from(place));
      const bytes = Buffer.concat([cipher.update(plain, "utf8"), cipher.final(), cipher.getAuthTag()]);
      return ["v1", keyId, nonce.toString("base64url"), bytes.toString("base64url")].join(".");
    },
    digest: (text) => createHmac("sha256", key).update("digest\0").update(text).digest("hex"),
    open(sealed, place) {
      const [version, id, nonce = "", text = ""] = sealed.split(".");
      const bytes = Buffer.from(text, "base64url");
      try {
        if (version !== "v1" || id !== keyId || bytes.length < 16) throw new Error("not sealed with this key");
        const decipher = createDecipheriv("aes-256-gcm", key, Buffer.from(nonce, "base64url")).setAAD(Buffer.from(place));
        decipher.setAuthTag(bytes.subarray(-16));
        return Buffer.concat([decipher.update(bytes.subarray(0, -16)), decipher.final()]).toString("utf8");
      } catch (error) {
        throw new MayflyError("internal_error", "Cannot open a sealed value: it was moved, changed, or sealed with another key.", {
          cause: error,
        });
      }
    },
  };
}

/** The place of a deployment's variable. */
export const envPlace = (deploymentId: string, name: string): string => `${deploymentId}/${name}`;

/** The place of a project's variable. */
export const variablePlace = (projectId: string, name: string): string => `${projectId}/${name}`;

function readKey(path: string): Buffer | null {
  try {
    const key = Buffer.from(readFileSync(path, "utf8").trim(), "base64");
    if (key.length !== 32) throw new MayflyError("data_directory_unusable", `Key file ${path} is damaged.`);
    return key;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
}

function makeKey(path: string): Buffer {
  const key = randomBytes(32);
  const temporary = `${path}.${randomId(8)}`;
  const file = openSync(temporary, "wx", 0o600);
  try {
    writeSync(file, key.toString("base64") + "\n");
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  try {
    linkSync(temporary, path); // fails when another process was first
    return key;
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
    const existing = readKey(path);
    if (existing === null) throw error;
    return existing;
  } finally {
    rmSync(temporary, { force: true });
  }
}
