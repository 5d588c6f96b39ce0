/** Middleware through the front door: what its headers do to a request, and what it cannot do. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { MayflyError } from "../errors.ts";
import { answer, ask, openTestbed, type FakeFunction, type SiteParts } from "./testbed.ts";

/** A site whose middleware runs for all but /open. */
function site(run: FakeFunction, more: SiteParts = {}): SiteParts {
  return {
    files: { "page.html": "page", "500.html": "own 500" },
    ...more,
    functions: { mw: run, echo, ...more.functions },
    routes: [{ src: "^/(?!open).*$", middlewarePath: "mw", continue: true }, { handle: "filesystem" }, { src: "^/open$", dest: "/echo" }],
    manifest: (made) => ({ outputs: { ...made.outputs, mw: { kind: "middleware", functionId: "a/mw" } } }),
  };
}

const echo: FakeFunction = async ({ method, url, headers, body }) => {
  const named: Record<string, string> = {};
  for (let index = 0; index < headers.length; index += 2) named[headers[index]!] = headers[index + 1]!;
  return answer(JSON.stringify({ method, url, headers: named, body: body === null ? null : await text(body) }), {
    headers: ["x-from", "echo"],
  });
};
const says = (...headers: string[]) => answer("not for clients", { headers });

test("next: headers go to the client and to the Function, the body to the Function", async () => {
  const seen: unknown[] = [];
  const mw: FakeFunction = ({ method, url, body }) => {
    seen.push([method, url, body]);
    return says(
      "x-middleware-next",
      "1",
      "x-from-mw",
      "yes",
      "set-cookie",
      "a=1",
      "set-cookie",
      "b=2",
      "x-from",
      "mw",
      "content-type",
      "text/x",
    );
  };
  await using bed = await openTestbed({ a: site(mw) });
  const response = await ask(bed, "a.localhost", "/echo?q=1", { method: "POST", body: "the body", headers: { "x-own": "1" } });
  const got = JSON.parse(response.body);
  assert.deepEqual([got.method, got.url, got.body], ["POST", "/echo?q=1", "the body"]);
  assert.deepEqual([got.headers["x-from-mw"], got.headers["x-own"], got.headers["set-cookie"]], ["yes", "1", undefined]);
  assert.equal(response.headers["x-from-mw"], "yes");
  assert.deepEqual(response.headers["set-cookie"], ["a=1", "b=2"]);
  assert.equal(response.headers["x-from"], "echo");
  assert.equal(response.headers["x-middleware-next"], undefined);
  assert.match(String(response.headers["server-timing"]), /middleware;dur=/);
  assert.deepEqual(seen, [["POST", "/echo?q=1", null]]);
  const page = await ask(bed, "a.localhost", "/page.html");
  assert.deepEqual([page.body, page.headers["x-from-mw"], page.headers["content-type"]], ["page", "yes", "text/html; charset=utf-8"]);
  assert.deepEqual(page.headers["set-cookie"], ["a=1", "b=2"]);
});

test("rewrite: to another path of the site, with its query", async () => {
  const mw: FakeFunction = ({ headers }) => says("x-middleware-rewrite", `http://${headers[headers.indexOf("host") + 1]}/echo?x=1`);
  await using bed = await openTestbed({ a: site(mw) });
  const got = JSON.parse((await ask(bed, "a.localhost:81", "/anything?q=1")).body);
  assert.equal(got.url, "/echo?x=1");
});

