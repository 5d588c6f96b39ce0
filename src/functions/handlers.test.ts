/** What a Function may export, and the helpers it is given. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import type { FunctionSpec } from "../model.ts";
import { openTestDrivers, Stage, type CallOptions } from "./testbed.ts";

const [driver] = await openTestDrivers();
const stage = await Stage.open(driver!);
after(() => stage[Symbol.asyncDispose]());

type Files = Readonly<Record<string, string>>;
type Settings = Partial<FunctionSpec>;

const callOf = async (files: Files, options: CallOptions = {}, settings: Settings = {}) =>
  await stage.call(await stage.deploy(files, settings), options);

describe("what a Function may export", { timeout: 60_000 }, () => {
  const kinds: readonly [string, Files, Settings?][] = [
    ["module.exports = function", { "index.js": "module.exports = (req, res) => res.end('ok');" }],
    ["module.exports.default", { "index.js": "exports.__esModule = true; exports.default = (req, res) => res.end('ok');" }],
    ["default within default", { "index.js": "module.exports = { default: { default: { default: (req, res) => res.end('ok') } } };" }],
    ["export default in .mjs", { "index.mjs": "export default (req, res) => res.end('ok');" }],
    ["export default, found by its syntax", { "index.js": "export default (req, res) => res.end('ok');" }],
    ["export default by package.json", { "index.js": "export default (req, res) => res.end('ok');", "package.json": '{"type":"module"}' }],
    [
      "a module that waits for another, found by its syntax alone",
      {
        "index.js": "const { say } = await import('./say.js'); process.getBuiltinModule('http').createServer(say).listen(3000);",
        "say.js": "exports.say = (req, res) => res.end('ok');",
      },
    ],
    [
      "CommonJS by package.json",
      { "api/index.js": "module.exports = (req, res) => res.end('ok');", "package.json": '{"type":"commonjs"}' },
    ],
    ["beside a package.json that cannot be read", { "index.cjs": "module.exports = (req, res) => res.end('ok');", "package.json": "null" }],
    ["an async function", { "index.js": "module.exports = async (req, res) => { await null; res.end('ok'); };" }],
    ["GET", { "index.mjs": "export const GET = () => new Response('ok');" }],
    ["GET in CommonJS", { "index.js": "exports.GET = async () => new Response('ok');" }],
    ["fetch by default", { "index.mjs": "export default { fetch: (request) => new Response(request instanceof Request ? 'ok' : 'no') };" }],
    ["fetch by name", { "index.mjs": "export const fetch = () => new Response('ok');" }],
    ["a server that listens", { "index.js": "require('http').createServer((req, res) => res.end('ok')).listen(3000);" }],
    [
      "a server that listens late, and uses its address",
      {
        "index.mjs": `
        import { createServer } from "node:http";
        const server = createServer((req, res) => res.end(port === 8080 && server.listening ? "ok" : "no"));
        let port;
        setTimeout(() => server.listen({ port: 8080 }, () => { port = server.address().port; }), 10);`,
      },
    ],
    ["an exported server", { "index.js": "module.exports = require('http').createServer((req, res) => res.end('ok'));" }],
    [
      "an application with listen (Express)",
      {
        "index.js": "const app = (req, res) => res.end(res.json === undefined ? 'ok' : 'no'); app.listen = () => {}; module.exports = app;",
      },
    ],
    ["an application with callback (Koa)", { "index.js": "module.exports = { callback: () => (req, res) => res.end('ok') };" }],
    ["an AWS handler", { "index.js": "exports.main = async () => ({ statusCode: 200, body: 'ok' });" }, { awsHandler: "index.main" }],
    [
      "a file below a directory",
      { "deep/er/index.js": "module.exports = (req, res) => res.end(require('../other'));", "deep/other.js": "module.exports = 'ok';" },
    ],
    ["TypeScript", { "index.ts": "export default (req: unknown, res: { end(text: string): void }): void => res.end('ok');" }],
  ];
  for (const [name, files, settings] of kinds) {
    it(name, async () => {
      assert.deepEqual(await callOf(files, {}, settings).then(({ status, text }) => [status, text]), [200, "ok"]);
    });
  }

  it("runs in the bundle's directory", async () => {
    const { text } = await callOf({
      "api/index.js": "module.exports = (req, res) => res.end(require('fs').readFileSync('data.txt'));",
      "data.txt": "data",
    });
    assert.equal(text, "data");
  });

  it("gives headers as they came and keeps the connection whatever the Function says", async () => {
    const f = await stage.deploy({
      "index.js": `
        let count = 0;
        module.exports = (req, res) => {
          res.setHeader("connection", "close");
          res.setHeader("x-seen", JSON.stringify([req.rawHeaders, Object.keys(req.headers)]));
          if (req.url === "/until-close") { res.removeHeader("transfer-encoding"); res.write("a"); }
          res.end(String(++count));
        };`,
    });
    const { headers, text } = await stage.call(f, { headers: ["x-a", "1"] });
    assert.equal(text, "1");
    assert.equal(headers["connection"], undefined);
    assert.deepEqual(JSON.parse(headers["x-seen"]!), [
      ["host", "test.localhost", "x-a", "1"],
      ["host", "x-a"],
    ]);
    assert.equal((await stage.call(f)).text, "2");
    assert.equal((await stage.call(f, { url: "/until-close" })).text, "a3");
    assert.equal((await stage.call(f)).start, "cold");
  });
});

describe("helpers of (req, res) handlers", { timeout: 60_000 }, () => {
  const echo = { "index.js": "module.exports = (req, res) => res.json({ query: req.query, cookies: req.cookies, body: req.body });" };
  const echoOf = async (options: CallOptions) => JSON.parse((await callOf(echo, options)).text);

  it("req.query, req.cookies", async () => {
    assert.deepEqual((await echoOf({ url: "/?a=1&b=2&b=3&c=%20" })).query, { a: "1", b: ["2", "3"], c: " " });
    assert.deepEqual((await echoOf({ headers: ["cookie", 'a=1; b="two"; c=%41; a=2; d=%zz'] })).cookies, {
      a: "1",
      b: "two",
      c: "A",
      d: "%zz",
    });
  });

  it("req.body by content type", async () => {
    const body = async (type: string, text: string) => (await echoOf({ body: text, headers: ["content-type", type] })).body;
    assert.deepEqual(await body("application/json", '{"a":[1]}'), { a: [1] });
    assert.deepEqual(await body("application/json; charset=utf-8", '"é"'), "é");
    assert.deepEqual(await body("application/x-www-form-urlencoded", "a=1&b=%C3%A9"), { a: "1", b: "é" });
    assert.equal(await body("text/plain", "text"), "text");
    assert.deepEqual(await body("application/octet-stream", "b"), { type: "Buffer", data: [98] });
    assert.equal(await body("image/png", "b"), undefined);
  });

  it("answers 400 to invalid JSON, and only when the body is asked for", async () => {
    const options = { body: "{", headers: ["content-type", "application/json"] };
    assert.deepEqual(await callOf(echo, options).then(({ status, text }) => [status, text]), [400, "Invalid JSON"]);
    assert.equal((await callOf({ "index.js": "module.exports = (req, res) => res.end('ok');" }, options)).text, "ok");
    const reads = {
      "index.js":
        "module.exports = async (req, res) => { let text = ''; for await (const c of req) text += c; res.end(text + req.method); };",
    };
    assert.equal((await callOf(reads, options)).text, "{POST");
  });

  it("res.send: types, length, weak etag, charset", async () => {
    const sent = (expression: string, options?: CallOptions) =>
      callOf({ "index.js": `module.exports = (req, res) => { ${expression} };` }, options);
    const html = await sent("res.send('<p>é')");
    assert.deepEqual(
      [html.headers["content-type"], html.headers["content-length"], html.headers["etag"]],
      ["text/html; charset=utf-8", "5", 'W/"5-1MdT3kEddfKzQeEOphSZtJWvJuY"'.replace(/-.*/, html.headers["etag"]!.slice(4))],
    );
    assert.match(html.headers["etag"]!, /^W\/"5-[\w+/]{27}"$/);
    assert.equal((await sent("res.status(201).json({ a: 1 })")).headers["content-type"], "application/json; charset=utf-8");
    assert.equal((await sent("res.status(201).json({ a: 1 })")).status, 201);
    assert.equal((await sent("res.send(Buffer.from('b'))")).headers["content-type"], "application/octet-stream");
    assert.equal(
      (await sent("res.setHeader('content-type', 'text/css; charset=latin1'); res.send('x')")).headers["content-type"],
      "text/css; charset=utf-8",
    );
    assert.equal((await sent("res.send({ a: 1 })")).text, '{"a":1}');
    const none = await sent("res.status(204).send('x')");
    assert.deepEqual([none.text, none.headers["content-type"]], ["", undefined]);
    const head = await sent("res.send('four')", { method: "HEAD" });
    assert.deepEqual([head.text, head.headers["content-length"]], ["", "4"]);
  });

  it("res.redirect", async () => {
    const redirect = async (...args: unknown[]) => {
      const { status, headers } = await callOf({ "index.js": `module.exports = (req, res) => res.redirect(...${JSON.stringify(args)});` });
      return [status, headers["location"]];
    };
    assert.deepEqual(await redirect("/a"), [307, "/a"]);
    assert.deepEqual(await redirect(301, "/b"), [301, "/b"]);
  });

  it("are absent when not asked for", async () => {
    const { text } = await callOf(
      { "index.js": "module.exports = (req, res) => res.end(typeof res.json + typeof req.query);" },
      {},
      { helpers: false },
    );
    assert.equal(text, "undefinedundefined");
  });
});

