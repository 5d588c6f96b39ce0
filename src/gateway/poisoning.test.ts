/** Clients that want another's page from the cache, put one there for others, or walk around what guards a page: through the front door. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { answer, ask, openTestbed, talk, type FakeFunction, type SiteParts, type TestRequest } from "./testbed.ts";

/** Ways to write a path that some reader might take for `/<name>`, or for a file below it. */
const spellings = (name: string): readonly string[] => {
  const [first = "", rest = ""] = [name[0], name.slice(1)];
  const hex = first.charCodeAt(0).toString(16);
  return [
    ...[
      name,
      `${name}/`,
      name.toUpperCase(),
      `/${name}`,
      `//${name}`,
      `./${name}`,
      `x/../${name}`,
      `../${name}`,
      `${name}/.`,
      `${name}/x/..`,
    ],
    ...[
      `%${hex}${rest}`,
      `%${hex.toUpperCase()}${rest}`,
      `%25${hex}${rest}`,
      `%2e/${name}`,
      `x/%2e%2e/${name}`,
      `x%2f..%2f${name}`,
      `%2f${name}`,
    ],
    ...[
      `%5c${name}`,
      `\\${name}`,
      `${name}%2f`,
      `${name}%5c`,
      `${name};x`,
      `;x/${name}`,
      `${name}%00`,
      `${name}%0a`,
      `${name}%20`,
      `${name}.`,
    ],
    ...[`${name}?x`, `${name}%3fx`, `${name}%23x`, `${name}.html`, `${name}/index`, `${name}/index.html`, `%c0%af${name}`, `${name}%ff`],
    ...[
      `${name}/.css`,
      `${name}/x.css`,
      `${name}%2f.css`,
      `${name};.css`,
      `${name}%3b.js`,
      `${name}%0a.png`,
      `${name}%00.jpg`,
      `${name}/..%2fx.css`,
    ],
    ...[`static/..%2f${name}`, `static/%2e%2e/${name}`, `_next/static/../../${name}`, `_next/data/build/${name}.json`],
  ].map((path) => `/${path}`);
};

/** Headers by which one framework or another was once told to skip a step. */
const claims: Readonly<Record<string, string>> = {
  "x-middleware-subrequest": "middleware:middleware:middleware:middleware:middleware",
  "x-middleware-next": "1",
  "x-middleware-skip": "1",
  "x-middleware-rewrite": "/admin",
  "x-middleware-invoke": "1",
  x_middleware_subrequest: "src/middleware",
  "x-now-route-matches": "1=admin",
  "x-vercel-skip": "1",
  "x-matched-path": "/admin",
  "x-invoke-path": "/admin",
  "x-invoke-status": "200",
  "x-original-url": "/admin",
  "x-rewrite-url": "/admin",
  "x-forwarded-uri": "/admin",
  "x-forwarded-prefix": "/admin",
  "x-http-method-override": "HEAD",
  "x-nextjs-data": "1",
  purpose: "prefetch",
};

