/**
 * A source sent as one archive: `.vercel/source.tgz.part1`, `.part2`, …, together a gzipped tar. Unpacked as a stream, so
 * in bounded memory, and as hostile input: no path leaves the tree, no count or size is believed before it is counted.
 */
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { extract } from "tar-stream";
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Config } from "../config.ts";
import { MayflyError, messageOf } from "../errors.ts";
import type { Digest, FileRef } from "../model.ts";

const partName = /^\.vercel\/source\.tgz\.part(\d{1,6})$/;
const linkBytesMax = 4096;
/** Of headers and padding that an entry may need. */
const entryBytesMax = 16_384;
const betweenBytesMax = 4 * 1024 * 1024;

/** The blobs of an archive's parts in their order; null: these files are no archive. */
export function archiveParts(files: readonly (readonly [string, FileRef])[]): readonly Digest[] | null {
  const parts = files.flatMap(([path, { digest }]) => {
    const number = partName.exec(path)?.[1];
    return number === undefined ? [] : [{ number: Number(number), digest }];
  });
  if (parts.length === 0) return null;
  if (parts.length !== files.length) throw new MayflyError("invalid_file", "Files and an archive of files cannot be sent together.");
  return parts.toSorted((a, b) => a.number - b.number).map(({ digest }) => digest);
}

/**
 * The files in the archive, in its order; a path may come twice.
 * @throws MayflyError invalid_file (no gzipped tar, or with something other than files, links and directories),
 * too_many_files, payload_too_large, disk_full
 */
export async function unpackArchive(
  parts: readonly Digest[],
  blobs: BlobStore,
  config: Pick<Config, "filesMax" | "fileBytesMax" | "deploymentBytesMax">,
): Promise<readonly (readonly [string, FileRef])[]> {
  const files: [string, FileRef][] = [];
  let entries = 0;
  let bytes = 0;
  const compressed = Readable.from(
    (async function* () {
      for (const digest of parts) yield* blobs.open(digest) as AsyncIterable<Buffer>;
    })(),
    { objectMode: false },
  );
  const tar = extract();
  // Long names and attributes stand before an entry and are read whole: what is no entry's must not grow without end.
  let expected = betweenBytesMax;
  async function* bounded(unpacked: AsyncIterable<Buffer>) {
    for await (const chunk of unpacked) {
      expected -= chunk.length;
      if (expected < 0) throw refused("more than 4 MB of it are no file");
      yield chunk;
    }
  }
  const reading = pipeline(compressed, createGunzip(), bounded, tar);
  // Its rejection comes to whoever reads the entries.
  reading.catch(() => undefined);
  try {
    for await (const entry of tar) {
      const { header } = entry;
      // Directories count too: an archive of nothing else would never end.
      if (++entries > 2 * config.filesMax) throw new MayflyError("too_many_files", `A deployment may have ${config.filesMax} files.`);
      expected += (header.size ?? 0) + entryBytesMax;
      const path = header.name.replace(/^(?:\.\/)+/, "");
      if (header.type === "directory") {
        entry.resume();
        continue;
      }
      if (header.type === "symlink") {
        const target = header.linkname ?? "";
        if (target === "" || Buffer.byteLength(target) > linkBytesMax) throw refused(`"${path}" is a link to nothing`);
        const { digest, size } = await blobs.put(target);
        files.push([path, { digest, size, mode: 0o120777 }]);
        entry.resume();
        continue;
      }
      if (header.type !== "file" && header.type !== "contiguous-file") throw refused(`"${path}" is a ${header.type}`);
      bytes += header.size ?? 0;
      if (bytes > config.deploymentBytesMax) {
        throw new MayflyError("payload_too_large", `A deployment may have ${config.deploymentBytesMax} bytes; the archive has more.`);
      }
      const { digest, size } = await blobs.put(Readable.from(entry as AsyncIterable<Buffer>, { objectMode: false }), {
        bytesMax: config.fileBytesMax,
      });
      files.push([path, { digest, size, mode: ((header.mode ?? 0) & 0o111) === 0 ? 0o100644 : 0o100755 }]);
    }
    await reading;
  } catch (error) {
    if (error instanceof MayflyError) throw error;
    throw refused(messageOf(error), error);
  } finally {
    tar.destroy();
  }
  return files;
}

function refused(why: string, cause?: unknown): MayflyError {
  return new MayflyError("invalid_file", `The archive of the source cannot be unpacked: ${why}.`, { cause });
}
