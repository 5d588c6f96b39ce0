/** The work on Git hosts in one process, with a real store, real git and fake hosts; builds are only queued. The test owns the time. */
import { join } from "node:path";
import { atEnd } from "../../test/at-end.ts";
import { FakeGithub } from "../../test/git/fake-github.ts";
import { ManualClock } from "../../test/manual-clock.ts";
import { scratchDirectory } from "../../test/scratch.ts";
import { openDiskBlobs } from "../blobs/disk.ts";
import { loadConfig } from "../config.ts";
import type { DeployContext } from "../deploy/deploy.ts";
import { BuildQueue } from "../deploy/queue.ts";
import { openSqliteLogs } from "../logs/sqlite.ts";
import { noSettings, type Project } from "../model.ts";
import { openGit } from "../control-plane.ts";
import { openSeal } from "../store/seal.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import { ensureProject } from "../store/projects.ts";
import { ensureFirstIdentity } from "../store/teams.ts";
import type { Git } from "./git.ts";
import { connect } from "./connect.ts";

export interface GitTestbed {
  readonly github: FakeGithub;
  readonly clock: ManualClock;
  readonly context: DeployContext;
  readonly project: Project;
  readonly connectionId: string;
  /** Deployments that were begun. */
  readonly built: string[];
  /** The present one; {@link restart} makes another on the same data. */
  git(): Git;
  /** Ends it as a crash would, as far as the store is concerned, and starts another. */
  restart(): Promise<void>;
}

export async function openGitTestbed(env: Readonly<Record<string, string>> = {}): Promise<GitTestbed> {
  const github = await FakeGithub.open();
  const directory = scratchDirectory();
  const clock = new ManualClock();
  const config = loadConfig({ data: directory }, { MAYFLY_GITHUB_URLS: github.url, ...env });
  const store = await openSqliteStore({ path: join(directory, "mayfly.db") });
  const logs = await openSqliteLogs({ path: join(directory, "logs.db"), clock, linesMax: 1000, requestsMax: 1000, bufferLinesMax: 1000 });
  const context = {
    config,
    clock,
    store,
    blobs: openDiskBlobs({ directory: join(directory, "blobs") }),
    logs,
    seal: openSeal(join(directory, "secret.key")),
    workRoot: join(directory, "builds"),
  } as unknown as DeployContext; // nothing is built, so there is neither sandbox nor tool
  const built: string[] = [];
  const open = () => {
    const queue = new BuildQueue({
      concurrency: 1,
      waitingMax: 1000,
      run: async (id) => void built.push(id),
      supersede: async () => {},
      log: () => {},
    });
    const git = openGit(
      context,
      queue,
      (host) => `http://${host}:3000`,
      () => {},
    );
    git.start();
    return git;
  };
  let git = open();
  atEnd(async () => {
    await git.close();
    await logs.close();
    await store.close();
  });
  const { team, user } = await ensureFirstIdentity(store, "ann");
  const { project } = await ensureProject(store, team.id, "shop", noSettings, clock.now());
  github.repository("ann/none");
  const { connection } = await connect(git.context, project, user.id, {
    repository: github.addressOf("ann/shop"),
    token: github.token,
    appId: null,
    productionBranch: null,
  });
  return {
    github,
    clock,
    context,
    project,
    connectionId: connection.id,
    built,
    git: () => git,
    async restart() {
      await git.close();
      git = open();
    },
  };
}
