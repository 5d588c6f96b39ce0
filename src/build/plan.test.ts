/** What there is to build: a table of projects. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { BuildStep } from "./builder.ts";
import type { Plan } from "./plan.ts";
import { openTestbed } from "./testbed.ts";
import type { BuildOptions, Files, Testbed } from "./testbed.ts";

let bed: Testbed;
before(async () => {
  bed = await openTestbed();
});
after(() => bed[Symbol.asyncDispose]());

const steps = (plan: Plan): string[] =>
  (plan.job?.steps ?? []).map(
    (step: BuildStep) =>
      `${step.builder} ${step.use || step.entrypoint}${step.useVersion && `@${step.useVersion}`}${step.output === "" ? "" : ` → ${step.output}`}`,
  );

interface Row {
  readonly name: string;
  readonly files: Files;
  readonly options?: BuildOptions;
  readonly framework?: string | null;
  readonly outputs?: readonly string[];
  readonly steps?: readonly string[];
  readonly installs?: readonly string[];
}

const json = (value: unknown): string => JSON.stringify(value);

const rows: readonly Row[] = [
  {
    name: "static files need no process",
    files: {
      "index.html": "hi",
      "a/b.css": "",
      "vercel.json": "{}",
      ".env": "S=1",
      ".npmrc": "",
      "node_modules/x/y.js": "",
      "README.md": "",
    },
    outputs: ["README.md", "a/b.css", "index.html"],
  },
  { name: "public/ is the site when it is there", files: { "public/index.html": "hi", "notes.txt": "" }, outputs: ["index.html"] },
  {
    name: "api/ beside static files",
    files: {
      "index.html": "",
      "README.md": "",
      "package.json": "{}",
      "api/a.js": "",
      "api/b/[id].ts": "",
      "api/_lib.js": "",
      "api/t.d.ts": "",
    },
    outputs: ["index.html"],
    steps: ["node api/a.js → api/a", "node api/b/[id].ts → api/b/[id]"],
  },
  {
    name: "api/ beside public/",
    files: { "public/x.txt": "", "api/a.mjs": "", "other.txt": "" },
    outputs: ["x.txt"],
    steps: ["node api/a.mjs → api/a"],
  },
  {
    name: "a build script",
    files: { "package.json": json({ scripts: { build: "make" }, devDependencies: { ms: "1" } }), "src/x": "" },
    steps: ["script package.json"],
    installs: ["npm loose in "],
  },
  {
    name: "Next.js with api/",
    files: {
      "package.json": json({ dependencies: { next: "16" } }),
      "package-lock.json": "{}",
      "pages/index.js": "",
      "api/date.js": "",
      "static/logo.svg": "",
    },
    framework: "nextjs",
    steps: ["node api/date.js → api/date", "vercel @vercel/next"],
    installs: ["npm frozen in "],
  },
  {
    name: "an Express server",
    files: { "package.json": json({ dependencies: { express: "5" } }), "index.js": 'const e = require("express")', "public/a.txt": "" },
    framework: "express",
    outputs: ["a.txt"],
    steps: ["node index.js → index"],
    installs: ["npm loose in "],
  },
  {
    name: "a file that makes the application, and one that has it listen",
    files: {
      "package.json": json({ dependencies: { express: "5" } }),
      "src/app.ts": 'import express from "express"; export const app = express();',
      "src/server.ts": 'import { app } from "./app"; app.listen(3000);',
    },
    framework: "express",
    steps: ["node src/server.ts → index"],
    installs: ["npm loose in "],
  },
  {
    name: "a plain server of any usual name",
    files: { "app.js": 'require("node:http").createServer().listen(3000)', "public/a.txt": "" },
    framework: "node",
    outputs: ["a.txt"],
    steps: ["node app.js → index"],
  },
  {
    name: "a plain server that package.json starts",
    files: {
      "package.json": json({ scripts: { build: "tsc", start: "node --enable-source-maps bin/www.js" } }),
      "bin/www.js": "s.listen(1)",
    },
    framework: "node",
    steps: ["node bin/www.js → index"],
  },
  {
    name: "a community runtime",
    files: { "api/a.php": "", "vercel.json": json({ functions: { "api/*.php": { runtime: "vercel-php@0.9.0" } } }) },
    steps: ["vercel vercel-php@0.9.0"],
  },
  {
    name: "a page with scripts is no server",
    files: { "index.html": "", "app.js": "socket.listen(1)", "package.json": "{}" },
    outputs: ["app.js", "index.html"],
    steps: [],
  },
  {
    name: "a static framework",
    files: { "package.json": json({ dependencies: { vite: "7" }, scripts: { build: "vite build" } }), "yarn.lock": "" },
    framework: "vite",
    steps: ["script package.json"],
    installs: ["yarn frozen in "],
  },
  {
    name: "a project in a directory of a workspace, with its lock file above",
    files: {
      "pnpm-lock.yaml": "lockfileVersion: '6.0'\n",
      "package.json": "{}",
      "apps/web/package.json": json({ dependencies: { ms: "2" } }),
      "apps/web/api/a.js": "",
      "apps/web/index.html": "",
      "outside.html": "",
    },
    options: { settings: { rootDirectory: "apps/web" } },
    outputs: ["index.html"],
    steps: ["node api/a.js → api/a"],
    installs: ["pnpm frozen in "],
  },
  {
    name: "dependencies of a Function's own package.json",
    files: { "api/package.json": json({ dependencies: { ms: "2" } }), "api/bun.lock": "", "api/a.js": "" },
    steps: ["node api/a.js → api/a"],
    installs: ["bun frozen in api"],
  },
  {
    name: "an empty install command installs nothing",
    files: { "vercel.json": json({ installCommand: "" }), "package.json": json({ dependencies: { ms: "2" } }), "api/a.js": "" },
    steps: ["node api/a.js → api/a"],
  },
  {
    name: "legacy builds keep extensions",
    files: {
      "vercel.json": json({
        builds: [
          { src: "*.js", use: "@vercel/node" },
          { src: "www/**", use: "@now/static" },
        ],
      }),
      "a.js": "",
      "www/i.html": "",
      "package.json": "{}",
    },
    outputs: ["www/i.html"],
    steps: ["node a.js → a.js"],
  },
  {
    name: "a link in the source is the file that it leads to",
    files: { "a.txt": "a", "b.txt": { link: "a.txt" }, "c.txt": { link: "../../etc/passwd" } },
    outputs: ["a.txt", "b.txt"],
  },
];

for (const row of rows) {
  test(row.name, async () => {
    const plan = await bed.plan(row.files, row.options);
    assert.equal(plan.framework, row.framework ?? null);
    assert.deepEqual(Object.keys(plan.outputs).sort(), row.outputs ?? []);
    assert.deepEqual(steps(plan).sort(), row.steps ?? []);
    const installs = (plan.job?.installs ?? []).map((one) => `${one.manager.name} ${one.frozen ? "frozen" : "loose"} in ${one.directory}`);
    assert.deepEqual(installs, row.installs ?? []);
  });
}

test("ten times the static files take about ten times the work, not a hundred times", async () => {
  const site = (count: number): Files => ({
    ...Object.fromEntries(Array.from({ length: count }, (_, index) => [`site/${index % 100}/${index}.html`, "x"])),
    "api/a.js": "",
  });
  // CPU time of this process: other work on the machine is not counted. The least of three, without a collection's share.
  const planned = async (count: number): Promise<number> => {
    const times: number[] = [];
    for (let round = 0; round < 3; round++) {
      const begun = process.cpuUsage();
      const plan = await bed.plan(site(count));
      const { user, system } = process.cpuUsage(begun);
      assert.equal(Object.keys(plan.outputs).length, count);
      times.push((user + system) / 1000);
    }
    return Math.min(...times);
  };
  await planned(100);
  const few = await planned(1000);
  const many = await planned(10_000);
  assert.ok(many < 30 * few, `${few} ms for 1,000 files, ${many} ms for 10,000`);
});

test("more files in api/ than can be compared with each other are refused at once", async () => {
  const files = (count: number): Files => Object.fromEntries(Array.from({ length: count }, (_, index) => [`api/${index}.js`, ""]));
  await assert.rejects(bed.plan(files(20_000)), { code: "BUILD_FAILED", message: /20000 files in api\// });
  await assert.rejects(bed.plan({ ...files(1000), ...Object.fromEntries(Array.from({ length: 30_000 }, (_, at) => [`${at}.txt`, ""])) }), {
    code: "BUILD_FAILED",
    message: /30000 at the top/,
  });
});

test("cleanUrls: pages lose their extension, patterns are case-sensitive", async () => {
  const plan = await bed.plan({ "vercel.json": json({ cleanUrls: true }), "about.html": "", "index.html": "" });
  assert.deepEqual(Object.keys(plan.outputs).sort(), ["about", "index"]);
  assert.equal(plan.outputs["about"]?.contentType, "text/html; charset=utf-8");
  assert.equal(plan.caseSensitive, true);
  assert.ok(plan.routes.some((route) => "src" in route && route.status === 308));
});

test("rewrites come after the file system, before the 404 of api/", async () => {
  const plan = await bed.plan({ "vercel.json": json({ rewrites: [{ source: "/api/(.*)", destination: "/api/all" }] }), "api/all.js": "" });
  const kinds = plan.routes.map((route) => ("handle" in route ? route.handle : (route.dest ?? route.status)));
  assert.deepEqual(kinds.slice(0, 3), ["filesystem", "/api/all", 404]);
});

test("every key that Vercel knows is taken; what has no effect is said", async () => {
  const plan = await bed.plan({
    "index.html": "",
    "api/a.js": "",
    "vercel.json": json({
      $schema: "https://openapi.vercel.sh/vercel.json",
      ...{
        version: 2,
        name: "x",
        alias: ["x.test"],
        scope: "team",
        public: true,
        relatedProjects: ["prj_1"],
        fluid: true,
        bunVersion: "1.x",
      },
      ...{ regions: ["iad1"], functionFailoverRegions: ["sfo1"], env: { ANY_NAME: "1" }, build: { env: { ANY: "1" } } },
      github: { silent: true, autoAlias: false },
      git: { deploymentEnabled: { "dependabot/*": false } },
      functions: {
        "api/a.js": { supportsCancellation: true, architecture: "arm64", experimentalTriggers: [{ type: "queue/v2beta", topic: "t" }] },
      },
      rewrites: [
        {
          source: "/a",
          destination: "/b",
          has: [{ type: "query", key: "k", value: { pre: "x" } }],
          missing: [{ type: "host", value: "h" }],
        },
        {
          ...{ source: "/c", destination: "/d", respectOriginCacheControl: true },
          transforms: [{ type: "request.path", op: "set", args: "/y" }],
        },
      ],
      images: { sizes: [64], localPatterns: [{ pathname: "/a/**", search: "" }] },
      crons: [{ path: "/a", schedule: "0 0 * * *" }],
    }),
  });
  for (const key of ["fluid", "bunVersion", "functionFailoverRegions"]) {
    assert.ok(plan.warnings.includes(`vercel.json: "${key}" has no effect here.`), key);
  }
  for (const key of ["services", "experimentalServices", "proxy"]) {
    await assert.rejects(bed.plan({ a: "", "vercel.json": json({ [key]: {} }) }), { code: "BUILD_OUTPUT_UNSUPPORTED" });
  }
});

test("a repository's own Turborepo or Nx builds its projects, unless they say how", async () => {
  const app = { "apps/web/package.json": json({ name: "web", scripts: { build: "build" } }) };
  const settings = { rootDirectory: "apps/web" };
  const commandOf = async (files: Files, more: object = {}) =>
    (await bed.plan({ ...app, ...files }, { settings: { ...settings, ...more } })).job?.settings.buildCommand;
  const turbo = { "turbo.json": json({ tasks: { build: {} } }), "package.json": json({ devDependencies: { turbo: "^2.0.0" } }) };
  assert.equal(await commandOf(turbo), "turbo run build");
  assert.equal(
    await commandOf({ ...turbo, "package.json": json({ devDependencies: { turbo: "1.5.0" } }) }),
    "cd ../.. && turbo run build --filter={apps/web}...",
  );
  const nx = { "nx.json": json({ targetDefaults: { build: {} } }), "package.json": json({ devDependencies: { nx: "20.0.0" } }) };
  assert.equal(await commandOf(nx), "cd ../.. && npx nx build web");
  assert.equal(await commandOf(turbo, { buildCommand: "own" }), "own");
  assert.equal(await commandOf({ ...turbo, "apps/web/vercel.json": json({ buildCommand: "own" }) }), "own");
  for (const without of [{ "package.json": "{}" }, { "turbo.json": "{" }, { "turbo.json": json({ tasks: {} }) }]) {
    assert.equal(await commandOf({ ...turbo, ...without }), null);
  }
  const plan = await bed.plan({ ...app, ...turbo }, { settings });
  assert.ok(plan.warnings.includes('The repository is built by Turborepo: the build command is "turbo run build".'));
});

test("a member of a workspace without a lock file is installed where that would lie", async () => {
  const placeOf = async (workspaces: unknown) => {
    const files = {
      "package.json": json({ workspaces }),
      "apps/web/package.json": json({ dependencies: { a: "1" }, scripts: { build: "b" } }),
    };
    const { job } = await bed.plan(files, { settings: { rootDirectory: "apps/web" } });
    return job?.installs.map(({ directory }) => directory);
  };
  assert.deepEqual(await placeOf(["packages/*", "./apps/*/"]), [""]);
  assert.deepEqual(await placeOf({ packages: ["apps/web"] }), [""]);
  assert.deepEqual(await placeOf(["packages/*"]), ["apps/web"]);
  assert.deepEqual(await placeOf(7), ["apps/web"]);
});

