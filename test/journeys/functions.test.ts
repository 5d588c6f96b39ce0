/** Functions as people write them, good and bad, through the gateway, in the strongest sandbox of this machine. */
import assert from "node:assert/strict";
import { request } from "undici";
import { before, describe, it } from "node:test";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import { eventually, type Mayfly } from "../server.ts";

const files = {
  "package.json": JSON.stringify({ name: "functions" }),
  "api/count.js": "let n = 0; module.exports = (req, res) => res.json({ n: ++n, pid: process.pid });",
  "api/helpers.js": `module.exports = (req, res) => {
    if (req.query.to) return res.redirect(307, req.query.to);
    res.status(201).json({ query: req.query, cookies: req.cookies, body: req.body, method: req.method, url: req.url });
  };`,
  "api/es.mjs": "export default (req, res) => res.send('es ' + import.meta.url.split('/').at(-1));",
  "api/typed.ts":
    "import { shout } from '../lib/shout'; export default (req: { query: any }, res: any): void => { res.send(shout('typed')) }",
  "lib/shout.ts": "export const shout = (text: string): string => text.toUpperCase();",
  "api/web.js":
    "export function GET(request) { return new Response('web ' + new URL(request.url).searchParams.get('a'), { headers: { 'x-a': 'b' } }); }\nexport async function POST(request) { return Response.json(await request.json(), { status: 202 }); }",
  "api/fetch.js": "export default { fetch: (request) => new Response('fetch ' + request.method) };",
  "api/stream.js":
    "module.exports = async (req, res) => { for (let i = 0; i < 3; i++) { res.write('chunk ' + i + '\\n'); await new Promise(r => setTimeout(r, 50)); } res.end(); };",
  "api/echo.js": "module.exports = (req, res) => { req.pipe(res); };",
  "api/tmp.js":
    "const fs = require('fs'); module.exports = (req, res) => { const had = fs.existsSync('/tmp/mark'); fs.writeFileSync('/tmp/mark', 'x'); res.json({ had }); };",
  "api/slow.js":
    "module.exports = async (req, res) => { await new Promise(r => setTimeout(r, 1000)); res.json({ pid: process.pid, id: globalThis.id ??= Math.random() }); };",
  "api/broken.js": "module.exports = (req, res => {",
  "api/throws.js": "module.exports = () => { throw new Error('thrown on purpose'); };",
  "api/rejects.js": "module.exports = async () => { throw new Error('rejected on purpose'); };",
  "api/exits.js": "module.exports = () => { console.log('leaving'); process.exit(0); };",
  "api/never.js": "module.exports = () => { console.log('waiting'); };",
  "api/twice.js": "module.exports = (req, res) => { res.send('first'); res.send('second'); };",
  "api/talks.js": "module.exports = (req, res) => { console.log('said ' + req.query.word); console.error('complained'); res.send('ok'); };",
  "vercel.json": JSON.stringify({ functions: { "api/never.js": { maxDuration: 1 } } }),
};

