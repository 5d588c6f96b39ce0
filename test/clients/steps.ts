/**
 * What people do with the `vercel` client, one step a command, in the order in which they build on each other. Each step
 * runs the unmodified client and then looks at what is true afterwards: at the site, at files, at what the next command says.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { eventually, writeFiles, type Mayfly, type Run } from "../server.ts";
import { runVercel, spawnVercel, type ClientOptions, type Version } from "./clients.ts";

export interface Step {
  /** As in docs/compatibility.md. */
  readonly command: string;
  /** Part of `npm test`; the others run with `npm run test:clients`. */
  readonly core?: boolean;
  /** Versions that have the command; absent: all. */
  readonly versions?: readonly Version[];
  run(world: World): Promise<void>;
}

/** One client, one project, one server. */
export class World {
  readonly mayfly: Mayfly;
  readonly version: Version;
  /** The project's directory. */
  readonly directory: string;
  /** Its name on the server. */
  readonly project: string;
  /** Hosts that steps have made, for the steps after them. */
  readonly hosts: Record<string, string> = {};
  readonly #options: ClientOptions;

  constructor(mayfly: Mayfly, version: Version, directory: string, options: ClientOptions) {
    this.mayfly = mayfly;
    this.version = version;
    this.directory = directory;
    this.project = `compat-${version.split(".", 1)[0]}`;
    this.#options = options;
    writeFiles(directory, projectFiles);
  }

  /** Runs `vercel …` and expects it to end well. */
  async vercel(args: readonly string[], input?: string): Promise<Run> {
    const run = await this.attempt(args, input);
    assert.equal(run.code, 0, `vercel ${args.join(" ")} ended with ${run.code}:\n${run.stdout}\n${run.stderr}`);
    return run;
  }

