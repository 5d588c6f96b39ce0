/**
 * The way of a delivery, once it is on disk: what has happened → which commit is that now → is it to be deployed → deploy.
 * A delivery is a hint only. What is built is what the repository has at this moment, so deliveries may come twice, late
 * or out of order, and none can move anything back. Doing one again does nothing.
 */
import { branchHost } from "../deploy/alias.ts";
import { createDeployment } from "../deploy/create.ts";
import { MayflyError } from "../errors.ts";
import type { Deployment, GitConnection, GitSource, Project } from "../model.ts";
import { randomId } from "../names.ts";
import { deleteAlias, findAlias } from "../store/aliases.ts";
import { findDeployment, listDeployments } from "../store/deployments.ts";
import { deleteBranch, findBranch, updateBranch, type PendingDelivery } from "../store/git-deliveries.ts";
import { updateGitConnection } from "../store/git-connections.ts";
import { attachPullRequest, deleteOutcomes, insertGitReport, newestReportOf, type GitOutcome } from "../store/git-reports.ts";
import { findProject } from "../store/projects.ts";
import { readCommit, skipMark, type Commit } from "./commit.ts";
import { readCommitTree } from "./commit-tree.ts";
import { accessOf, repositoryOf, type GitContext } from "./context.ts";
import type { GitEvent } from "./git-host.ts";
import type { Mirror } from "./mirror.ts";
import { deploymentDisabled, unaffected } from "./monorepo.ts";
import { checkBranch } from "./remote.ts";
import { branchSubject, pullSubject } from "./webhook.ts";

/** What came of a delivery, for its log. */
export interface DeliveryResult {
  readonly result: string;
  readonly deploymentId: string | null;
}

const nothing = (result: string): DeliveryResult => ({ result, deploymentId: null });

/** A comment of this text on a fork's pull request, by who may push, approves its commit. */
const approval = /^\s*\/mayfly\s+(?:deploy|approve)\s*$/im;

/** @throws MayflyError: git_host_unavailable, queue_full, disk_full pass by; the others do not */
export async function act(context: GitContext, connection: GitConnection, delivery: PendingDelivery): Promise<DeliveryResult> {
  const project = await findProject(context.deploy.store, connection.teamId, connection.projectId);
  if (project === null) return nothing("the project is gone");
  const event = JSON.parse(delivery.detail) as GitEvent;
  const work: Work = { context, connection, project, delivery };
  switch (event.kind) {
    case "push":
      return pushed(work, checkBranch(event.branch), event);
    case "pull-request":
      return event.fork ? forkProposed(work, event) : proposed(work, event);
    case "comment":
      return approval.test(event.text) ? commented(work, event.number, event.actor) : nothing("a comment without a command");
    case "other":
      return nothing("nothing to do");
  }
}

interface Work {
  readonly context: GitContext;
  readonly connection: GitConnection;
  readonly project: Project;
  readonly delivery: PendingDelivery;
}

/** A commit that may become a deployment. */
interface Candidate {
  readonly mirror: Mirror;
  readonly commit: Commit;
  readonly branch: string;
  readonly pullRequest: number | null;
  readonly fork: boolean;
  /** Place of what is remembered of its branch. */
  readonly subject: string;
  /** The commit that this branch was deployed from before. */
  readonly previousSha: string | null;
  /** Of its author, at the host; null: not known. */
  readonly login: string | null;
}

/** `event`: what the host says of the push; null: it was about something else. */
async function pushed(work: Work, branch: string, event: PushEvent | null): Promise<DeliveryResult> {
  const { context, connection, delivery } = work;
  const { store } = context.deploy;
  return fetchRef(work, `refs/heads/${branch}`, async (mirror, sha) => {
    if (sha === null) return branchDeleted(work, branch);
    const subject = branchSubject(branch);
    const record = await findBranch(store, connection.id, subject);
    if (record.sha === sha && !delivery.forced) return nothing(`commit ${sha.slice(0, 7)} of ${branch} is known already`);
    const commit = await readCommit(mirror, sha);
    const login = event?.sha === sha ? event.author : null;
    return consider(work, {
      mirror,
      commit,
      branch,
      pullRequest: record.pullRequest,
      fork: false,
      subject,
      previousSha: record.sha,
      login,
    });
  });
}