describe("Functions", () => {
  let mayfly: Mayfly;
  let url: string;
  before(async () => {
    mayfly = await startMayfly();
    url = await mayfly.deploy(projectDirectory(files), "--name", "functions");
  });
  const json = async (path: string, init?: Parameters<Mayfly["fetch"]>[1]) => JSON.parse((await mayfly.fetch(url + path, init)).text);

  it("keeps module state and /tmp while an instance is re-used", async () => {
    assert.equal((await json("/api/count")).n, 1);
    assert.equal((await json("/api/count")).n, 2);
    assert.deepEqual([await json("/api/tmp"), await json("/api/tmp")], [{ had: false }, { had: true }]);
  });

  it("boots a second instance for a second concurrent request, and re-uses both", async () => {
    const ids = async () => new Set((await Promise.all([json("/api/slow"), json("/api/slow")])).map(({ id }) => id));
    const first = await ids();
    assert.equal(first.size, 2);
    assert.deepEqual(await ids(), first);
  });

  it("has the helpers", async () => {
    const reply = await mayfly.fetch(`${url}/api/helpers?a=1&b=2&b=3`, {
      method: "POST",
      headers: { "content-type": "application/json", cookie: "c=d%20e" },
      body: '{"x":1}',
    });
    assert.equal(reply.status, 201);
    assert.deepEqual(JSON.parse(reply.text), {
      query: { a: "1", b: ["2", "3"] },
      cookies: { c: "d e" },
      body: { x: 1 },
      method: "POST",
      url: "/api/helpers?a=1&b=2&b=3",
    });
    const moved = await mayfly.fetch(`${url}/api/helpers?to=/else`);
    assert.deepEqual([moved.status, moved.headers["location"]], [307, "/else"]);
  });

  it("takes ES modules, TypeScript and web-standard handlers", async () => {
    assert.equal((await mayfly.fetch(`${url}/api/es`)).text, "es es.mjs");
    assert.equal((await mayfly.fetch(`${url}/api/typed`)).text, "TYPED");
    const web = await mayfly.fetch(`${url}/api/web?a=1`);
    assert.deepEqual([web.text, web.headers["x-a"]], ["web 1", "b"]);
    const posted = await mayfly.fetch(`${url}/api/web`, {
      method: "POST",
      body: '{"y":2}',
      headers: { "content-type": "application/json" },
    });
    assert.deepEqual([posted.status, posted.text], [202, '{"y":2}']);
    assert.equal((await mayfly.fetch(`${url}/api/web`, { method: "DELETE" })).status, 405);
    assert.equal((await mayfly.fetch(`${url}/api/fetch`)).text, "fetch GET");
  });

  it("streams both ways", async () => {
    const response = await request(`${mayfly.api}/api/stream`, { headers: { host: new URL(url).host } });
    const chunks: string[] = [];
    for await (const chunk of response.body) chunks.push(String(chunk));
    assert.ok(chunks.length >= 2, "it came in pieces");
    assert.equal(chunks.join(""), "chunk 0\nchunk 1\nchunk 2\n");
    const body = Buffer.alloc(4_000_000, "ab");
    assert.ok((await mayfly.fetch(`${url}/api/echo`, { method: "POST", body })).body.equals(body));
  });

  it("refuses a body over 5 MB with a code and a log line", async () => {
    const reply = await mayfly.fetch(`${url}/api/echo`, { method: "POST", body: Buffer.alloc(5 * 1024 * 1024 + 1) });
    assert.equal(reply.status, 413);
    assert.equal(reply.headers["x-vercel-error"], "FUNCTION_PAYLOAD_TOO_LARGE");
    await eventually("the refusal is in the log", async () =>
      (await mayfly.run("logs", url, "--function", "api/echo")).stdout.includes("FUNCTION_PAYLOAD_TOO_LARGE") ? true : null,
    );
  });

  for (const [name, status, code, logged] of [
    ["broken", 500, "FUNCTION_INVOCATION_FAILED", /SyntaxError/],
    ["throws", 500, "FUNCTION_INVOCATION_FAILED", /thrown on purpose[\s\S]*throws\.js/],
    ["rejects", 500, "FUNCTION_INVOCATION_FAILED", /rejected on purpose/],
    ["exits", 502, "NO_RESPONSE_FROM_FUNCTION", /leaving/],
    ["never", 504, "FUNCTION_INVOCATION_TIMEOUT", /waiting[\s\S]*FUNCTION_INVOCATION_TIMEOUT/],
  ] as const) {
    it(`answers ${status} for a Function that ${name === "broken" ? "does not parse" : name}, and its log says why`, async () => {
      for (let round = 0; round < 2; round++) {
        const reply = await mayfly.fetch(`${url}/api/${name}`, { headers: { accept: "application/json" } });
        assert.equal(reply.status, status);
        assert.equal(reply.headers["x-vercel-error"], code);
        assert.equal(JSON.parse(reply.text).error.code, code);
      }
      const { stdout } = await mayfly.run("logs", url, "--function", `api/${name}`);
      assert.match(stdout, logged);
      assert.equal((await mayfly.fetch(`${url}/api/fetch`)).status, 200, "its neighbours are unharmed");
    });
  }

  it("sends the first answer of a Function that answers twice", async () => {
    const replies = [await mayfly.fetch(`${url}/api/twice`), await mayfly.fetch(`${url}/api/twice`)];
    assert.deepEqual(
      replies.map(({ status, text }) => [status, text]),
      [
        [200, "first"],
        [200, "first"],
      ],
    );
  });

  it("ascribes lines to the invocation that wrote them", async () => {
    const first = await mayfly.fetch(`${url}/api/talks?word=one`);
    const second = await mayfly.fetch(`${url}/api/talks?word=two`);
    const idOf = (reply: typeof first) => String(reply.headers["x-vercel-id"]).split("::").at(-1)!;
    const lines = await eventually("the lines are stored", async () => {
      const { stdout } = await mayfly.run("logs", url, "--function", "api/talks", "--json");
      const found = stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line || "{}"));
      return found.length >= 4 ? found : null;
    });
    const of = (id: string) => lines.filter(({ invocationId }) => invocationId === id).map(({ text, stream }) => `${stream}: ${text}`);
    assert.deepEqual(of(idOf(first)).toSorted(), ["stderr: complained", "stdout: said one"]);
    assert.deepEqual(of(idOf(second)).toSorted(), ["stderr: complained", "stdout: said two"]);
  });
});

describe("an idle instance", () => {
  it("is frozen between requests, and gone after its time", async () => {
    const mayfly = await startMayfly({ env: { MAYFLY_INSTANCE_IDLE_MS: "1500" } });
    const directory = projectDirectory({
      "api/tick.js":
        "let ticks = 0; setInterval(() => ticks++, 5); const id = Math.random(); module.exports = (req, res) => res.json({ ticks, id });",
    });
    const url = await mayfly.deploy(directory, "--name", "ticking");
    const ask = async () => JSON.parse((await mayfly.fetch(`${url}/api/tick`)).text) as { ticks: number; id: number };
    const first = await ask();
    await new Promise((resolve) => setTimeout(resolve, 600));
    const second = await ask();
    assert.equal(second.id, first.id);
    assert.ok(second.ticks - first.ticks < 30, `${second.ticks - first.ticks} ticks while frozen (120 would be running)`);
    await eventually("a new instance answers", async () => {
      await new Promise((resolve) => setTimeout(resolve, 2000));
      return (await ask()).id === first.id ? null : true;
    });
  });
});
