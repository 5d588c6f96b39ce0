/** Partial prerenders through the front door: the shell at once, the rest for each client, nothing of one client for another. */
import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { MayflyError } from "../errors.ts";
import type { Manifest, Output, Prerender } from "../model.ts";
import { answer, ask, open, openTestbed, type FakeFunction, type FakeResponse, type SiteParts } from "./testbed.ts";

const token = "0123456789abcdef0123456789abcdef";
const state = '{"postponed":"ü"}';
const partialType = (origin: string): string =>
  `application/x-nextjs-pre-render; state-length=${Buffer.byteLength(state)}; origin=${JSON.stringify(origin)}`;

/** A page of Next.js's: what it is asked for decides whether it makes shell and state, or goes on from a state. */
function page(rest: (cookie: string) => FakeResponse | Promise<FakeResponse>) {
  const seen = { made: 0, resumed: [] as Readonly<Record<string, string>>[] };
  const run: FakeFunction = async ({ method, headers, body, url }) => {
    const said = Object.fromEntries(headers.flatMap((name, index) => (index % 2 === 0 ? [[name, headers[index + 1]!]] : [])));
    if (said["next-resume"] === "1") {
      seen.resumed.push({ ...said, method, url, state: body === null ? "" : await text(body) });
      return rest(said["cookie"] ?? "");
    }
    if (said["x-mayfly-prerender"] === undefined)
      return answer(`whole for ${said["cookie"] ?? ""}, ${body === null ? "" : await text(body)}`);
    seen.made++;
    assert.equal(said["cookie"], undefined);
    return answer(`${state}<shell ${seen.made}>`, {
      headers: [
        "content-type",
        partialType("text/html; charset=utf-8"),
        "cache-control",
        "s-maxage=60",
        "x-next-cache-tags",
        "a",
        "etag",
        '"1"',
      ],
    });
  };
  return Object.assign(seen, { run });
}

function site(run: FakeFunction, fallbacks: Readonly<Record<string, string>>, more: Partial<Prerender> = {}): SiteParts {
  return {
    functions: { run },
    files: Object.fromEntries(Object.entries(fallbacks).map(([path, body]) => [`${path}.fallback`, body])),
    routes: [{ handle: "filesystem" }],
    manifest: (made: Manifest) => {
      const prerender = (path: string, type: string): Output => {
        const file = made.outputs[`${path}.fallback`];
        return {
          kind: "prerender",
          functionId: "a/run",
          prerender: {
            expirationS: 60,
            bypassToken: token,
            bypassFor: [{ type: "header", key: "next-action" }],
            allowQuery: [],
            allowHeader: ["host"],
            passQuery: true,
            fallback: file?.kind === "static" ? file.file : null,
            initialStatus: 200,
            initialHeaders: { "content-type": partialType(type), "x-nextjs-postponed": "1" },
            chain: { outputPath: "run", headers: { "next-resume": "1", "content-length": "7" } },
            ...more,
          },
        };
      };
      const outputs = { page: prerender("page", "text/html; charset=utf-8"), "page.rsc": prerender("page.rsc", "text/x-component") };
      return { outputs: { ...made.outputs, ...outputs }, createdAt: Date.now() };
    },
  };
}

test("the shell comes at once, the rest as the Function makes it from state and cookies of this request", async () => {
  const streams: PassThrough[] = [];
  const f = page((cookie) => {
    const body = new PassThrough();
    body.write(`<for ${cookie}>`);
    streams.push(body);
    return new Promise((resolve) =>
      setTimeout(() => resolve(answer(body, { headers: ["content-type", "text/plain", "x-late", "1"] })), 50),
    );
  });
  await using bed = await openTestbed({ a: site(f.run, { page: `${state}<shell>` }) });
  const response = await open(bed, "a.localhost", "/page?q=1", { headers: { cookie: "name=ada", "if-none-match": '"1"' } });
  assert.deepEqual(
    [response.statusCode, response.headers["content-type"], response.headers["x-vercel-cache"], response.headers["cache-control"]],
    [200, "text/html; charset=utf-8", "PRERENDER", "private, no-cache, no-store, max-age=0, must-revalidate"],
  );
  assert.deepEqual(
    [response.headers["x-nextjs-postponed"], response.headers["x-late"], response.headers["etag"]],
    ["1", undefined, undefined],
  );
  let body = "";
  for await (const chunk of response) {
    body += String(chunk);
    // Only now does the Function's answer end.
    if (body.includes("<for")) streams[0]!.end("</html>");
    else assert.equal(body, "<shell>");
  }
  assert.equal(body, "<shell><for name=ada></html>");
  const [resumed] = f.resumed;
  assert.deepEqual(
    [resumed?.["method"], resumed?.["state"], resumed?.["url"], resumed?.["content-length"]],
    ["POST", state, "/page?q=1", String(Buffer.byteLength(state))],
  );
  assert.equal(f.made, 0);
});