/** Its alias goes at once, its deployments when retention says so. Production stays: a site is not taken off by a clean-up. */
async function branchDeleted({ context, connection, project }: Work, branch: string): Promise<DeliveryResult> {
  const { store, config } = context.deploy;
  await deleteBranch(store, connection.id, branchSubject(branch));
  const host = branchHost(project.name, branch, config.domain);
  const alias = await findAlias(store, connection.teamId, host);
  if (alias === null || alias.projectId !== project.id) return nothing(`branch ${branch} is gone; it had no alias`);
  // `a/b` and `a-b` share a host: only the branch that has it now takes it along.
  const deployment = await findDeployment(store, connection.teamId, alias.deploymentId);
  if (deployment?.git?.branch !== branch) return nothing(`branch ${branch} is gone; its alias belongs to another branch now`);
  await deleteAlias(store, host);
  return nothing(`branch ${branch} is gone, and ${host} with it`);
}

type PushEvent = Extract<GitEvent, { kind: "push" }>;
type PullRequestEvent = Extract<GitEvent, { kind: "pull-request" }>;

/** A pull request within the repository: its branch is deployed by pushes, so that only the two must be brought together. */
async function proposed(work: Work, event: PullRequestEvent): Promise<DeliveryResult> {
  const { context, connection } = work;
  const { store, clock } = context.deploy;
  const subject = branchSubject(checkBranch(event.branch));
  const open = event.state === "open";
  await updateBranch(store, connection.id, subject, { pullRequest: open ? event.number : null }, clock.now());
  if (!open) return nothing(`pull request ${event.number} is closed`);
  const { result, deploymentId } = await pushed(work, event.branch, null);
  const { sha } = await findBranch(store, connection.id, subject);
  if (sha !== null) await attachPullRequest(store, connection.id, sha, event.number);
  return { result: `pull request ${event.number} of ${event.branch}: ${result}`, deploymentId };
}

/** A fork's pull request: strangers' code, which is built when who may push has brought or approved this very commit. */
async function forkProposed(work: Work, event: PullRequestEvent): Promise<DeliveryResult> {
  const { context, connection } = work;
  const subject = pullSubject(event.number);
  if (event.state === "closed") {
    await deleteBranch(context.deploy.store, connection.id, subject);
    return nothing(`pull request ${event.number} is closed`);
  }
  return forkDeployed(work, event.number, event.branch, async (sha) => {
    if (event.actor === null || event.sha !== sha) return false;
    const host = await context.host(connection.provider);
    return host.mayWrite(await accessOf(context, connection), repositoryOf(connection), event.actor);
  });
}

/** Approves the commit that was waiting when the comment was written, not what has been pushed since. */
async function commented(work: Work, number: number, actor: string): Promise<DeliveryResult> {
  const { context, connection, delivery } = work;
  const { store, clock } = context.deploy;
  const host = await context.host(connection.provider);
  if (!(await host.mayWrite(await accessOf(context, connection), repositoryOf(connection), actor))) {
    return nothing(`${actor} may not approve pull request ${number}: who may push may`);
  }
  const waiting = await newestReportOf(store, connection.id, number);
  if (waiting?.outcome !== "waiting" || waiting.createdAt > delivery.receivedAt) return nothing(`nothing of pull request ${number} waits`);
  await updateBranch(store, connection.id, pullSubject(number), { approvedSha: waiting.sha }, clock.now());
  return forkDeployed(work, number, waiting.branch, async () => false);
}

/**
 * Deploys what a fork's pull request has now, if that is approved.
 * @param isTrusted whether who brought this commit may push to the repository anyway
 */