describe("Web handlers", { timeout: 60_000 }, () => {
  const web = {
    "index.mjs": `
      export const GET = (request) => new Response(request.method + " " + request.url, { status: 201, headers: [["set-cookie", "a=1"], ["set-cookie", "b=2"], ["x-b", request.headers.get("x-a")]] });
      export const POST = async (request) => Response.json({ text: await request.text(), type: request.headers.get("content-type") });`,
  };

  it("get a Request and give a Response", async () => {
    const f = await stage.deploy(web);
    const { status, headers, body } = await stage.begin(f, {
      url: "/p?q=1",
      headers: ["x-a", "v", "x-forwarded-proto", "https", "x-forwarded-host", "example.com"],
    });
    assert.equal(status, 201);
    assert.deepEqual(
      headers.filter((_, index) => headers[index - 1] === "set-cookie" && index % 2 === 1),
      ["a=1", "b=2"],
    );
    assert.equal(Buffer.concat(await body.toArray()).toString(), "GET https://example.com/p?q=1");
    const post = await stage.call(f, { body: "content", headers: ["content-type", "text/x"] });
    assert.deepEqual(JSON.parse(post.text), { text: "content", type: "text/x" });
  });

  it("answer HEAD by GET, and other methods with 405", async () => {
    const f = await stage.deploy(web);
    const head = await stage.call(f, { method: "HEAD", headers: ["x-a", "v"] });
    assert.deepEqual([head.status, head.text, head.headers["x-b"]], [201, "", "v"]);
    for (const method of ["PUT", "DELETE", "OPTIONS", "PATCH"]) {
      const other = await stage.call(f, { method });
      assert.deepEqual([other.status, other.headers["allow"]], [405, "GET, POST, HEAD"]);
    }
  });

  it("crash when they give no Response", async () => {
    await assert.rejects(callOf({ "index.mjs": "export const GET = () => 'text';" }), { code: "FUNCTION_INVOCATION_FAILED" });
  });
});

describe("AWS handlers", { timeout: 60_000 }, () => {
  it("get an API Gateway event and answer by promise or callback", async () => {
    const source = `
      exports.promise = async (event) => ({ statusCode: 202, headers: { "x-a": "1" }, multiValueHeaders: { "set-cookie": ["a=1", "b=2"] }, body: Buffer.from(JSON.stringify(event)).toString("base64"), isBase64Encoded: true });
      exports.callback = (event, context, callback) => callback(null, { statusCode: 200, body: "called back" });`;
    const { status, text, headers } = await callOf(
      { "index.js": source },
      { url: "/p?a=1", body: "body" },
      { awsHandler: "index.promise" },
    );
    const event = JSON.parse(text);
    assert.deepEqual(
      [status, headers["x-a"], event.path, event.httpMethod, event.queryStringParameters, Buffer.from(event.body, "base64").toString()],
      [202, "1", "/p", "POST", { a: "1" }, "body"],
    );
    assert.equal((await callOf({ "index.js": source }, {}, { awsHandler: "index.callback" })).text, "called back");
  });
});