test("override-headers: the request then has those, and no other", async () => {
  const mw: FakeFunction = () =>
    says(
      "x-middleware-next",
      "1",
      "x-middleware-override-headers",
      "x-kept,x-new,cookie,x-vercel-id,transfer-encoding",
      "x-middleware-request-x-new",
      "new",
      "x-middleware-request-x-kept",
      "kept",
      "x-middleware-request-x-vercel-id",
      "forged",
      "x-middleware-request-transfer-encoding",
      "chunked",
    );
  await using bed = await openTestbed({ a: site(mw) });
  const response = await ask(bed, "a.localhost", "/echo", {
    method: "POST",
    body: "abc",
    headers: { "x-kept": "1", "x-gone": "1", cookie: "a=b" },
  });
  const got = JSON.parse(response.body);
  assert.deepEqual(
    [got.headers["x-kept"], got.headers["x-new"], got.headers["x-gone"], got.headers.cookie],
    ["kept", "new", undefined, undefined],
  );
  assert.match(got.headers["x-vercel-id"], /^dev1::/);
  assert.equal(got.body, "abc");
});

test("its own answer, a redirect, and what clients may not do", async () => {
  let asked = 0;
  const mw: FakeFunction = ({ url, headers }) => {
    asked++;
    assert(!headers.includes("x-middleware-subrequest"));
    if (url === "/away") return answer("", { status: 307, headers: ["location", "/else"] });
    return answer("stop", { status: 401, headers: ["x-middleware-secret", "1", "content-type", "text/plain"] });
  };
  await using bed = await openTestbed({ a: site(mw) });
  const stopped = await ask(bed, "a.localhost", "/page.html", {
    headers: { "x-middleware-subrequest": "mw:mw:mw:mw:mw", "x-middleware-next": "1" },
  });
  assert.deepEqual([stopped.status, stopped.body, stopped.headers["x-middleware-secret"]], [401, "stop", undefined]);
  const away = await ask(bed, "a.localhost", "/away");
  assert.deepEqual([away.status, away.headers.location], [307, "/else"]);
  // Spelled otherwise it is the same path, and it has no path of its own.
  assert.equal((await ask(bed, "a.localhost", "/%70age.html")).status, 401);
  assert.equal((await ask(bed, "a.localhost", "/mw")).status, 401);
  assert.equal(asked, 4);
  assert.equal(JSON.parse((await ask(bed, "a.localhost", "/open")).body).url, "/open");
});

test("a crash is 500, too long 504, and its answer is never kept for others", async () => {
  let code: "FUNCTION_INVOCATION_FAILED" | "FUNCTION_INVOCATION_TIMEOUT" = "FUNCTION_INVOCATION_FAILED";
  const mw: FakeFunction = () => {
    throw new MayflyError(code);
  };
  await using bed = await openTestbed({ a: site(mw, { files: { "page.html": "page" } }) });
  const crashed = await ask(bed, "a.localhost", "/page.html");
  assert.deepEqual([crashed.status, crashed.headers["x-vercel-error"]], [500, "MIDDLEWARE_INVOCATION_FAILED"]);
  code = "FUNCTION_INVOCATION_TIMEOUT";
  const slow = await ask(bed, "a.localhost", "/page.html");
  assert.deepEqual([slow.status, slow.headers["x-vercel-error"]], [504, "MIDDLEWARE_INVOCATION_TIMEOUT"]);
});

test("rewrite to another origin: a proxy, with the request's changes", async () => {
  const origin = createServer((request, response) => response.end(`${request.url} ${String(request.headers["x-new"])}`)).listen(
    0,
    "127.0.0.1",
  );
  await once(origin, "listening");
  try {
    const { port } = origin.address() as AddressInfo;
    const mw: FakeFunction = () =>
      says(
        "x-middleware-rewrite",
        `http://127.0.0.1:${port}/there?x=1`,
        "x-middleware-override-headers",
        "x-new",
        "x-middleware-request-x-new",
        "yes",
        "x-seen",
        "1",
      );
    await using bed = await openTestbed({ a: site(mw) }, { MAYFLY_ORIGIN_ALLOW: "127.0.0.1/32" });
    const response = await ask(bed, "a.localhost", "/here");
    assert.deepEqual([response.body, response.headers["x-seen"]], ["/there?x=1 yes", "1"]);
  } finally {
    origin.close();
    origin.closeAllConnections();
  }
});