async function forkDeployed(
  work: Work,
  number: number,
  branch: string,
  isTrusted: (sha: string) => Promise<boolean>,
): Promise<DeliveryResult> {
  const { context, connection, delivery } = work;
  const { store } = context.deploy;
  const subject = pullSubject(number);
  const host = await context.host(connection.provider);
  return fetchRef(work, host.pullRequestRef(number), async (mirror, sha) => {
    if (sha === null) return nothing(`pull request ${number} is gone`);
    const record = await findBranch(store, connection.id, subject);
    if (record.sha === sha && !delivery.forced) return nothing(`commit ${sha.slice(0, 7)} of pull request ${number} is known already`);
    const commit = await readCommit(mirror, sha);
    const candidate = { mirror, commit, branch, pullRequest: number, fork: true, subject, previousSha: record.sha, login: null };
    if (record.approvedSha !== sha && !(await isTrusted(sha))) {
      await report(work, candidate, "waiting", "It comes from a fork: a member must approve this commit.");
      return nothing(`commit ${sha.slice(0, 7)} of pull request ${number} waits for a member's approval`);
    }
    return consider(work, candidate);
  });
}

/** Deploys a commit, unless it or the project asks not to. */
async function consider(work: Work, candidate: Candidate): Promise<DeliveryResult> {
  const { context, connection, project, delivery } = work;
  const { commit, branch, subject, previousSha } = candidate;
  const { store, clock } = context.deploy;
  const name = `commit ${commit.sha.slice(0, 7)} of ${branch}`;
  const decided = () => updateBranch(store, connection.id, subject, { sha: commit.sha }, clock.now());
  const skip = delivery.forced ? null : await reasonToSkip(work, candidate);
  if (skip !== null) {
    await report(work, candidate, "skipped", skip);
    await decided();
    return nothing(`${name} is skipped: ${skip}`);
  }
  let deployment: Deployment;
  try {
    deployment = (await deploymentOf(work, candidate)) ?? (await create(work, candidate));
  } catch (error) {
    // What this commit is refused for will not pass: its author is told where the commit is looked at.
    if (!(error instanceof MayflyError) || error.status >= 500) throw error;
    await report(work, candidate, "failed", error.message);
    throw error;
  }
  context.queue.enqueue(deployment);
  await report(work, candidate, null, null, deployment.id);
  await decided();
  const since = previousSha === null ? "" : `, after ${previousSha.slice(0, 7)}`;
  return { result: `${name} is deployed${since} (${project.name}, ${deployment.target})`, deploymentId: deployment.id };
}

async function reasonToSkip({ project }: Work, candidate: Candidate): Promise<string | null> {
  const { mirror, commit, branch, previousSha } = candidate;
  const mark = skipMark(commit.message);
  if (mark !== null) return `the commit's message says ${mark}`;
  const root = project.settings.rootDirectory;
  if (await deploymentDisabled(mirror, commit.sha, root, branch)) return "vercel.json turns deployments of this branch off";
  if (root !== null && previousSha !== null && (await unaffected(mirror, previousSha, commit.sha, root))) {
    return `nothing that ${root} is made of has changed since ${previousSha.slice(0, 7)}`;
  }
  return null;
}

/** What an earlier attempt at this delivery has made already. */
async function deploymentOf({ context, connection, delivery }: Work, { commit, branch, fork }: Candidate): Promise<Deployment | null> {
  const recent = await listDeployments(context.deploy.store, { teamId: connection.teamId, projectId: connection.projectId, limit: 50 });
  const since = delivery.receivedAt;
  const same = (git: GitSource) => git.commitSha === commit.sha && git.branch === branch && git.fork === fork;
  return recent.find(({ createdAt, git }) => createdAt >= since && git !== null && git !== undefined && same(git)) ?? null;
}

