/**
 * A monorepo for each package manager: a site in `apps/web` with a build script, a Function and an Edge Function, all of
 * which use `packages/ui` and packages of the registry. The package manager itself makes the lock file, on this machine.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import type { PackageManagerName } from "../../src/build/builder.ts";
import { pinned } from "../../src/build/install-plan.ts";
import { createToolchains } from "../../src/build/toolchain.ts";
import { systemClock } from "../../src/clock.ts";
import { projectDirectory } from "../mayfly.ts";
import { writeFiles, type Mayfly } from "../server.ts";

/** How a package of the workspace is asked for, and what makes a lock file. */
interface Manager {
  readonly name: PackageManagerName;
  readonly workspace: string;
  readonly lock: readonly string[];
  readonly files?: Readonly<Record<string, string>>;
  /** In what the log says. */
  readonly says?: RegExp;
  /** It installs what a lock file does not know; Yarn 1 does so in workspaces, `--frozen-lockfile` or not. */
  readonly isLax?: true;
}

const managers = {
  npm: { name: "npm", workspace: "*", lock: ["npm", "install", "--package-lock-only"] },
  pnpm: {
    name: "pnpm",
    workspace: "workspace:*",
    lock: ["pnpm", "install", "--lockfile-only"],
    files: { "pnpm-workspace.yaml": "packages:\n  - apps/*\n  - packages/*\n" },
  },
  yarn: { name: "yarn", workspace: "1.0.0", lock: ["yarn", "install", "--ignore-scripts"], isLax: true },
  "yarn-berry": {
    name: "yarn-berry",
    workspace: "workspace:*",
    lock: ["yarn", "install", "--mode=update-lockfile"],
    files: { ".yarnrc.yml": "nodeLinker: node-modules\n" },
  },
  "yarn-pnp": { name: "yarn-berry", workspace: "workspace:*", lock: ["yarn", "install"], says: /Plug'n'Play/ },
  bun: { name: "bun", workspace: "workspace:*", lock: ["bun", "install", "--lockfile-only"] },
} satisfies Record<string, Manager>;
export const managerNames = Object.keys(managers) as readonly (keyof typeof managers)[];

/** That this machine trusts; package managers bring their own list otherwise. */
const authorities = "/etc/ssl/certs/ca-certificates.crt";
const toolchainDirectory = resolve(import.meta.dirname, "../../node_modules/.cache/mayfly-toolchains");
const run = promisify(execFile);
const json = (value: unknown): string => JSON.stringify(value, null, 2);

export class Monorepo {
  readonly directory: string;
  readonly version: string;
  readonly #manager: Manager;
  readonly #bin: string;
  readonly #registry: string;

  private constructor(directory: string, manager: Manager, bin: string, registry: string) {
    this.directory = directory;
    this.version = pinned[manager.name];
    this.#manager = manager;
    this.#bin = bin;
    this.#registry = registry;
  }

