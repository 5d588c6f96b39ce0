/** What the work on Git hosts needs; platform.ts makes it. And the one place where its secrets are opened. */
import type { DeployContext } from "../deploy/deploy.ts";
import type { BuildQueue } from "../deploy/queue.ts";
import { MayflyError } from "../errors.ts";
import type { GitConnection, GitSource } from "../model.ts";
import { findGitApp, findGitSecrets, gitSecretPlace } from "../store/git-connections.ts";
import type { GitAccess, GitHost, RemoteRepository } from "./git-host.ts";
import type { HostFetch } from "./host-fetch.ts";
import type { Mirrors } from "./mirror.ts";
import type { GitHostAddresses } from "./remote.ts";

export interface GitContext {
  readonly deploy: DeployContext;
  readonly queue: BuildQueue;
  /** A driver is loaded when it is first needed: GitLab's takes a fifth of a second. */
  readonly host: (provider: GitSource["provider"]) => Promise<GitHost>;
  readonly mirrors: Mirrors;
  readonly addresses: GitHostAddresses;
  readonly fetch: HostFetch;
  readonly publicUrlOf: (host: string) => string;
  readonly log: (line: string) => void;
}

/**
 * How a connection's repository is reached.
 * @throws MayflyError git_refused when its App is gone
 */
export async function accessOf({ deploy: { store, seal } }: GitContext, connection: GitConnection): Promise<GitAccess> {
  const { id, baseUrl, appId, installationId } = connection;
  if (appId !== null && installationId !== null) {
    const app = await findGitApp(store, appId);
    if (app === null)
      throw new MayflyError("git_refused", "The App that this project was connected by has been removed. Connect it again.");
    return {
      kind: "app",
      baseUrl,
      appId: app.appId,
      privateKey: seal.open(app.privateKey, gitSecretPlace(appId, "privateKey")),
      installationId,
    };
  }
  const secrets = await findGitSecrets(store, id);
  const token = secrets?.token ?? null;
  return { kind: "token", baseUrl, token: token === null ? "" : seal.open(token, gitSecretPlace(id, "token")) };
}

/** A connection's repository, as its record has it. */
export function repositoryOf(connection: GitConnection): RemoteRepository {
  const { repositoryId: id, repository: path, productionBranch: defaultBranch } = connection;
  return { id, path, defaultBranch, private: true };
}
