/** Edge Functions, routing middleware and plain servers: deployed from source, asked through the front door. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import type { Mayfly } from "../server.ts";

let mayfly: Mayfly;
before(async () => {
  mayfly = await startMayfly();
});

describe("Edge Functions and middleware", { timeout: 120_000 }, () => {
  for (const runtime of ["edge", "nodejs"]) {
    it(`middleware on ${runtime} answers, redirects, rewrites, changes headers or lets pass`, async () => {
      const directory = projectDirectory({
        "middleware.ts": `
          export const config = { matcher: ["/private/:path*", "/moved", "/shown", "/headers", "/api/:path*"], runtime: "${runtime}" };
          export default async function middleware(request: Request) {
            const { pathname } = new URL(request.url);
            if (pathname.startsWith("/private")) return new Response("keep out", { status: 401 });
            if (pathname === "/moved") return Response.redirect(new URL("/page.html", request.url), 307);
            if (pathname === "/shown") return new Response(null, { headers: { "x-middleware-rewrite": new URL("/page.html", request.url).href } });
            if (pathname === "/api/edge" && (await request.text()) === "forbidden") return new Response("not that", { status: 403 });
            if (pathname === "/headers") return new Response(null, { headers: { "x-middleware-next": "1", "x-seen": "yes" } });
          }`,
        "page.html": "<h1>page</h1>",
        headers: "as it is",
        "private/secret.txt": "secret",
        "api/edge.ts": `
          export const config = { runtime: "edge" };
          export default async (request: Request) => Response.json({ kind: typeof EdgeRuntime, body: await request.text() });`,
      });
      const url = await mayfly.deploy(directory, "--name", `middleware-${runtime}`);
      const secret = await mayfly.fetch(`${url}/private/secret.txt`);
      assert.deepEqual([secret.status, secret.text], [401, "keep out"]);
      const moved = await mayfly.fetch(`${url}/moved`);
      assert.deepEqual([moved.status, new URL(String(moved.headers["location"]), url).pathname], [307, "/page.html"]);
      assert.match((await mayfly.fetch(`${url}/shown`)).text, /<h1>page/);
      const passed = await mayfly.fetch(`${url}/headers`);
      assert.deepEqual([passed.text, passed.headers["x-seen"], passed.headers["x-middleware-next"]], ["as it is", "yes", undefined]);
      const edge = await mayfly.fetch(`${url}/api/edge`, { method: "POST", body: "hello" });
      assert.deepEqual(JSON.parse(edge.text), { kind: "string", body: "hello" });
      const forbidden = await mayfly.fetch(`${url}/api/edge`, { method: "POST", body: "forbidden" });
      assert.deepEqual([forbidden.status, forbidden.text], [403, "not that"]);
      assert.equal((await mayfly.fetch(`${url}/middleware`)).status, 404, "it has no address of its own");
    });
  }
});

describe("a plain server, wherever it is", { timeout: 120_000 }, () => {
  const listen = (message: string): string =>
    `const http = require("node:http"); http.createServer((request, response) => response.end("${message} " + request.url)).listen(3000);`;
  for (const path of ["index.js", "app.js", "src/server.ts"]) {
    it(`${path} answers every path that no file does`, async () => {
      const source = path.endsWith(".ts") ? listen(path).replace("const http", "const http: typeof import('node:http')") : listen(path);
      const directory = projectDirectory({ [path]: source, "public/file.txt": "a file", "package.json": "{}" });
      const url = await mayfly.deploy(directory, "--name", path.replaceAll(/\W/g, "-"));
      assert.equal((await mayfly.fetch(`${url}/deep/path?a=1`)).text, `${path} /deep/path?a=1`);
      assert.equal((await mayfly.fetch(`${url}/file.txt`)).text, "a file");
    });
  }

  it("in api/ it answers its own path", async () => {
    const url = await mayfly.deploy(projectDirectory({ "api/server.js": listen("api"), "index.html": "<p>page" }), "--name", "api-server");
    assert.equal((await mayfly.fetch(`${url}/api/server?a=1`)).text, "api /api/server?a=1");
    assert.equal((await mayfly.fetch(`${url}/`)).text, "<p>page");
  });
});
