/** What every driver of the blob store must do: {@link blobStoreConformance} registers the tests for one of them. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { describe, it } from "node:test";
import type { BlobStore } from "./blob-store.ts";

/** `open` gives a fresh, empty store; the suite closes it. */
export function blobStoreConformance(name: string, open: () => Promise<BlobStore>): void {
  describe(`blob store: ${name}`, () => {
    const withStore = (test: (blobs: BlobStore) => Promise<void>) => async () => {
      const blobs = await open();
      try {
        await test(blobs);
      } finally {
        await blobs.close();
      }
    };
    const bytes = randomBytes(300_000);
    const digest = createHash("sha256").update(bytes).digest("hex");

    it(
      "stores bytes, strings and streams under their digest",
      withStore(async (blobs) => {
        const info = await blobs.put(Readable.from([bytes.subarray(0, 1000), bytes.subarray(1000)]));
        assert.deepEqual(info, { digest, sha1: createHash("sha1").update(bytes).digest("hex"), size: bytes.length });
        assert.deepEqual(await blobs.put(bytes), info);
        assert.equal((await blobs.put("")).size, 0);
        assert.deepEqual(await blobs.read(digest), bytes);
        assert.deepEqual(await buffer(blobs.open(digest, { start: 5, end: 9 })), bytes.subarray(5, 10));
        assert.deepEqual(await readFile(await blobs.localPath(digest)), bytes);
      }),
    );

    it(
      "keeps nothing when the check refuses or the limit is passed",
      withStore(async (blobs) => {
        const refuse = () => {
          throw new Error("refused");
        };
        await assert.rejects(blobs.put(Readable.from([bytes]), { check: refuse }), /refused/);
        await assert.rejects(blobs.put(bytes, { check: refuse }), /refused/);
        await assert.rejects(blobs.put(Readable.from([bytes]), { bytesMax: 1000 }), { code: "payload_too_large" });
        assert.equal(await blobs.has(digest), false);
      }),
    );

    it(
      "keeps nothing when the source breaks off",
      withStore(async (blobs) => {
        async function* broken() {
          yield bytes;
          throw new Error("connection lost");
        }
        await assert.rejects(blobs.put(Readable.from(broken())), /connection lost/);
        assert.equal(await blobs.has(digest), false);
      }),
    );

    it(
      "stores the same bytes many times at once",
      withStore(async (blobs) => {
        const infos = await Promise.all(Array.from({ length: 20 }, () => blobs.put(Readable.from([bytes]))));
        assert.ok(infos.every((info) => info.digest === digest));
        assert.deepEqual(await blobs.read(digest), bytes);
      }),
    );

    it(
      "stores what is put together when it is committed, and nothing of what is not",
      withStore(async (blobs) => {
        const large = randomBytes(300_000);
        await using batch = blobs.batch();
        const infos = await Promise.all(["one", "two", "one", large].map((content) => batch.put(content)));
        assert.deepEqual(infos[0], { ...(await blobs.put("one")), sha1: createHash("sha1").update("one").digest("hex"), size: 3 });
        await batch.commit();
        for (const [index, content] of ["one", "two", "one", large].entries())
          assert.deepEqual(await batch.read(infos[index]!.digest), Buffer.from(content));
        await assert.rejects(batch.put("long", { bytesMax: 3 }), { code: "payload_too_large" });
        const { digest: late } = await batch.put("late");
        await batch.commit();
        assert.equal(await blobs.has(late), true);
        {
          await using dropped = blobs.batch();
          const { digest: lost } = await dropped.put("lost");
          await dropped[Symbol.asyncDispose]();
          await dropped.commit();
          assert.equal(await blobs.has(lost), process.platform !== "linux");
        }
      }),
    );

    it(
      "lists what it has, and deletes what nobody has touched since a mark",
      withStore(async (blobs) => {
        const { digest: other } = await blobs.put("other");
        await blobs.put(bytes);
        const listed = await Array.fromAsync(blobs.list());
        assert.deepEqual(
          new Map(listed.map((entry) => [entry.digest, entry.size])),
          new Map([
            [digest, bytes.length],
            [other, 5],
          ]),
        );
        await new Promise((resolve) => setTimeout(resolve, 60));
        const mark = await blobs.mark();
        assert.equal(await blobs.has(digest), true);
        assert.equal(await blobs.deleteUntouched(digest, mark), false);
        assert.equal(await blobs.deleteUntouched(other, mark), true);
        assert.equal(await blobs.deleteUntouched(other, mark), true, "it is gone");
        assert.deepEqual(
          (await Array.fromAsync(blobs.list())).map((entry) => entry.digest),
          [digest],
        );
        await blobs.put("other");
        assert.equal(await blobs.deleteUntouched(other, mark), false, "it is new");
        assert.equal((await blobs.read(other)).toString(), "other");
      }),
    );

    it(
      "loses nothing that is put while it is deleted",
      withStore(async (blobs) => {
        for (let round = 0; round < 100; round++) {
          const text = `round ${round % 10}`;
          const mark = await blobs.mark();
          const [info] = await Promise.all([blobs.put(text), blobs.put(text).then(({ digest: one }) => blobs.deleteUntouched(one, mark))]);
          assert.equal((await blobs.read(info.digest)).toString(), text);
        }
      }),
    );

    it(
      "deletes, and says so of what is absent",
      withStore(async (blobs) => {
        await blobs.put(bytes);
        await blobs.delete(digest);
        await blobs.delete(digest);
        assert.equal(await blobs.has(digest), false);
        await assert.rejects(blobs.read(digest), { code: "internal_error" });
        await assert.rejects(buffer(blobs.open(digest)));
        await assert.rejects(async () => blobs.read("../../etc/passwd"), { code: "internal_error" });
        assert.ok((await blobs.freeBytes()) > 0);
      }),
    );
  });
}
