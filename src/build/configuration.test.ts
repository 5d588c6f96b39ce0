/** The file that configures a project, in each of its forms; programs run in real sandboxes. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { openTestbed, type Files } from "./testbed.ts";

const bed = await openTestbed();
after(() => bed[Symbol.asyncDispose]());

const json = JSON.stringify;
const redirect = (status: number) => (route: object) => "status" in route && route.status === status;

test("vercel.toml says what vercel.json would", async () => {
  const toml = `cleanUrls = true\n[[redirects]]\nsource = "/old"\ndestination = "/new"\nstatusCode = 301\n[functions."api/*.js"]\nmaxDuration = 7\n`;
  const said = {
    cleanUrls: true,
    redirects: [{ source: "/old", destination: "/new", statusCode: 301 }],
    functions: { "api/*.js": { maxDuration: 7 } },
  };
  const files = { "about.html": "", "api/a.js": "module.exports = () => {};" };
  const [byToml, byJson] = await Promise.all([
    bed.plan({ ...files, "vercel.toml": toml }),
    bed.plan({ ...files, "vercel.json": json(said) }),
  ]);
  assert.ok(byToml.routes.some(redirect(301)));
  assert.equal(byToml.job?.steps[0]?.functionSettings.maxDuration, 7);
  assert.deepEqual(byToml, byJson);
});

test("now.json still speaks, and is called deprecated", async () => {
  const plan = await bed.plan({ "now.json": json({ cleanUrls: true }), "about.html": "" });
  assert.deepEqual(Object.keys(plan.outputs), ["about"]);
  assert.deepEqual(plan.warnings, ["now.json is deprecated: call it vercel.json."]);
});

const programs: readonly (readonly [name: string, files: Files])[] = [
  ["vercel.ts", { "vercel.ts": `export const config: { cleanUrls: boolean } = { cleanUrls: process.env.CLEAN === "yes" };` }],
  ["vercel.mts", { "vercel.mts": `const clean = await Promise.resolve(true); export default { cleanUrls: clean };` }],
  [
    "vercel.js",
    {
      "vercel.js": `import { clean } from "./lib/clean.js"; export default { cleanUrls: clean };`,
      "lib/clean.js": "export const clean = true;",
    },
  ],
  [
    "vercel.mjs",
    { "vercel.mjs": `import { readFileSync } from "node:fs"; export const cleanUrls = readFileSync("about.html", "utf8") === "about";` },
  ],
  ["vercel.cjs", { "vercel.cjs": `module.exports = { cleanUrls: require("node:path").sep === "/" };` }],
];
for (const [name, files] of programs) {
  test(`${name} is run for what it exports, and is no file of the site`, async () => {
    const plan = await bed.plan({ ...files, "about.html": "about" }, { buildEnv: { CLEAN: "yes" } });
    assert.deepEqual(
      Object.keys(plan.outputs).filter((path) => !path.startsWith("lib/")),
      ["about"],
    );
  });
}

test("helpers of @vercel/config need no install; a rule with transforms makes all rules routes", async () => {
  const plan = await bed.plan({
    "index.html": "",
    "vercel.ts": `
      import { routes, deploymentEnv, type VercelConfig } from "@vercel/config/v1";
      export const config: VercelConfig = {
        redirects: [routes.redirect("/old/:path*", "/new/:path*", { permanent: true })],
        rewrites: [
          routes.rewrite("/users/:id", "https://example.com/$1", ({ id }) => ({
            requestHeaders: { "x-user": id, authorization: "Bearer " + deploymentEnv("TOKEN") },
          })),
          routes.rewrite("/plain/:id", "/index.html"),
        ],
        headers: [routes.cacheControl("/static/(.*)", { public: true, maxAge: "1 week" })],
      };`,
  });
  const rules = plan.routes.filter((route) => "src" in route);
  const user = rules.find(({ dest }) => dest?.startsWith("https://example.com/") === true);
  assert.match("/users/7", new RegExp(user?.src ?? "^$"));
  assert.deepEqual(
    user?.transforms?.map(({ target, args, env }) => [target?.key, args, env]),
    [
      ["x-user", "$id", undefined],
      ["authorization", "Bearer $TOKEN", ["TOKEN"]],
    ],
  );
  assert.ok(rules.some((route) => new RegExp(route.src).test("/plain/7") && route.dest?.startsWith("/index.html")));
  assert.ok(rules.some((route) => new RegExp(route.src).test("/old/a/b") && route.status === 308));
  const header = rules.find((route) => new RegExp(route.src).test("/static/x.js") && route.headers?.["Cache-Control"] !== undefined);
  assert.equal(header?.continue, true);
});

test("a project below a root directory is configured there", async () => {
  const files = { "apps/web/vercel.ts": `export default { outputDirectory: "out" };`, "apps/web/out/a.html": "a", "vercel.json": "{" };
  const plan = await bed.plan(files, { settings: { rootDirectory: "apps/web" } });
  assert.deepEqual(Object.keys(plan.outputs), ["a.html"]);
});

test("an unchanged source whose program says something else is built again", async () => {
  const files = {
    "package.json": json({ scripts: { build: "mkdir -p public && echo built > public/index.html" } }),
    "vercel.mjs": `export default { redirects: [{ source: "/now", destination: process.env.VERCEL_TO ?? "/a", permanent: false }] };`,
  };
  const first = await bed.build(files);
  const second = await bed.build({ ...files }, { record: first.record, buildEnv: { VERCEL_TO: "/b" } });
  const target = ({ routes }: typeof first) =>
    routes.map((route) => ("headers" in route ? route.headers?.["Location"] : undefined)).find((to) => to);
  assert.deepEqual([target(first), target(second)], ["/a", "/b"]);
});

const refusals: readonly (readonly [name: string, files: Files, message: RegExp])[] = [
  ["two configurations", { "vercel.json": "{}", "vercel.ts": "" }, /^There are vercel\.json and vercel\.ts: /],
  ["what is no TOML", { "vercel.toml": "= 1" }, /^vercel\.toml is not valid TOML: /],
  ["a wrong type, by the file's name", { "vercel.toml": `cleanUrls = "yes"` }, /^vercel\.toml: "cleanUrls" must be true or false/],
  ["a program that throws", { "vercel.ts": `throw new TypeError("no luck");` }, /^vercel\.ts could not be run: TypeError: no luck\.$/],
  ["a program that cannot be parsed", { "vercel.ts": "export default {" }, /^vercel\.ts could not be run: .*\(vercel\.ts:1\)/],
  ["a program that ends itself", { "vercel.ts": `process.exit(3);` }, /^vercel\.ts could not be run: it ended with exit code 3/],
  ["a package that is not installed yet", { "vercel.ts": `import "left-pad";` }, /"left-pad" cannot be imported here/],
  ["a value that is no object", { "vercel.ts": "export default 7;" }, /^vercel\.ts must hold an object/],
  [
    "an error that would tell a secret",
    { "vercel.ts": `throw new Error(process.env.SECRET);` },
    /could not be run: Error: (?!.*topsecret)/,
  ],
];
for (const [name, files, message] of refusals) {
  test(`refused: ${name}`, async () => {
    const asked = bed.plan({ "index.html": "", ...files }, { buildEnv: { SECRET: "topsecret-0123456789" } });
    await assert.rejects(asked, { code: "INVALID_VERCEL_JSON", message });
  });
}

test("a program without end is ended", async () => {
  const asked = bed.plan(
    { "vercel.ts": "await new Promise(() => setInterval(() => {}, 1000));" },
    { config: { configurationTimeoutMs: 1500 } },
  );
  await assert.rejects(asked, { code: "BUILD_TIMEOUT", message: /^vercel\.ts took longer than 1500 ms/ });
  assert.deepEqual(await bed.leftovers(), []);
});
