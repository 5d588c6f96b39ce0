/**
 * SEAM: immutable files named by their SHA-256. A blob is either whole or absent, also after kill -9; what `put` has
 * returned is on disk. `blob-store.conformance.ts` tests every driver.
 */
import type { Readable } from "node:stream";
import type { Digest } from "../model.ts";

export interface BlobInfo {
  readonly digest: Digest;
  /** SHA-1 of the same bytes, lower-case hex: what Vercel clients name files by. */
  readonly sha1: string;
  /** Bytes. */
  readonly size: number;
}

export interface BlobRange {
  /** First byte. */
  readonly start: number;
  /** Last byte, included. */
  readonly end: number;
}

/** What takes blobs. */
export type BlobTarget = Pick<BlobStore, "put" | "read">;

/** Blobs that are stored together, with one wait for the disk: what was put is stored when `commit` has resolved. */
export interface BlobBatch extends BlobTarget, AsyncDisposable {
  commit(): Promise<void>;
}

export interface BlobStore {
  /**
   * Stores the bytes of `source` in bounded memory; storing the same bytes twice is no error.
   * `check` sees what was hashed before the blob becomes visible: when it throws, nothing is kept.
   * @throws MayflyError payload_too_large beyond `bytesMax`; disk_full on ENOSPC
   */
  put(source: Readable | Uint8Array | string, options?: { bytesMax?: number; check?: (info: BlobInfo) => void }): Promise<BlobInfo>;
  /** Whoever takes it disposes of it; what was not committed by then is dropped, but for what other puts have stored. */
  batch(): BlobBatch;
  /** A blob that is there stays, whatever collection is under way: see {@link deleteUntouched}. */
  has(digest: Digest): Promise<boolean>;
  /** @throws MayflyError internal_error when it is absent */
  read(digest: Digest): Promise<Buffer>;
  /** Streams the blob, or a part of it. The stream errors when the blob is absent. */
  open(digest: Digest, range?: BlobRange): Readable;
  /**
   * A local path of the blob's bytes, to link or copy from; never to write to.
   * Drivers without local files fetch it into their cache first.
   */
  localPath(digest: Digest): Promise<string>;
  /** All blobs, in no order; what is stored meanwhile may be among them or not. */
  list(): AsyncIterable<{ readonly digest: Digest; readonly size: number }>;
  /** A point in the store's own time, for {@link deleteUntouched}. */
  mark(): Promise<number>;
  /** Deletes a blob unless it was put, or found by `has`, since the mark. @returns whether it is gone */
  deleteUntouched(digest: Digest, mark: number): Promise<boolean>;
  /** No error when absent. */
  delete(digest: Digest): Promise<void>;
  /** Bytes that may still be stored. */
  freeBytes(): Promise<number>;
  close(): Promise<void>;
}