async function create(work: Work, candidate: Candidate): Promise<Deployment> {
  const { context, connection, project } = work;
  const { mirror, commit, branch, pullRequest, fork, login } = candidate;
  const { config, blobs, logs, clock } = context.deploy;
  context.queue.refuseWhenFull();
  const { tree, warnings } = await readCommitTree(mirror, commit.sha, blobs, {
    filesMax: config.filesMax,
    bytesMax: config.deploymentBytesMax,
    fileBytesMax: config.fileBytesMax,
    pathBytesMax: config.pathBytesMax,
  });
  const git: GitSource = {
    provider: connection.provider,
    repository: connection.repository,
    branch,
    commitSha: commit.sha,
    commitMessage: commit.message,
    commitAuthor: commit.author,
    ...(login === null ? {} : { commitAuthorLogin: login }),
    pullRequest,
    fork,
  };
  const production = !fork && branch === connection.productionBranch;
  const deployment = await createDeployment(
    context.deploy,
    { teamId: connection.teamId, userId: connection.creatorId, projectId: null },
    {
      name: null,
      project: project.id,
      source: { tree, git },
      target: production ? "production" : "preview",
      prebuilt: false,
      force: false,
      env: {},
      buildEnv: {},
      settings: {},
      meta: metaOf(git),
    },
  );
  const place = { deploymentId: deployment.id, source: "build", functionName: "", invocationId: "", stream: "system" } as const;
  logs.append(warnings.map((text) => ({ ...place, timestampMs: clock.now(), text })));
  return deployment;
}

/** Under the names that clients filter by (`--meta githubCommitRef=main`). */
function metaOf(git: GitSource): Record<string, string> {
  const { provider, repository, branch, commitSha, commitMessage, commitAuthor, pullRequest } = git;
  const slash = repository.lastIndexOf("/");
  const meta = {
    CommitSha: commitSha,
    CommitRef: branch,
    CommitMessage: commitMessage.slice(0, 1000),
    CommitAuthorName: commitAuthor,
    CommitOrg: repository.slice(0, slash),
    CommitRepo: repository.slice(slash + 1),
    Deployment: "1",
    ...(pullRequest === null ? {} : { PrId: String(pullRequest) }),
  };
  return Object.fromEntries(Object.entries(meta).map(([name, value]) => [`${provider}${name}`, value]));
}

async function report(
  { context, connection }: Work,
  { commit, branch, pullRequest, fork }: Candidate,
  outcome: GitOutcome | null,
  description: string | null,
  deploymentId: string | null = null,
): Promise<void> {
  const { store, clock } = context.deploy;
  await deleteOutcomes(store, connection.id, commit.sha);
  await insertGitReport(store, {
    id: `gitr_${randomId(24)}`,
    connectionId: connection.id,
    deploymentId,
    sha: commit.sha,
    branch,
    pullRequest,
    production: !fork && branch === connection.productionBranch,
    fork,
    outcome,
    description,
    createdAt: clock.now(),
  });
}

async function fetchRef<T>(
  { context, connection }: Work,
  ref: string,
  use: (mirror: Mirror, sha: string | null) => Promise<T>,
): Promise<T> {
  const host = await context.host(connection.provider);
  const credentials = await host.cloneCredentials(await accessOf(context, connection));
  const { baseUrl, repository, repositoryId } = connection;
  if (!context.addresses[connection.provider].includes(baseUrl)) {
    throw new MayflyError("git_refused", `${baseUrl} is no Git host of this server's settings any more.`);
  }
  const request = { baseUrl, repository, repositoryId, ref, credentials };
  try {
    return await context.mirrors.fetch(request, use);
  } catch (error) {
    const path = await renamed(context, connection, error);
    if (path === null) throw error;
    return await context.mirrors.fetch({ ...request, repository: path }, use);
  }
}

/** The repository's new path, when it is found under another than its record has; null: it has not moved. */
async function renamed(context: GitContext, connection: GitConnection, error: unknown): Promise<string | null> {
  if (!(error instanceof MayflyError) || error.code !== "git_refused" || !isMoved(error)) return null;
  const host = await context.host(connection.provider);
  const { path } = await host.repositoryById(await accessOf(context, connection), connection.repositoryId);
  if (path === connection.repository) return null;
  await updateGitConnection(context.deploy.store, connection.id, { repository: path });
  return path;
}

/** Git is not allowed to follow the host to the new address: it could be anybody's. */
const isMoved = (error: MayflyError): boolean =>
  /unable to update url base|returned error: 30\d|redirect|not found/i.test(String(error.details["stderr"]));
