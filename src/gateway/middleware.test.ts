/** Middleware through the front door: what its headers do to a request, and what it cannot do. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import { connect, type AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { PassThrough, Readable } from "node:stream";
import { describe, test } from "node:test";
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
  const mw: FakeFunction = async ({ method, url, body }) => {
    seen.push([method, url, body === null ? null : await text(body)]);
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
  assert.deepEqual(seen, [["POST", "/echo?q=1", "the body"]]);
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

describe("a request's body", () => {
  const settings = {
    MAYFLY_MIDDLEWARE_BODY_BYTES_MAX: "1000",
    MAYFLY_MIDDLEWARE_BODIES_BYTES_MAX: "2500",
    MAYFLY_MIDDLEWARE_BODY_MS_MAX: "300",
  };
  /** Reads nothing of it, all of it, or waits. */
  const reading = (seen: (string | null)[], before: Promise<void> = Promise.resolve()): FakeFunction => {
    return async ({ url, body }) => {
      const read = url.includes("unread") || body === null ? null : await text(body);
      seen.push(read);
      await before;
      return read === "stop" ? answer("stopped", { status: 403 }) : says("x-middleware-next", "1");
    };
  };

  test("is seen by middleware when it is small, whatever becomes of it, and answered with whole", async () => {
    const seen: (string | null)[] = [];
    await using bed = await openTestbed({ a: site(reading(seen)) }, settings);
    const bodyOf = async (path: string, body: string | Readable) =>
      JSON.parse((await ask(bed, "a.localhost", path, { method: "POST", body })).body).body as string;
    assert.equal(await bodyOf("/echo", "small"), "small");
    assert.equal(await bodyOf("/echo?unread", "small"), "small");
    assert.equal(await bodyOf("/echo", Readable.from(["in ", "chunks"])), "in chunks");
    assert.deepEqual(seen, ["small", null, "in chunks"]);
    const stopped = await ask(bed, "a.localhost", "/echo", { method: "POST", body: "stop" });
    assert.deepEqual([stopped.status, stopped.body], [403, "stopped"]);
  });

  test("that is larger than middleware may see is refused, announced or not, and so is one that does not come to its end", async () => {
    const seen: (string | null)[] = [];
    await using bed = await openTestbed({ a: site(reading(seen)) }, settings);
    const large = "x".repeat(50_000);
    const endless = new PassThrough();
    endless.write("one ");
    bed.atEnd(() => endless.destroy());
    for (const [body, status, code] of [
      [large, 413, "FUNCTION_PAYLOAD_TOO_LARGE"],
      [Readable.from([large, large]), 413, "FUNCTION_PAYLOAD_TOO_LARGE"],
      [endless, 408, "REQUEST_TIMEOUT"],
    ] as const) {
      const refused = await ask(bed, "a.localhost", "/echo", { method: "POST", body });
      assert.deepEqual([refused.status, refused.headers["x-vercel-error"]], [status, code]);
    }
    // One byte more than it may have, and as many as it may.
    assert.equal((await ask(bed, "a.localhost", "/echo", { method: "POST", body: "x".repeat(1001) })).status, 413);
    assert.equal((await ask(bed, "a.localhost", "/echo", { method: "POST", body: "x".repeat(1000) })).status, 200);
    // What no middleware is asked about is as large as a Function takes it.
    await using free = await openTestbed({ a: site(reading(seen)) }, { ...settings, MAYFLY_MIDDLEWARE_BODY_BYTES_MAX: "0" });
    const passed = await ask(free, "a.localhost", "/echo", { method: "POST", body: large });
    assert.equal((JSON.parse(passed.body) as { body: string }).body, large);
    assert.deepEqual(seen, ["x".repeat(1000), null]);
  });

  test("is held within bounds: beyond them the request is refused, and none passes unseen", async () => {
    const seen: (string | null)[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    await using bed = await openTestbed({ a: site(reading(seen, promise)) }, settings);
    const post = () => ask(bed, "a.localhost", "/echo", { method: "POST", body: "y".repeat(1000) });
    const held = [post(), post()];
    while (seen.length < 2) await new Promise((wait) => setTimeout(wait, 20));
    const third = await post();
    assert.deepEqual([third.status, third.headers["x-vercel-error"]], [503, "FUNCTION_UNAVAILABLE"]);
    resolve();
    for (const response of await Promise.all(held)) assert.equal(response.status, 200);
    assert.equal((await post()).status, 200);
  });

  test("whose client leaves in the middle asks no middleware", async () => {
    const seen: (string | null)[] = [];
    await using bed = await openTestbed({ a: site(reading(seen)) }, settings);
    const socket = connect(bed.port, "127.0.0.1");
    socket.write("POST /echo HTTP/1.1\r\nhost: a.localhost\r\ncontent-length: 100\r\n\r\nhalf");
    setTimeout(() => socket.destroy(), 50);
    await once(socket, "close");
    assert.equal((await ask(bed, "a.localhost", "/echo", { method: "POST", body: "next" })).status, 200);
    assert.deepEqual(seen, ["next"]);
  });
});
