/** Uploads: only what is missing, within bounds, and again what went wrong. */
import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { ApiClient } from "./client.ts";
import { startDeployment } from "./deploy.ts";
import { openRecordingApi, refuse, type RecordingApiOptions } from "./recording-api.ts";
import { readSource } from "./source.ts";
import { uploadFiles, type UploadProgress } from "./upload.ts";

const request = { name: "site", target: "preview", prebuilt: false, force: false, env: {}, buildEnv: {} } as const;
/** More than is sent with the call that creates a deployment. */
const largeBytes = 65_537;
const large = (text: string): string => text.repeat(largeBytes);
const clientOf = (api: { url: string }): ApiClient => new ApiClient({ api: api.url, token: "mayfly_test", backoffMs: 1 });

/** Uploads a directory and expects it to fail; `intercept` sees every request first. */
async function failingUpload(root: string, intercept: NonNullable<RecordingApiOptions["intercept"]>, expected: object): Promise<number> {
  await using api = await openRecordingApi({ intercept });
  using client = clientOf(api);
  await assert.rejects(startDeployment(client, { ...request, directory: root }), expected);
  return api.files.size;
}

describe("uploadFiles", () => {
  it("sends only what is missing, each digest once, with its digest and length", async () => {
    const root = scratchDirectory();
    for (const name of ["a", "b", "c"]) writeFileSync(join(root, name), large(name));
    writeFileSync(join(root, "a-copy"), large("a"));
    await using api = await openRecordingApi();
    using client = clientOf(api);
    await startDeployment(client, { ...request, directory: root });
    const uploads = api.to("POST", "/v2/files");
    assert.deepEqual(
      uploads.map(({ headers }) => headers["content-length"]),
      Array.from({ length: 3 }, () => String(largeBytes)),
    );
    assert.equal(api.files.size, 3);
    assert.ok(uploads.every(({ headers }) => headers.authorization === "Bearer mayfly_test" && headers["transfer-encoding"] === undefined));
    assert.equal(api.to("POST", "/v13/deployments").length, 2);

    writeFileSync(join(root, "b"), large("B"));
    await startDeployment(client, { ...request, directory: root });
    assert.equal(api.to("POST", "/v2/files").length, 4);
    await startDeployment(client, { ...request, directory: root });
    assert.equal(api.to("POST", "/v2/files").length, 4);
    assert.equal(api.to("POST", "/v13/deployments").length, 5);
  });

  it("sends small files with the call that creates the deployment, those alone that are missing", async () => {
    const root = scratchDirectory();
    for (const name of ["a", "b", "c"]) writeFileSync(join(root, name), name);
    writeFileSync(join(root, "a-copy"), "a");
    writeFileSync(join(root, "empty"), "");
    writeFileSync(join(root, "large"), large("l"));
    symlinkSync("a", join(root, "link"));
    await using api = await openRecordingApi();
    using client = clientOf(api);
    await startDeployment(client, { ...request, directory: root });
    const sent = (): readonly string[] =>
      api
        .to("POST", "/v13/deployments")
        .at(-1)!
        .body.files.flatMap((file: any) => (file.data === undefined ? [] : file.file));
    // "link" has the bytes "a", as the file has.
    assert.deepEqual(sent(), ["a", "a-copy", "b", "c", "empty", "link"]);
    assert.equal(api.to("POST", "/v2/files").length, 1);
    assert.equal(api.files.size, 5);
    writeFileSync(join(root, "b"), "B");
    await startDeployment(client, { ...request, directory: root });
    assert.deepEqual(sent(), ["b"]);
    await startDeployment(client, { ...request, directory: root });
    assert.deepEqual(sent(), []);
    assert.equal(api.to("POST", "/v13/deployments").length, 5);
  });

  it("tells how far it is", async () => {
    const root = scratchDirectory();
    writeFileSync(join(root, "big"), Buffer.alloc(3_000_000));
    writeFileSync(join(root, "small"), "x");
    await using api = await openRecordingApi();
    using client = clientOf(api);
    const source = await readSource(root);
    const seen: UploadProgress[] = [];
    const missing = source.files.map(({ sha }) => sha);
    await uploadFiles(client, source, missing, { onProgress: (progress) => seen.push(progress) });
    assert.deepEqual(seen[0], { files: 0, filesTotal: 2, bytes: 0, bytesTotal: 3_000_001 });
    assert.deepEqual(seen.at(-1), { files: 2, filesTotal: 2, bytes: 3_000_001, bytesTotal: 3_000_001 });
    assert.ok(seen.length > 8);
  });

  for (const [title, change] of [
    ["other bytes", (path: string) => writeFileSync(path, "HELLO")],
    ["more bytes", (path: string) => appendFileSync(path, "!")],
    ["fewer bytes", (path: string) => truncateSync(path, 2)],
    ["no file any more", (path: string) => rmSync(path)],
    ["a link in its place", (path: string) => (rmSync(path), symlinkSync("other", path))],
    ["a directory in its place", (path: string) => (rmSync(path), mkdirSync(path))],
  ] as const) {
    it(`refuses a file that changes between hashing and upload: ${title}`, async () => {
      const root = scratchDirectory();
      writeFileSync(join(root, "page.html"), "hello");
      const stored = await failingUpload(
        root,
        ({ path }) => {
          if (path === "/v13/deployments") change(join(root, "page.html"));
          return false;
        },
        { code: "file_changed", message: /"page\.html" changed while it was uploaded/ },
      );
      assert.equal(stored, 0);
    });
  }

  it("never completes the upload of a big file that changes in the middle", async () => {
    const root = scratchDirectory();
    const path = join(root, "big.bin");
    writeFileSync(path, Buffer.alloc(20_000_000));
    let received = 0;
    let complete = false;
    const stored = await failingUpload(
      root,
      async (recorded, _response, incoming) => {
        if (recorded.path !== "/v2/files") return false;
        try {
          for await (const chunk of incoming as AsyncIterable<Buffer>) {
            if (received === 0) writeFileSync(path, Buffer.alloc(20_000_000, 1));
            received += chunk.byteLength;
          }
          complete = true;
        } catch {
          // The client broke it off.
        }
        return true;
      },
      { code: "file_changed", message: /"big\.bin"/ },
    );
    assert.equal(stored, 0);
    assert.ok(received > 0 && received < 20_000_000 && !complete);
  });

  it("passes a digest mismatch on with the file's name, once", async () => {
    const root = scratchDirectory();
    writeFileSync(join(root, "x.js"), large("1"));
    let uploads = 0;
    const intercept: RecordingApiOptions["intercept"] = ({ path }, response, incoming) => {
      if (path !== "/v2/files") return false;
      uploads++;
      incoming.resume();
      return refuse(response, 400, "digest_mismatch", "The bytes do not match.");
    };
    await failingUpload(root, intercept, { code: "digest_mismatch", message: 'Cannot upload "x.js": The bytes do not match.' });
    assert.equal(uploads, 1);
  });

  it("hears a refusal that comes before the body is sent", async () => {
    const root = scratchDirectory();
    writeFileSync(join(root, "big"), Buffer.alloc(30_000_000));
    const intercept: RecordingApiOptions["intercept"] = ({ path }, response) =>
      path === "/v2/files" && refuse(response, 507, "disk_full", "The server's disk is full.");
    await failingUpload(root, intercept, { code: "disk_full", message: /"big".*disk is full/ });
  });

  it("tries again after 5xx and after broken connections, and counts no byte twice", async () => {
    const root = scratchDirectory();
    for (let n = 0; n < 20; n++) writeFileSync(join(root, `${n}`), `file ${n}`);
    let uploads = 0;
    await using api = await openRecordingApi({
      intercept({ path }, response, incoming) {
        if (path !== "/v2/files" || ++uploads % 3 === 0) return false;
        if (uploads % 3 === 1) {
          incoming.socket.destroy();
          return true;
        }
        incoming.resume();
        return refuse(response, 503, "server_closing", "Restarting.");
      },
    });
    using client = clientOf(api);
    const source = await readSource(root);
    let last: UploadProgress | undefined;
    const missing = source.files.map(({ sha }) => sha);
    await uploadFiles(client, source, missing, { parallel: 1, onProgress: (progress) => (last = progress) });
    assert.equal(api.files.size, 20);
    assert.equal(uploads, 60);
    assert.deepEqual(last, { files: 20, filesTotal: 20, bytes: source.bytes, bytesTotal: source.bytes });
  });

  it("gives up when the server stays broken", async () => {
    const root = scratchDirectory();
    writeFileSync(join(root, "x"), large("1"));
    let uploads = 0;
    const intercept: RecordingApiOptions["intercept"] = ({ path }, response, incoming) => {
      if (path !== "/v2/files") return false;
      uploads++;
      incoming.resume();
      return refuse(response, 500, "internal_error", "Broken.");
    };
    await failingUpload(root, intercept, { code: "internal_error", message: /"x".*Broken/ });
    assert.equal(uploads, 6);
  });

  it("refuses a server that asks for what was not announced", async () => {
    const root = scratchDirectory();
    writeFileSync(join(root, "x"), "1");
    const intercept: RecordingApiOptions["intercept"] = ({ path }, response) =>
      path === "/v13/deployments" && refuse(response, 400, "missing_files", "Missing files", { missing: ["0".repeat(40)] });
    await failingUpload(root, intercept, { code: "missing_files", message: /not one of these files/ });
  });

  it("uploads 10,000 files, some at a time", async () => {
    const root = scratchDirectory();
    for (let n = 0; n < 10_000; n++) {
      if (n % 100 === 0) mkdirSync(join(root, `d${n / 100}`));
      writeFileSync(join(root, `d${Math.floor(n / 100)}`, `${n}.txt`), `file ${n}`);
    }
    let open = 0;
    let openMost = 0;
    await using api = await openRecordingApi({
      async intercept({ path }, response) {
        if (path !== "/v2/files") return false;
        openMost = Math.max(openMost, ++open);
        response.on("close", () => open--);
        await new Promise(setImmediate);
        return false;
      },
    });
    using client = clientOf(api);
    const source = await readSource(root);
    await uploadFiles(
      client,
      source,
      source.files.map(({ sha }) => sha),
    );
    assert.equal(api.files.size, 10_000);
    assert.ok(openMost > 1 && openMost <= 16, `${openMost} at a time`);
  });
});
