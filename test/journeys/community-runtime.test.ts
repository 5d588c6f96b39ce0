/** A runtime that neither Mayfly nor Vercel has: a package of the registry builds its files, and its launcher answers. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { createGzip } from "node:zlib";
import { pack } from "tar-stream";
import { hasRegistry, npmRegistry } from "../../src/build/testbed.ts";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import type { Mayfly } from "../server.ts";

const name = "community-echo";
const version = "1.2.3";

/** As they are written: `@vercel/build-utils` is taken for granted, and the handler takes events. */
const builder = `
  const { Lambda, FileBlob } = require("@vercel/build-utils");
  exports.version = 3;
  exports.build = async ({ files, entrypoint, config }) => ({
    output: new Lambda({
      files: {
        "launcher.js": new FileBlob({ data: \`
          const text = require("node:fs").readFileSync(__dirname + "/program", "utf8");
          exports.launcher = async ({ body }) => {
            const { method, path, body: sent } = JSON.parse(body);
            const said = text + method + " " + path + " " + Buffer.from(sent, "base64");
            return { statusCode: 201, headers: { "x-builder": "\${config.words ?? "none"}" }, body: Buffer.from(said).toString("base64"), encoding: "base64" };
          };\` }),
        program: files[entrypoint],
      },
      handler: "launcher.launcher",
      runtime: "nodejs22.x",
    }),
  });`;

/** Has one package; for all others it names the machine's own registry. */
async function openRegistry(): Promise<Server> {
  const archive = pack();
  archive.entry({ name: "package/package.json" }, JSON.stringify({ name, version, main: "index.js" }));
  archive.entry({ name: "package/index.js" }, builder);
  archive.finalize();
  const tarball = await buffer(archive.pipe(createGzip()));
  const server = createServer((request, response) => {
    const { port } = server.address() as AddressInfo;
    if (request.url === `/${name}.tgz`) return response.end(tarball);
    if (request.url !== `/${name}`) return response.writeHead(302, { location: new URL(request.url!.slice(1), npmRegistry()).href }).end();
    const dist = {
      tarball: `http://127.0.0.1:${port}/${name}.tgz`,
      integrity: `sha512-${createHash("sha512").update(tarball).digest("base64")}`,
    };
    response.setHeader("content-type", "application/json");
    response.end(
      JSON.stringify({ name, "dist-tags": { latest: version }, versions: { [version]: { name, version, main: "index.js", dist } } }),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

describe("a community runtime", { skip: (await hasRegistry()) ? false : "no registry answers here" }, () => {
  let mayfly: Mayfly;
  let registry: Server;
  before(async () => {
    registry = await openRegistry();
    const { port } = registry.address() as AddressInfo;
    // No other sandbox reaches a registry on the machine itself.
    mayfly = await startMayfly({ flags: ["--sandbox", "process"], env: { MAYFLY_NPM_REGISTRY: `http://127.0.0.1:${port}/` } });
  });
  after(() => registry.close());

  it("is named by functions[].runtime, and answers requests that are events to it", async () => {
    const configuration = { functions: { "api/*.echo": { runtime: `${name}@${version}` } } };
    const files = { "api/a.echo": "A says ", "api/b.echo": "B says ", "vercel.json": JSON.stringify(configuration) };
    const url = await mayfly.deploy(projectDirectory(files), "--name", "runtime");
    const a = await mayfly.fetch(`${url}/api/a?x=1`, { method: "POST", body: "words" });
    assert.deepEqual([a.status, a.text], [201, "A says POST /api/a?x=1 words"]);
    assert.equal((await mayfly.fetch(`${url}/api/b`)).text, "B says GET /api/b ");
  });

  it("is named by builds[].use, with its config", async () => {
    const configuration = { builds: [{ src: "*.echo", use: `${name}@${version}`, config: { words: "few" } }] };
    const files = { "c.echo": "C says ", "vercel.json": JSON.stringify(configuration) };
    const url = await mayfly.deploy(projectDirectory(files), "--name", "builds");
    const c = await mayfly.fetch(`${url}/c.echo`);
    assert.deepEqual([c.text, c.headers["x-builder"]], ["C says GET /c.echo ", "few"]);
  });

  it("of a version that does not exist fails the deployment", async () => {
    const configuration = { functions: { "api/*.echo": { runtime: `${name}@9.9.9` } } };
    const files = { "api/a.echo": "", "vercel.json": JSON.stringify(configuration) };
    const { code, stderr } = await mayfly.run("deploy", projectDirectory(files), "--name", "none");
    assert.equal(code, 1);
    assert.match(stderr, /INSTALL_FAILED/);
    assert.match(stderr, /community-echo@9\.9\.9 cannot be fetched\. The registry has no such version/);
  });
});