test("what completes a page is kept for nobody; what everybody is given is kept, purged and made anew", async () => {
  const f = page((cookie) => answer(`<for ${cookie}>`, { headers: ["content-type", "text/html", "cache-control", "s-maxage=60"] }));
  await using bed = await openTestbed({ a: site(f.run, {}) });
  const get = async (cookie: string, headers: Record<string, string> = {}) => {
    const { body, headers: said } = await ask(bed, "a.localhost", "/page", { headers: { cookie, ...headers } });
    return `${body} ${String(said["x-vercel-cache"])}`;
  };
  const first = await Promise.all(Array.from({ length: 20 }, (_, index) => get(`n=${index}`)));
  assert.deepEqual(
    first.map((one) => one.replace(/ (?:MISS|HIT)$/, "")),
    Array.from({ length: 20 }, (_, index) => `<shell 1><for n=${index}>`),
  );
  assert.equal(f.made, 1);
  bed.skip(61_000);
  assert.equal(await get("n=x"), "<shell 1><for n=x> STALE");
  while (f.made < 2 || (await get("n=x")) !== "<shell 2><for n=x> HIT") await new Promise((resolve) => setTimeout(resolve, 10));
  bed.skip(1000);
  await bed.purges.add([{ tag: "a", mode: "delete" }], bed.now());
  bed.skip(1000);
  assert.equal(await get("n=y"), "<shell 3><for n=y> MISS");
  assert.equal(await get("n=y", { "x-prerender-revalidate": token }), "<shell 4><for n=y> REVALIDATED");
  assert.equal(await get("n=y"), "<shell 4><for n=y> HIT");
  const head = await ask(bed, "a.localhost", "/page", { method: "HEAD" });
  assert.deepEqual([head.status, head.headers["content-type"], head.body], [200, "text/html; charset=utf-8", ""]);
});

test("data has no shell: the Function's answer is all of it, with its own head", async () => {
  const f = page((cookie) => answer(`flight for ${cookie}`, { status: 200, headers: ["content-type", "text/x-component", "x-late", "1"] }));
  await using bed = await openTestbed({ a: site(f.run, { "page.rsc": state }) });
  const reply = await ask(bed, "a.localhost", "/page.rsc", { headers: { cookie: "n=1" } });
  assert.deepEqual([reply.body, reply.headers["content-type"], reply.headers["x-late"]], ["flight for n=1", "text/x-component", "1"]);
  assert.equal(f.resumed[0]?.["state"], state);
});

test("draft mode, actions and other methods are the Function's alone; no client can hand it a state", async () => {
  const f = page(() => answer("resumed"));
  await using bed = await openTestbed({ a: site(f.run, { page: `${state}<shell>` }) });
  const forged = { "next-resume": "1", "x-next-resume-state-length": "3", next_resume: "1", cookie: "n=1" };
  const posted = await ask(bed, "a.localhost", "/page", { method: "POST", headers: forged, body: "evil" });
  assert.equal(posted.body, "whole for n=1, evil");
  const direct = await ask(bed, "a.localhost", "/run", { method: "POST", headers: forged, body: "evil" });
  assert.equal(direct.body, "whole for n=1, evil");
  assert.equal(
    (await ask(bed, "a.localhost", "/page", { headers: { cookie: `__prerender_bypass=${token}` } })).headers["x-vercel-cache"],
    "BYPASS",
  );
  assert.equal((await ask(bed, "a.localhost", "/page", { headers: { "next-action": "1" } })).body, "whole for , ");
  assert.equal(f.resumed.length, 0);
});

test("a Function that fails after the shell leaves an answer that is seen to be broken off; without a shell, an error", async () => {
  const f = page((cookie) => {
    if (cookie === "n=500") return answer("oh", { status: 500 });
    throw new MayflyError("FUNCTION_INVOCATION_FAILED");
  });
  await using bed = await openTestbed({ a: site(f.run, { page: `${state}<shell>`, "page.rsc": state }) });
  for (const cookie of ["n=500", "n=throw"]) {
    const response = await open(bed, "a.localhost", "/page", { headers: { cookie } });
    assert.equal(response.statusCode, 200);
    await assert.rejects(text(response), { code: "ECONNRESET" });
  }
  assert.equal((await ask(bed, "a.localhost", "/page.rsc", { headers: { cookie: "n=500" } })).status, 500);
  assert.equal((await ask(bed, "a.localhost", "/page.rsc", { headers: { cookie: "n=throw" } })).status, 500);
});

test("a state that is said to be longer than what was kept is an error, not a leak", async () => {
  const f = page(() => answer("rest"));
  await using bed = await openTestbed({ a: site(f.run, { page: "{}" }) });
  const reply = await ask(bed, "a.localhost", "/page");
  assert.equal(reply.status, 500);
  assert.ok(!reply.body.includes("{}"), reply.body);
});