describe("pages that a middleware guards", () => {
  const guarded = (): SiteParts => ({
    files: { "admin/index.html": "secret file", "admin/data.json": "secret data" },
    functions: {
      mw: () => answer("stop", { status: 401 }),
      admin: () => answer("secret page"),
      "open/[x]": ({ url }) => answer(`open ${url}`),
    },
    routes: [
      { src: "^/admin(?:/.*)?$", middlewarePath: "mw", continue: true },
      { handle: "filesystem" },
      { src: "^/open/(.*)$", dest: "/open/[x]", check: true },
    ],
    manifest: (made) => ({ outputs: { ...made.outputs, mw: { kind: "middleware", functionId: "a/mw" } } }),
  });

  test("are given to nobody, however their path is written", async () => {
    await using bed = await openTestbed({ a: guarded() });
    for (const path of [...spellings("admin"), ...spellings("admin/data.json"), ...spellings("admin/index.html"), ...spellings("mw")]) {
      const reply = await talk(bed, `GET ${path} HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n\r\n`);
      assert.match(reply, /^HTTP\/1\.1 (200|308|400|401|404) /, path);
      assert.doesNotMatch(reply, /secret/, path);
    }
    // The test would notice: without the rule they are there.
    await using open = await openTestbed({ a: { ...guarded(), routes: [] } });
    assert.equal((await ask(open, "a.localhost", "/admin/data.json")).body, "secret data");
  });

  test("nor to who claims to be the platform", async () => {
    await using bed = await openTestbed({ a: guarded() });
    for (const [name, value] of Object.entries(claims)) {
      for (const path of ["/admin", "/admin/data.json", "/open/x", "/"]) {
        const { status, body } = await ask(bed, "a.localhost", path, { headers: { [name]: value } });
        assert.doesNotMatch(body, /secret/, `${name} at ${path}`);
        assert.equal(status, path === "/" ? 404 : path.startsWith("/open") ? 200 : 401, `${name} at ${path}`);
      }
    }
    const { body } = await ask(bed, "a.localhost", "/open/x", { headers: claims });
    assert.equal(body, "open /open/x");
  });
});

describe("the cache", () => {
  test("keeps no private page, whatever its path looks like", async () => {
    const account: FakeFunction = ({ headers }) => {
      const cookie = headers[headers.indexOf("cookie") + 1] ?? "";
      return answer(`account of ${headers.includes("cookie") ? cookie : "nobody"}`, { headers: ["content-type", "text/html"] });
    };
    const everywhere = [{ handle: "filesystem" as const }, { src: "^/.*$", dest: "/account" }];
    await using bed = await openTestbed({ a: { functions: { account }, files: { "static/x.css": "css" }, routes: everywhere } });
    let answered = 0;
    for (const path of spellings("account")) {
      const get = (cookie: string): Promise<string> =>
        talk(bed, `GET ${path} HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n${cookie}\r\n`);
      const own = await get("Cookie: victim\r\n");
      if (own.includes("account of victim")) answered++;
      const foreign = await get("");
      assert.doesNotMatch(foreign, /victim/, path);
      assert.doesNotMatch(foreign, /x-vercel-cache: (?:HIT|STALE)/i, path);
    }
    assert.ok(answered > 20, `${answered} spellings reach the Function`);
  });

  test("keeps what a request has made of a page for nobody else: HEAD, a part, a condition, nothing at all", async () => {
    let count = 0;
    const page: FakeFunction = ({ method, headers }) => {
      count++;
      const keep = ["cache-control", "s-maxage=60"];
      if (headers.includes("if-none-match")) return answer("", { status: 304, headers: keep });
      if (headers.includes("range")) return answer("pa", { status: 206, headers: [...keep, "content-range", "bytes 0-1/4"] });
      if (headers.includes("x-empty")) return answer("", { status: 204, headers: keep });
      return answer(method === "HEAD" ? "" : "page", { headers: keep });
    };
    const poisons: readonly TestRequest[] = [
      { method: "HEAD" },
      { headers: { range: "bytes=0-1" } },
      { headers: { "if-none-match": '"x"' } },
      { headers: { "x-empty": "1" } },
      { headers: { "x-http-method-override": "HEAD" } },
      { method: "OPTIONS" },
      { method: "POST", body: "x" },
    ];
    for (const poison of poisons) {
      count = 0;
      await using bed = await openTestbed({ a: { functions: { page } } });
      await ask(bed, "a.localhost", "/page", poison);
      for (let round = 0; round < 2; round++) {
        const { status, body } = await ask(bed, "a.localhost", "/page");
        assert.deepEqual([status, body], [200, "page"], JSON.stringify(poison));
      }
      assert.ok(count <= 2, "the page itself is kept");
    }
  });

  test("tells answers apart by what the Function saw of a header, not by what the client sent of it", async () => {
    const varying: FakeFunction = ({ url, headers }) => {
      const name = url.slice("/by/".length);
      const seen = headers.flatMap((text, index) => (index % 2 === 1 && headers[index - 1] === name ? [text] : []));
      return answer(`${name}: ${seen.join() || "nothing"}`, { headers: ["cache-control", "s-maxage=60", "vary", name] });
    };
    const all = [{ src: "^/by/.*$", dest: "/by" }];
    await using bed = await openTestbed({ a: { functions: { by: varying }, routes: all } });
    // Named in `Connection` it is for the gateway alone: the page that is made without it is not that of who sends it.
    for (const name of ["x-language", "accept-language", "rsc"]) {
      const get = (more: string): Promise<string> =>
        talk(bed, `GET /by/${name} HTTP/1.1\r\nHost: a.localhost\r\n${name}: de\r\nConnection: close${more}\r\n\r\n`);
      assert.match(await get(`, ${name}`), new RegExp(`\n${name}: nothing\r`));
      assert.match(await get(""), new RegExp(`\n${name}: de\r`));
      assert.match(await get(""), /x-vercel-cache: HIT/);
    }
    // The platform says it, whatever the client says: two clients have two pages.
    for (const name of ["x-forwarded-for", "x-real-ip"]) {
      for (const from of ["127.0.0.1", "127.0.0.2", "127.0.0.1"]) {
        const { body } = await ask(bed, "a.localhost", `/by/${name}`, { from, headers: { [name]: "9.9.9.9" } });
        assert.equal(body, `${name}: ${from}`);
      }
    }
  });

  test("takes no two addresses for one, though another reader might", async () => {
    const echo: FakeFunction = ({ url }) => answer(`<${url}>`, { headers: ["cache-control", "s-maxage=60"] });
    const all = [{ handle: "filesystem" as const }, { src: "^/f(?:/.*)?$", dest: "/f" }];
    await using bed = await openTestbed({ a: { functions: { f: echo }, routes: all } });
    const addresses = [
      "/f?a=1&b=2",
      "/f?a=1;b=2",
      "/f?b=2&a=1",
      "/f?a=1&b=2&",
      "/f?a=1%26b=2",
      "/f?a=1&b=2%20",
      "/f?A=1&b=2",
      "/f?",
      "/f",
      "/f/x",
      "/f/%78",
    ];
    for (let round = 0; round < 2; round++) {
      for (const address of addresses) {
        const { body } = await ask(bed, "a.localhost", address);
        assert.equal(body.replace("?>", ">"), `<${address.replace(/\?$/, "")}>`, address);
      }
    }
  });
});

