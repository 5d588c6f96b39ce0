/** Archives as a client sends them, and as an attacker does. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { pack, type Header } from "tar-stream";
import { scratchDirectory } from "../../test/scratch.ts";
import { openDiskBlobs } from "../blobs/disk.ts";
import { archiveParts, unpackArchive } from "./archive.ts";

const limits = { filesMax: 10, fileBytesMax: 1000, deploymentBytesMax: 2000 };
const blobs = openDiskBlobs({ directory: scratchDirectory() });

async function archive(...entries: [Partial<Header> & Pick<Header, "name">, string?][]): Promise<Buffer> {
  const tar = pack();
  for (const [header, content] of entries) tar.entry(header, content ?? "");
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar as AsyncIterable<Buffer>) chunks.push(chunk);
  return gzipSync(Buffer.concat(chunks));
}

async function unpack(...parts: Buffer[]) {
  const digests = await Promise.all(parts.map(async (part) => (await blobs.put(part)).digest));
  return unpackArchive(digests, blobs, limits);
}

describe("an archive of a source", () => {
  it("gives files, links and modes, whatever it is cut into", async () => {
    const whole = await archive(
      [{ name: "./a", type: "directory" }],
      [{ name: "./a/b.txt" }, "bytes"],
      [{ name: "run.sh", mode: 0o755 }, "#!/bin/sh"],
      [{ name: "link", type: "symlink", linkname: "a/b.txt" }],
    );
    const files = await unpack(whole.subarray(0, 40), whole.subarray(40));
    assert.deepEqual(
      files.map(([path, { mode, size }]) => [path, mode.toString(8), size]),
      [
        ["a/b.txt", "100644", 5],
        ["run.sh", "100755", 9],
        ["link", "120777", 7],
      ],
    );
    assert.equal((await blobs.read(files[0]![1].digest)).toString(), "bytes");
  });

  it("is known by its parts, in the order of their numbers, and stands alone", () => {
    const file = (digest: string) => ({ digest, size: 1, mode: 0o100644 });
    const part = (number: number) => [`.vercel/source.tgz.part${number}`, file(String(number))] as const;
    assert.deepEqual(archiveParts([part(10), part(2), part(1)]), ["1", "2", "10"]);
    assert.equal(archiveParts([["index.html", file("1")]]), null);
    assert.throws(() => archiveParts([part(1), ["index.html", file("2")]]), { code: "invalid_file" });
  });

  it("is refused when it is no archive, cut off, too large, too many, or has devices", async () => {
    const good = await archive([{ name: "a" }, "x".repeat(500)]);
    await assert.rejects(unpack(Buffer.from("not gzip")), { code: "invalid_file" });
    await assert.rejects(unpack(good.subarray(0, good.length - 12)), { code: "invalid_file" });
    await assert.rejects(unpack(gzipSync("not a tar".repeat(200))), { code: "invalid_file" });
    await assert.rejects(unpack(await archive([{ name: "a" }, "x".repeat(1001)])), { code: "payload_too_large" });
    const many = ["a", "b", "c"].map((name): [Partial<Header> & Pick<Header, "name">, string] => [{ name }, "x".repeat(900)]);
    await assert.rejects(unpack(await archive(...many)), { code: "payload_too_large" });
    const empty = Array.from({ length: 21 }, (_, index): [Partial<Header> & Pick<Header, "name">] => [
      { name: `d${index}`, type: "directory" },
    ]);
    await assert.rejects(unpack(await archive(...empty)), { code: "too_many_files" });
    await assert.rejects(unpack(await archive([{ name: "dev", type: "character-device", devmajor: 1, devminor: 3 }])), {
      code: "invalid_file",
    });
  });

  it("is refused when it is a bomb: a file, an attribute, a name or nothing at all, that grows without end", async () => {
    const MB = 1024 * 1024;
    const nothing = gzipSync(Buffer.alloc(64 * MB));
    const before = process.memoryUsage().rss;
    const header = async (name: string, size: number): Promise<Buffer> => {
      const tar = gunzipSync(await archive([{ name }, ""]));
      const head = tar.subarray(0, 512);
      head.write(`${size.toString(8).padStart(11, "0")}\0`, 124);
      return head;
    };
    const typed = (head: Buffer, type: string): Buffer => {
      head.write(type, 156);
      head.fill(" ", 148, 156);
      const sum = head.reduce((total, byte) => total + byte, 0);
      head.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
      return head;
    };
    for (const [what, type, size] of [
      ["a file", "0", 4096 * MB],
      ["an attribute", "x", 4096 * MB],
      ["attributes of all", "g", 4096 * MB],
      ["a long name", "L", 4096 * MB],
      ["a long link", "K", 4096 * MB],
    ] as const) {
      const begin = gzipSync(typed(await header("a", size), type));
      await assert.rejects(unpack(begin, ...Array<Buffer>(8).fill(nothing)), { code: /^(invalid_file|payload_too_large)$/ }, what);
    }
    await assert.rejects(unpack(nothing), { code: "invalid_file" }, "nothing at all");
    const grown = (process.memoryUsage().rss - before) / MB;
    assert.ok(grown < 300, `${grown} MB more`);
  });

  it("is refused when it has hard links, also through a symlink; what leads out of the tree stays text", async () => {
    const chain: Parameters<typeof archive> = [
      [{ name: "x", type: "symlink", linkname: "/etc" }],
      [{ name: "y", type: "link", linkname: "x/passwd" }],
    ];
    await assert.rejects(unpack(await archive(...chain)), { code: "invalid_file" });
    const below = await unpack(await archive(chain[0]!, [{ name: "x/passwd" }, "mine"]));
    // Nothing is written where a name says: the caller's check of all paths meets a file below a link.
    assert.deepEqual(
      below.map(([path, { size }]) => [path, size]),
      [
        ["x", 4],
        ["x/passwd", 4],
      ],
    );
  });
});
