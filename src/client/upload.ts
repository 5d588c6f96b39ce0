/**
 * Sends the files that the server lacks, several at a time, straight from disk. Invariant: the last bytes of a file are
 * sent only after all its bytes have been found to have the announced digest, so a file that changed is never accepted.
 */
import { createHash, hash } from "node:crypto";
import { MayflyError } from "../errors.ts";
import type { ApiClient } from "./client.ts";
import type { KnownFiles } from "./known-files.ts";
import { fileChanged, linkMode, openSourceFile, readLink, readSmallFile, unreadable, type Source, type SourceFile } from "./source.ts";

const parallelDefault = 16;
/** Smaller files, and no more of them in all, go with the call that creates the deployment: each by itself would take longer. */
const smallBytesMax = 64 * 1024;
const inlineBytesMax = 2 * 1024 * 1024;
/** As many that the server was never sent go with the first call, before it has said that it lacks them. */
const unaskedBytesMax = 256 * 1024;
const chunkBytes = 256 * 1024;

export interface UploadProgress {
  /** Files that are stored. */
  readonly files: number;
  readonly filesTotal: number;
  /** Bytes that were sent. */
  readonly bytes: number;
  readonly bytesTotal: number;
}

export interface UploadFilesOptions {
  /** Uploads at the same time. */
  readonly parallel?: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: UploadProgress) => void) | undefined;
}

/**
 * Uploads the files of `source` that have one of the `missing` digests, each digest once.
 * @throws MayflyError file_changed, unreadable_file, canceled, or the server's code with the file's name in the message
 */
export async function uploadFiles(
  client: ApiClient,
  source: Source,
  missing: readonly string[],
  options: UploadFilesOptions = {},
): Promise<void> {
  const files = filesOf(source, missing);
  const bytesTotal = files.reduce((sum, file) => sum + file.size, 0);
  let stored = 0;
  let bytes = 0;
  const report = (): void => options.onProgress?.({ files: stored, filesTotal: files.length, bytes, bytesTotal });
  report();

  // The first failure ends the other uploads.
  const failure = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, failure.signal]) : failure.signal;
  let firstError: unknown;
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < files.length && !signal.aborted) {
      const file = files[next++]!;
      let sent = 0;
      const open = (): AsyncIterable<Uint8Array> =>
        checkedBytes(source.root, file, (count) => {
          sent += count;
          bytes += count;
          report();
        });
      const onRetry = (): void => {
        bytes -= sent;
        sent = 0;
      };
      try {
        await client.upload(file.sha, file.size, open, { signal, onRetry });
        stored++;
        report();
      } catch (error) {
        firstError ??= named(file, error);
        failure.abort();
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(options.parallel ?? parallelDefault, files.length) }, work));
  if (options.signal?.aborted === true) throw new MayflyError("canceled");
  if (firstError !== undefined) throw firstError;
}

/**
 * Bytes of the small files among those that the server lacks, by their SHA-1, as far as one call may carry them.
 * @throws MayflyError file_changed, unreadable_file
 */
export async function readSmallFiles(source: Source, missing: readonly string[]): Promise<ReadonlyMap<string, Buffer>> {
  const small = new Map<string, Buffer>();
  const buffer = Buffer.allocUnsafeSlow(smallBytesMax + 1);
  let bytes = 0;
  for (const file of filesOf(source, missing)) {
    if (file.size > smallBytesMax || bytes + file.size > inlineBytesMax) continue;
    bytes += file.size;
    const read = file.mode === linkMode ? undefined : readSmallFile(source.root, file.path, buffer)?.bytes;
    const isRight = read !== undefined && hash("sha1", read) === file.sha;
    // Else the slow way says what is wrong.
    small.set(file.sha, isRight ? Buffer.from(read) : Buffer.concat(await Array.fromAsync(checkedBytes(source.root, file, () => {}))));
  }
  return small;
}

/** Digests of files that the server probably lacks, when these are so few that asking it first would take longer; else none. */
export function unaskedDigests(source: Source, known: KnownFiles): readonly string[] {
  const unsent = new Map(source.files.flatMap(({ sha, size }) => (known.isSent(sha) ? [] : [[sha, size] as const])));
  let bytes = 0;
  for (const size of unsent.values()) bytes += size > smallBytesMax ? Number.POSITIVE_INFINITY : size;
  return bytes <= unaskedBytesMax ? [...unsent.keys()] : [];
}

/** One file for each digest. */
function filesOf(source: Source, missing: readonly string[]): readonly SourceFile[] {
  const wanted = new Set(missing);
  const files = source.files.filter((file) => wanted.delete(file.sha));
  const [unknown] = wanted;
  if (unknown !== undefined) {
    throw new MayflyError("missing_files", `The server asks for a file with the digest ${unknown}, which is not one of these files.`);
  }
  return files;
}

/** The file's bytes; holds the last chunk back until the digest of all of them is known to be right. */
async function* checkedBytes(root: string, file: SourceFile, onSent: (bytes: number) => void): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha1");
  let size = 0;
  let held: Buffer | undefined;
  for await (const chunk of chunksOf(root, file)) {
    size += chunk.byteLength;
    if (size > file.size) throw fileChanged(file.path);
    hash.update(chunk);
    if (held !== undefined) {
      yield held;
      onSent(held.byteLength);
    }
    held = chunk;
  }
  if (size !== file.size || hash.digest("hex") !== file.sha) throw fileChanged(file.path);
  if (held !== undefined) {
    yield held;
    onSent(held.byteLength);
  }
}

async function* chunksOf(root: string, file: SourceFile): AsyncGenerator<Buffer> {
  if (file.mode === linkMode) {
    yield await readLink(root, file.path);
    return;
  }
  const { handle } = await openSourceFile(root, file.path);
  try {
    // `end` is inclusive: one byte more than the file had, which shows whether it has grown.
    yield* handle.createReadStream({ end: file.size, highWaterMark: chunkBytes }) as AsyncIterable<Buffer>;
  } catch (error) {
    throw unreadable(file.path, error);
  }
}

function named(file: SourceFile, error: unknown): unknown {
  if (!(error instanceof MayflyError) || error.message.includes(`"${file.path}"`) || error.code === "server_unreachable") return error;
  return new MayflyError(error.code, `Cannot upload "${file.path}": ${error.message}`, {
    cause: error,
    details: { ...error.details, file: file.path },
  });
}
