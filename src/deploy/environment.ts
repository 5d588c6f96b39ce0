/**
 * The environment of a deployment: the project's variables for its target and branch, over them what the create call
 * brings, all sealed for the deployment; beside them the platform's own `VERCEL_…` names, which are no secrets.
 */
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import type { Deployment, DeploymentRequest, EnvTarget, GitSource, Project, Sealed } from "../model.ts";
import { envPlace, variablePlace, type Seal } from "../store/seal.ts";
import type { Store } from "../store/store.ts";
import { listVariables, selectVariables, type SealedVariable } from "../store/variables.ts";
import { branchHost, productionHost } from "./alias.ts";

type Strings = Readonly<Record<string, string>>;

/** The variables a project has for a target and branch. A fork's build gets no secrets. */
export async function projectVariables(
  store: Store,
  projectId: string,
  target: EnvTarget,
  git: Pick<GitSource, "branch" | "fork"> | null,
): Promise<SealedVariable[]> {
  const variables = selectVariables(await listVariables(store, projectId), target, git?.branch ?? null);
  return git?.fork === true ? variables.filter(({ type }) => type === "plain") : variables;
}

/** @throws MayflyError invalid_env */
export function sealEnvironment(
  parts: { readonly seal: Seal; readonly config: Pick<Config, "envBytesMax"> },
  deploymentId: string,
  variables: readonly SealedVariable[],
  given: { readonly env: Strings; readonly buildEnv: Strings },
): Pick<DeploymentRequest, "env" | "buildEnv" | "givenEnv" | "givenBuildEnv" | "sensitive"> {
  const { seal, config } = parts;
  const project = Object.fromEntries(variables.map((variable) => [variable.name, openVariable(seal, variable)]));
  const close = (own: Strings): Record<string, Sealed> => {
    const all = { ...project, ...own };
    checkEnv(all, config.envBytesMax);
    return Object.fromEntries(Object.entries(all).map(([name, value]) => [name, seal.close(value, envPlace(deploymentId, name))]));
  };
  const sensitive = variables.filter(({ type }) => type === "sensitive").map(({ name }) => name);
  return {
    env: close(given.env),
    buildEnv: close(given.buildEnv),
    givenEnv: Object.keys(given.env),
    givenBuildEnv: Object.keys(given.buildEnv),
    sensitive: sensitive.filter((name) => given.env[name] === undefined && given.buildEnv[name] === undefined),
  };
}

/** What the call that made `deployment` brought itself. */
export function givenEnvironment(seal: Seal, { id, request }: Pick<Deployment, "id" | "request">): { env: Strings; buildEnv: Strings } {
  const open = (env: Readonly<Record<string, Sealed>>, names: readonly string[] = []) =>
    Object.fromEntries(names.map((name) => [name, seal.open(env[name]!, envPlace(id, name))]));
  return { env: open(request.env, request.givenEnv), buildEnv: open(request.buildEnv, request.givenBuildEnv) };
}

export const openVariable = (seal: Seal, { projectId, name, value }: Pick<SealedVariable, "projectId" | "name" | "value">): string =>
  seal.open(value, variablePlace(projectId, name));

/** Names as in Vercel's "System environment variables"; those that every Function has are set where it is started. */
export function systemEnvironment(project: Project, deploymentId: string, git: GitSource | null, domain: string): Record<string, string> {
  const env: Record<string, string> = {
    VERCEL_PROJECT_ID: project.id,
    VERCEL_DEPLOYMENT_ID: deploymentId,
    VERCEL_PROJECT_PRODUCTION_URL: productionHost(project.name, domain),
  };
  if (git === null) return env;
  const slash = git.repository.lastIndexOf("/");
  return {
    ...env,
    ...(git.fork ? {} : { VERCEL_BRANCH_URL: branchHost(project.name, git.branch, domain) }),
    VERCEL_GIT_PROVIDER: git.provider,
    VERCEL_GIT_REPO_OWNER: slash === -1 ? "" : git.repository.slice(0, slash),
    VERCEL_GIT_REPO_SLUG: git.repository.slice(slash + 1),
    VERCEL_GIT_COMMIT_REF: git.branch,
    VERCEL_GIT_COMMIT_SHA: git.commitSha,
    VERCEL_GIT_COMMIT_MESSAGE: git.commitMessage.slice(0, 2048),
    VERCEL_GIT_COMMIT_AUTHOR_NAME: git.commitAuthor,
    VERCEL_GIT_COMMIT_AUTHOR_LOGIN: git.commitAuthorLogin ?? "",
    VERCEL_GIT_PULL_REQUEST_ID: git.pullRequest === null ? "" : String(git.pullRequest),
  };
}

/** @throws MayflyError invalid_env */
export function checkEnv(variables: Strings, bytesMax: number): void {
  let bytes = 0;
  for (const [name, value] of Object.entries(variables)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]{0,255}$/.test(name)) {
      throw new MayflyError("invalid_env", `${JSON.stringify(name.slice(0, 100))} cannot be the name of an environment variable.`);
    }
    if (value.includes("\0")) throw new MayflyError("invalid_env", `The value of ${name} has a NUL character.`);
    bytes += name.length + Buffer.byteLength(value);
  }
  if (bytes > bytesMax) {
    throw new MayflyError("invalid_env", `Environment variables may have ${bytesMax} bytes together; these have ${bytes}.`);
  }
}