test("env, build.env and regions of vercel.json", async () => {
  const said = { env: { A: "1" }, build: { env: { B: "2" } }, regions: ["fra1"] };
  const { env, buildEnv, regions } = await bed.plan({ "index.html": "", "vercel.json": json(said) });
  assert.deepEqual({ env, build: { env: buildEnv }, regions }, said);
});

const refusals: readonly (readonly [name: string, files: Files, code: string, message: RegExp])[] = [
  ["not JSON", { "vercel.json": "{", a: "" }, "INVALID_VERCEL_JSON", /not valid JSON/],
  ["a wrong type", { "vercel.json": json({ cleanUrls: "yes" }), a: "" }, "INVALID_VERCEL_JSON", /"cleanUrls" must be true or false/],
  [
    "a rule without source",
    { "vercel.json": json({ redirects: [{ destination: "/" }] }), a: "" },
    "INVALID_VERCEL_JSON",
    /"redirects\[0\]\.source"/,
  ],
  [
    "an environment of numbers",
    { "vercel.json": json({ env: { A: 1 } }), a: "" },
    "INVALID_VERCEL_JSON",
    /"env" must be an object of strings/,
  ],
  [
    "a secret of old",
    { "vercel.json": json({ build: { env: { DB: "@db-url" } } }), a: "" },
    "INVALID_VERCEL_JSON",
    /"build\.env\.DB" names the secret "@db-url".*mayfly env add DB/,
  ],
  [
    "a source that is no pattern",
    { "vercel.json": json({ rewrites: [{ source: "/(", destination: "/" }] }), a: "" },
    "INVALID_VERCEL_JSON",
    /pattern|regular/i,
  ],
  [
    "a glob that matches nothing",
    { "vercel.json": json({ functions: { "api/x.js": { memory: 256 } } }), "api/a.js": "" },
    "INVALID_VERCEL_JSON",
    /doesn't match/,
  ],
  [
    "memory that is no number",
    { "vercel.json": json({ functions: { "api/a.js": { memory: "1" } } }), "api/a.js": "" },
    "INVALID_VERCEL_JSON",
    /memory/,
  ],
  ...[
    "{a,b}".repeat(40),
    "{1..9000000}",
    "{a..z}{a..z}",
    `*a`.repeat(30),
    "+(a|aa)".repeat(9),
    "@(a|b)".repeat(30),
    "**/a/".repeat(20),
  ].flatMap((glob): [string, Files, string, RegExp][] => [
    [
      `functions by a glob that takes for ever: ${glob.slice(0, 20)}`,
      { "vercel.json": json({ functions: { [`api/${glob}.js`]: { memory: 256 } } }), [`api/${"a".repeat(200)}.js`]: "" },
      "INVALID_VERCEL_JSON",
      /"functions" → "api\/.*(alternatives|stars|group|\*\*)/,
    ],
    [
      `builds by a glob that takes for ever: ${glob.slice(0, 20)}`,
      { "vercel.json": json({ builds: [{ src: `api/${glob}.js`, use: "@vercel/node" }] }), [`api/${"a".repeat(200)}.js`]: "" },
      "INVALID_VERCEL_JSON",
      /"builds\[0\]\.src"/,
    ],
  ]),
  ["an unknown key", { "vercel.json": json({ rewrite: [] }), a: "" }, "INVALID_VERCEL_JSON", /"rewrite"\. Did you mean "rewrites"/],
  ["a key that is like no other", { "vercel.json": json({ zebra: 1 }), a: "" }, "INVALID_VERCEL_JSON", /property "zebra"\. Remove it/],
  ["a key that every object has", { "vercel.json": '{"__proto__":{"a":1}}', a: "" }, "INVALID_VERCEL_JSON", /"__proto__"/],
  ...(
    [
      [
        { functions: { "api/a.js": { maxDurations: 5 } } },
        /functions\["api\/a\.js"\] should not .*"maxDurations"\. Did you mean "maxDuration"/,
      ],
      [{ rewrites: [{ source: "/a", destination: "/b", permenant: true }] }, /rewrites\[0\] .*"permenant"/],
      [{ redirects: [{ source: "/a", destination: "/b", permenant: true }] }, /redirects\[0\] .*Did you mean "permanent"/],
      [
        { headers: [{ source: "/a", headers: [{ name: "a", value: "b" }] }] },
        /headers\[0\]\.headers\[0\] .*"name"\. It may have "key", "value"/,
      ],
      [{ rewrites: [{ source: "/a", destination: "/b", has: [{ type: "host", val: "x" }] }] }, /rewrites\[0\]\.has\[0\] .*"value"/],
      [{ routes: [{ src: "/a", dst: "/b" }] }, /routes\[0\] .*Did you mean "dest"/],
      [{ crons: [{ path: "/a", scedule: "0 0 * * *" }] }, /crons\[0\] .*"schedule"/],
      [{ images: { sizes: [64], remotePatterns: [{ host: "a.b" }] } }, /images\.remotePatterns\[0\] .*"host".*"hostname"/],
      [{ git: { deploymentEnable: false } }, /git .*"deploymentEnabled"/],
      [{ builds: [{ src: "a", use: "@vercel/static", conf: {} }] }, /builds\[0\] .*"config"/],
    ] as const
  ).map(([value, message]): [string, Files, string, RegExp] => [
    `an unknown key within ${Object.keys(value).join()}`,
    { "vercel.json": json(value), "api/a.js": "", a: "" },
    "INVALID_VERCEL_JSON",
    message,
  ]),
  ["a language without builder", { "api/a.rb": "" }, "BUILDER_NOT_FOUND", /api\/a\.rb/],
  [
    "a builder that is no package",
    { "vercel.json": json({ builds: [{ src: "a.x", use: "file:../../builder" }] }), "a.x": "" },
    "BUILDER_NOT_FOUND",
    /file:/,
  ],
  ["two Functions at one path", { "api/[a].js": "", "api/[b].js": "" }, "BUILD_FAILED", /conflicting/],
  ["a package.json that is no JSON", { "package.json": "{", "index.html": "" }, "BUILD_FAILED", /package\.json/],
];
for (const [name, files, code, message] of refusals) {
  test(`refuses ${name}`, async () => {
    await assert.rejects(bed.plan(files), (error: Error & { code?: string }) => {
      assert.equal(error.code, code);
      assert.match(error.message, message);
      return true;
    });
  });
}

test("refuses a root directory that is not there, or outside", async () => {
  await assert.rejects(bed.plan({ a: "" }, { settings: { rootDirectory: "apps/x" } }), { code: "BUILD_FAILED" });
  await assert.rejects(bed.plan({ a: "" }, { settings: { rootDirectory: "../x" } }), { code: "invalid_path" });
});