  attempt(args: readonly string[], input?: string): Promise<Run> {
    return runVercel(this.version, args, { ...this.#options, ...(input !== undefined && { input }) });
  }

  /** Starts `vercel …` and waits until it has printed what is looked for; then ends it. */
  async vercelUntil(args: readonly string[], pattern: RegExp, meanwhile: () => Promise<void>): Promise<void> {
    const child = spawnVercel(this.version, args, this.#options);
    let output = "";
    for (const stream of [child.stdout!, child.stderr!]) stream.on("data", (chunk: Buffer) => (output += chunk));
    try {
      await eventually(`vercel ${args.join(" ")} prints ${pattern}; it printed: ${output}`, async () => {
        if (pattern.test(output)) return true;
        await meanwhile();
        return null;
      });
    } finally {
      child.kill("SIGKILL");
    }
  }

  /** Deploys and gives the host; standard output has the URL and nothing else. */
  async deploy(...flags: string[]): Promise<string> {
    const { stdout } = await this.vercel(["deploy", "--yes", ...flags]);
    assert.match(stdout, /^https:\/\/[\w.-]+$/);
    return new URL(stdout).host;
  }

  /** `vercel build`; this version of the client may know no Node.js that is as new as the server's. */
  async build(): Promise<void> {
    const isOld = this.version === "43.1.0";
    if (isOld) writeFiles(this.directory, { "package.json": '{"engines":{"node":"22.x"}}' });
    await this.vercel(["build", "--yes"]);
    if (isOld) rmSync(join(this.directory, "package.json"));
  }

  async text(host: string, path = "/"): Promise<string> {
    return (await this.mayfly.fetch(`http://${host}${path}`)).text;
  }

  edit(text: string): void {
    writeFiles(this.directory, { "index.html": text });
  }

  get production(): string {
    return `${this.project}.localhost`;
  }
}

const projectFiles = {
  "index.html": "first",
  "api/hello.js": `module.exports = (req, res) => { console.log("logged by hello"); res.end("hello " + (process.env.GREETING || "nobody")); };`,
};

const only60 = ["60.1.3"] as const;

export const steps: readonly Step[] = [
  {
    command: "whoami",
    core: true,
    async run(world) {
      const { stdout } = await world.vercel(["whoami"]);
      assert.equal(stdout.trim(), (await world.mayfly.run("whoami")).stdout.trim());
    },
  },
  {
    command: "teams ls",
    async run(world) {
      const { stdout, stderr } = await world.vercel(["teams", "ls"]);
      assert.ok((stdout + stderr).includes((await world.mayfly.run("whoami")).stdout.trim()));
    },
  },
  {
    command: "link",
    core: true,
    async run(world) {
      await world.vercel(["link", "--yes", "--project", world.project]);
      const link = JSON.parse(readFileSync(join(world.directory, ".vercel/project.json"), "utf8")) as Record<string, string>;
      assert.match(link["projectId"]!, /^prj_/);
    },
  },
  {
    command: "deploy",
    core: true,
    async run(world) {
      world.hosts["first"] = await world.deploy();
      assert.equal(await world.text(world.hosts["first"]), "first");
      assert.equal(await world.text(world.hosts["first"], "/api/hello"), "hello nobody");
      assert.equal(await world.text(world.production), "first", "the first deployment is production");
    },
  },
  {
    command: "deploy --prod",
    core: true,
    async run(world) {
      world.edit("second");
      world.hosts["second"] = await world.deploy("--prod");
      assert.equal(await world.text(world.production), "second");
    },
  },
  {
    command: "deploy --env --build-env",
    core: true,
    async run(world) {
      world.edit("preview");
      world.hosts["preview"] = await world.deploy("--env", "GREETING=you", "--build-env", "B=1");
      assert.equal(await world.text(world.hosts["preview"], "/api/hello"), "hello you");
      assert.equal(await world.text(world.production), "second", "a preview leaves production alone");
    },
  },
  {
    command: "deploy --force",
    async run(world) {
      assert.equal(await world.text(await world.deploy("--force")), "preview");
    },
  },
  {
    command: "deploy --archive=tgz",
    core: true,
    async run(world) {
      world.edit("from an archive");
      const host = await world.deploy("--archive=tgz");
      assert.equal(await world.text(host), "from an archive");
      assert.equal(await world.text(host, "/api/hello"), "hello nobody");
    },
  },
  {
    command: "deploy --no-wait",
    async run(world) {
      world.edit("later");
      world.hosts["unwaited"] = await world.deploy("--no-wait");
    },
  },
  {
    command: "inspect --wait",
    async run(world) {
      const { stdout, stderr } = await world.vercel(["inspect", world.hosts["unwaited"]!, "--wait"]);
      assert.match(stdout + stderr, /Ready/);
      assert.equal(await world.text(world.hosts["unwaited"]!), "later");
    },
  },
  {
    command: "deploy --json",
    versions: only60,
    async run(world) {
      const { stdout } = await world.vercel(["deploy", "--yes", "--json"]);
      const printed = JSON.parse(stdout) as Record<string, string>;
      assert.deepEqual([printed["readyState"], printed["id"]?.slice(0, 4)], ["READY", "dpl_"]);
    },
  },
  {
    command: "pull",
    core: true,
    async run(world) {
      await world.vercel(["pull", "--yes"]);
      assert.ok(existsSync(join(world.directory, ".vercel/project.json")));
      assert.ok(existsSync(join(world.directory, ".vercel/.env.development.local")));
    },
  },
  {
    command: "build",
    async run(world) {
      world.edit("built here");
      await world.build();
      assert.ok(existsSync(join(world.directory, ".vercel/output/config.json")));
    },
  },
  {
    command: "deploy --prebuilt",
    async run(world) {
      const host = await world.deploy("--prebuilt");
      assert.equal(await world.text(host), "built here");
      // The older client builds for an older Node.js, which the server fetches when it is first asked for.
      for (let tries = 0; tries < 10 && (await world.mayfly.fetch(`http://${host}/api/hello`)).status === 503; tries++);
      assert.equal(await world.text(host, "/api/hello"), "hello nobody");
      rmSync(join(world.directory, ".vercel/output"), { recursive: true });
    },
  },
  {
    command: "deploy --prebuilt --archive=tgz",
    async run(world) {
      world.edit("built and packed");
      await world.build();
      const host = await world.deploy("--prebuilt", "--archive=tgz");
      assert.equal(await world.text(host), "built and packed");
      assert.equal(await world.text(host, "/api/hello"), "hello nobody");
      rmSync(join(world.directory, ".vercel/output"), { recursive: true });
    },
  },
  {
    command: "deploy (a build that fails)",
    async run(world) {
      writeFiles(world.directory, { "package.json": '{"scripts":{"build":"echo it is broken here; exit 3"}}' });
      const run = await world.attempt(["deploy", "--yes"]);
      rmSync(join(world.directory, "package.json"));
      assert.equal(run.code, 1);
      // Older clients print no logs, but why it failed.
      assert.match(run.stdout + run.stderr, world.version === "43.1.0" ? /ended with exit code 3/ : /it is broken here/);
    },
  },
  {
    command: "inspect",
    core: true,
    async run(world) {
      const { stdout, stderr } = await world.vercel(["inspect", world.hosts["second"]!]);
      assert.match(stdout + stderr, /production/);
      assert.match(stdout + stderr, /λ|api\/hello/);
    },
  },
  {
    command: "inspect --logs",
    core: true,
    async run(world) {
      writeFiles(world.directory, {
        "package.json": '{"scripts":{"build":"echo a line of the build; mkdir -p public; echo built > public/index.html"}}',
      });
      world.hosts["scripted"] = await world.deploy();
      rmSync(join(world.directory, "package.json"));
      const { stdout, stderr } = await world.vercel(["inspect", world.hosts["scripted"], "--logs"]);
      assert.match(stdout + stderr, /a line of the build/);
    },
  },
  {
    command: "ls",
    core: true,
    async run(world) {
      const { stdout, stderr } = await world.vercel(["ls"]);
      assert.ok((stdout + stderr).includes(world.hosts["scripted"]!), stdout + stderr);
    },
  },
  {
    command: "logs",
    core: true,
    versions: only60,
    async run(world) {
      await world.text(world.hosts["second"]!, "/api/hello");
      await eventually("vercel logs has the Function's line", async () => {
        const { stdout } = await world.vercel(["logs", world.hosts["second"]!, "--no-follow", "--json"]);
        return stdout.includes("logged by hello") ? true : null;
      });
    },
  },
  {
    command: "logs --follow",
    core: true,
    async run(world) {
      const host = world.hosts["second"]!;
      const flags = world.version === "43.1.0" ? [] : ["--follow"];
      await world.vercelUntil(["logs", host, ...flags], /logged by hello/, async () => void (await world.text(host, "/api/hello")));
    },
  },
  {
    command: "alias set",
    core: true,
    async run(world) {
      world.hosts["alias"] = `${world.project}-beta.localhost`;
      await world.vercel(["alias", "set", world.hosts["preview"]!, world.hosts["alias"]]);
      assert.equal(await world.text(world.hosts["alias"]), "preview");
    },
  },
  {
    command: "alias ls",
    core: true,
    async run(world) {
      const { stdout, stderr } = await world.vercel(["alias", "ls"]);
      assert.ok((stdout + stderr).includes(world.hosts["alias"]!));
    },
  },
  {
    command: "alias rm",
    core: true,
    async run(world) {
      await world.vercel(["alias", "rm", world.hosts["alias"]!, "--yes"]);
      assert.equal((await world.mayfly.fetch(`http://${world.hosts["alias"]}/`)).status, 404);
    },
  },
  {
    command: "rollback",
    core: true,
    async run(world) {
      await world.vercel(["rollback", world.hosts["first"]!, "--yes"]);
      assert.equal(await world.text(world.production), "first");
    },
  },
  {
    command: "rollback status",
    async run(world) {
      const { stdout, stderr } = await world.vercel(["rollback", "status"]);
      assert.ok((stdout + stderr).length > 0);
    },
  },
  {
    command: "promote",
    core: true,
    async run(world) {
      await world.vercel(["promote", world.hosts["second"]!, "--yes"]);
      assert.equal(await world.text(world.production), "second");
    },
  },
  {
    command: "promote (a preview: built again)",
    async run(world) {
      await world.vercel(["promote", world.hosts["preview"]!, "--yes"]);
      await eventually("the preview's content is production", async () =>
        (await world.text(world.production)) === "preview" ? true : null,
      );
    },
  },
  {
    command: "redeploy",
    async run(world) {
      const { stdout } = await world.vercel(["redeploy", world.hosts["second"]!]);
      assert.match(stdout, /^https:\/\//);
      assert.equal(await world.text(new URL(stdout.trim()).host), "second");
    },
  },
  {
    command: "env add",
    core: true,
    async run(world) {
      await world.vercel(["env", "add", "GREETING", "production"], "secret value");
      await world.vercel(["env", "add", "GREETING", "development"], "for developers");
    },
  },
  {
    command: "env ls",
    core: true,
    async run(world) {
      const { stdout, stderr } = await world.vercel(["env", "ls"]);
      assert.match(stdout + stderr, /GREETING/);
      assert.doesNotMatch(stdout + stderr, /secret value/);
      assert.equal(await world.text(await world.deploy("--prod"), "/api/hello"), "hello secret value");
    },
  },
  {
    command: "env pull",
    core: true,
    async run(world) {
      await world.vercel(["env", "pull", ".env.pulled", "--yes"]);
      assert.match(readFileSync(join(world.directory, ".env.pulled"), "utf8"), /GREETING="?for developers"?/);
      rmSync(join(world.directory, ".env.pulled"));
    },
  },
  {
    command: "env update",
    versions: only60,
    async run(world) {
      await world.vercel(["env", "update", "GREETING", "development", "--yes"], "for all developers");
      await world.vercel(["env", "pull", ".env.pulled", "--yes"]);
      assert.match(readFileSync(join(world.directory, ".env.pulled"), "utf8"), /for all developers/);
      rmSync(join(world.directory, ".env.pulled"));
    },
  },
  {
    command: "env rm",
    core: true,
    async run(world) {
      await world.vercel(["env", "rm", "GREETING", "production", "--yes"]);
      await world.vercel(["env", "rm", "GREETING", "development", "--yes"]);
      const { stdout, stderr } = await world.vercel(["env", "ls"]);
      assert.doesNotMatch(stdout + stderr, /GREETING/);
    },
  },
  {
    command: "domains add",
    async run(world) {
      world.hosts["domain"] = `${world.project}.example.test`;
      // Older clients take the project that the directory is linked to.
      await world.vercel(["domains", "add", world.hosts["domain"], ...(world.version === "43.1.0" ? [] : [world.project])]);
      assert.equal((await world.mayfly.fetch(`http://${world.hosts["domain"]}/`)).text, await world.text(world.production));
    },
  },
  {
    command: "domains ls",
    async run(world) {
      const { stdout, stderr } = await world.vercel(["domains", "ls"]);
      assert.ok((stdout + stderr).includes(world.hosts["domain"]!), stdout + stderr);
    },
  },
  {
    command: "domains rm",
    async run(world) {
      await world.vercel(["domains", "rm", world.hosts["domain"]!, "--yes"]);
      assert.equal((await world.mayfly.fetch(`http://${world.hosts["domain"]}/`)).status, 404);
    },
  },
  {
    command: "rm",
    core: true,
    async run(world) {
      await world.vercel(["rm", world.hosts["scripted"]!, "--yes"]);
      assert.equal((await world.mayfly.fetch(`http://${world.hosts["scripted"]}/`)).status, 404);
    },
  },
  {
    command: "project ls",
    async run(world) {
      const { stdout, stderr } = await world.vercel(["project", "ls"]);
      assert.ok((stdout + stderr).includes(world.project));
    },
  },
  {
    command: "project add",
    async run(world) {
      await world.vercel(["project", "add", `${world.project}-made`]);
      const { stdout, stderr } = await world.vercel(["project", "ls"]);
      assert.ok((stdout + stderr).includes(`${world.project}-made`));
    },
  },
  {
    command: "project rm",
    core: true,
    async run(world) {
      await world.vercel(["project", "rm", world.project], "y\n");
      assert.equal((await world.mayfly.fetch(`http://${world.production}/`)).status, 404);
    },
  },
];
