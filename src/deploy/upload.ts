/**
 * One uploaded file: streamed into the blob store in bounded memory, kept only when it has the digest and size that the
 * client announced. The team then owns it under its SHA-1 and never has to send it again.
 */
import type { Readable } from "node:stream";
import type { BlobStore } from "../blobs/blob-store.ts";
import { MayflyError } from "../errors.ts";
import { recordUpload } from "../store/uploads.ts";
import type { DeployContext } from "./deploy.ts";

/** In bytes. */
const smallBytesMax = 64 * 1024;

export interface AnnouncedFile {
  /** Lower-case hex. */
  readonly sha1: string;
  /** Bytes; null when the client did not say. */
  readonly size: number | null;
}

/** @throws MayflyError digest_mismatch, size_mismatch, payload_too_large, disk_full */
export async function receiveFile(context: DeployContext, teamId: string, source: Readable, announced: AnnouncedFile): Promise<void> {
  await refuseFullDisk(context);
  const small = announced.size !== null && announced.size <= smallBytesMax ? await readSmall(source, announced.size) : source;
  const info = await context.blobs.put(small, {
    bytesMax: context.config.fileBytesMax,
    check({ sha1, size }) {
      if (announced.size !== null && size !== announced.size) {
        throw new MayflyError("size_mismatch", `A file announced with ${announced.size} bytes has ${size}.`);
      }
      if (sha1 !== announced.sha1) {
        throw new MayflyError("digest_mismatch", `A file announced with digest ${announced.sha1} has ${sha1}.`);
      }
    },
  });
  await recordUpload(context.store, teamId, info, context.clock.now());
}

/** What is small is stored in one piece, which costs a fraction. One byte too many is enough to tell that it is not as announced. */
async function readSmall(source: Readable, size: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let read = 0;
  for await (const chunk of source as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    read += chunk.length;
    if (read > size) break;
  }
  return Buffer.concat(chunks);
}

/** @throws MayflyError disk_full while less than `diskFreeBytesMin` is free */
export async function refuseFullDisk({ blobs, config }: Pick<DeployContext, "blobs" | "config">): Promise<void> {
  const free = await freeBytes(blobs);
  if (free >= config.diskFreeBytesMin) return;
  throw new MayflyError(
    "disk_full",
    `The server's disk has ${Math.floor(free / 2 ** 20)} MB left and keeps ${Math.floor(config.diskFreeBytesMin / 2 ** 20)} MB free: nothing can be deployed now.`,
  );
}

/** A look at the disk is good for so long. */
const freeMs = 200;
const looks = new WeakMap<BlobStore, Promise<number>>();

function freeBytes(blobs: BlobStore): Promise<number> {
  let look = looks.get(blobs);
  if (look === undefined) {
    look = blobs.freeBytes();
    looks.set(blobs, look);
    setTimeout(() => looks.delete(blobs), freeMs).unref();
  }
  return look;
}