  static async make(name: keyof typeof managers): Promise<Monorepo> {
    const manager: Manager = managers[name];
    const registry = (await run("npm", ["config", "get", "registry"])).stdout.trim();
    const toolchains = createToolchains({ directory: toolchainDirectory, npmRegistry: registry, clock: systemClock });
    const version = pinned[manager.name];
    const bin = join(await toolchains.directory({ name: manager.name, version }), "bin");
    const own = { packageManager: `${manager.name.split("-")[0]}@${version}`, workspaces: ["apps/*", "packages/*"] };
    const directory = projectDirectory({
      "package.json": json({ name: "root", private: true, ...(manager.name === "pnpm" ? { ...own, workspaces: undefined } : own) }),
      "apps/web/vercel.json": json({ outputDirectory: "dist" }),
      "apps/web/build.js": [
        'import { mkdirSync, writeFileSync } from "node:fs";',
        'import { title } from "@w/ui";',
        'import escape from "escape-html";',
        'mkdirSync("dist", { recursive: true });',
        'writeFileSync("dist/index.html", `<h1>${escape(title)}</h1>`);',
      ].join("\n"),
      "apps/web/api/time.ts": [
        'import { createRequire } from "node:module";',
        'import { title } from "@w/ui";',
        'import ms from "ms";',
        'const { version } = createRequire(import.meta.url)("ms/package.json") as { version: string };',
        "export const GET = () => Response.json({ title, minute: ms(60_000), version });",
      ].join("\n"),
      "apps/web/api/edge.ts": [
        'import { title } from "@w/ui";',
        'export const config = { runtime: "edge" };',
        "export default () => new Response(title);",
      ].join("\n"),
      "packages/ui/package.json": json({ name: "@w/ui", version: "1.0.0", type: "module", exports: "./index.js" }),
      "packages/ui/index.js": 'export const title = "a & b";\n',
      ...manager.files,
    });
    const monorepo = new Monorepo(directory, manager, bin, registry);
    await monorepo.depend("2.1.2");
    return monorepo;
  }

  /** @param locks the lock file is made anew */
  async depend(version: string, locks = true): Promise<void> {
    const dependencies = { "@w/ui": this.#manager.workspace, ms: version };
    const web = { name: "web", version: "1.0.0", type: "module", scripts: { build: "node build.js" } };
    writeFiles(this.directory, {
      "apps/web/package.json": json({ ...web, dependencies, devDependencies: { "escape-html": "1.0.3" } }),
    });
    if (!locks) return;
    const [program, ...parameters] = this.#manager.lock as [string, ...string[]];
    const env = {
      PATH: `${this.#bin}:${process.env["PATH"]}`,
      HOME: process.env["HOME"],
      ...(existsSync(authorities) ? { YARN_HTTPS_CA_FILE_PATH: authorities, NODE_EXTRA_CA_CERTS: authorities } : {}),
      npm_config_registry: this.#registry,
      YARN_REGISTRY: this.#registry,
      YARN_NPM_REGISTRY_SERVER: this.#registry,
      YARN_ENABLE_IMMUTABLE_INSTALLS: "0",
      YARN_ENABLE_TELEMETRY: "0",
    };
    await run(join(this.#bin, program), parameters, { cwd: this.directory, env });
    for (const path of ["node_modules", "apps/web/node_modules", "packages/ui/node_modules", ".yarn"])
      rmSync(join(this.directory, path), { recursive: true, force: true });
  }

  /** What a person does next: edits the other package, updates a dependency, and forgets the lock file. */
  async work(mayfly: Mayfly, name: string, log: string): Promise<readonly string[]> {
    if (this.#manager.says !== undefined) assert.match(log, this.#manager.says);
    const text = async (url: string, path: string): Promise<string> => (await mayfly.fetch(url + path)).text;
    writeFiles(this.directory, { "packages/ui/index.js": 'export const title = "edited";\n' });
    const edited = await mayfly.deploy(this.directory, "--name", name);
    assert.match(await text(edited, "/"), /<h1>edited<\/h1>/);
    assert.match(await text(edited, "/api/time"), /"title":"edited".*"2\.1\.2"/);
    assert.equal(await text(edited, "/api/edge"), "edited");
    await this.depend("2.1.3");
    assert.match(await text(await mayfly.deploy(this.directory, "--name", name), "/api/time"), /"2\.1\.3"/);
    if (this.#manager.isLax === true) return ["edited package", "updated lock file"];
    await this.depend("2.1.1", false);
    const refused = await mayfly.run("deploy", this.directory, "--name", name);
    assert.notEqual(refused.code, 0, refused.stderr);
    assert.match(refused.stderr, /INSTALL_FAILED[^]*The lock file does not fit package\.json|The lock file does not fit[^]*INSTALL_FAILED/);
    return ["edited package", "updated lock file", "lock file that does not fit"];
  }
}