test("no address is a path of the disk", async () => {
  await using bed = await openTestbed({ a: { files: { "index.html": "page", "dir/x.txt": "x" } } });
  const ups = ["../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..\\", "..%5c", "%252e%252e%252f", "....//", "..;/", "%c0%ae%c0%ae/", ".%00./"];
  for (const up of ups) {
    for (const place of ["", "dir/", "_src/", "static/"]) {
      for (const file of ["etc/passwd", "mayfly.db", "secret.key", "proc/self/environ"]) {
        const path = `/${place}${up.repeat(8)}${file}`;
        const reply = await talk(bed, `GET ${path} HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n\r\n`);
        assert.match(reply, /^HTTP\/1\.1 (308|400|401|403|404) /, path);
        assert.doesNotMatch(reply, /root:|SQLite format|PATH=/, path);
      }
    }
  }
  for (const path of [
    "/%00",
    "/index.html%00.png",
    "/%",
    "/%zz",
    "/%ff%fe",
    `/${"a/".repeat(4000)}`,
    `/${"%61".repeat(4000)}`,
    `/?${"a".repeat(16_000)}`,
  ]) {
    const reply = await talk(bed, `GET ${path} HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n\r\n`);
    assert.match(reply, /^HTTP\/1\.1 (200|308|400|404|414) /, path.slice(0, 40));
  }
});
