/**
 * Which repositories may be asked for, and by which address. An address is made of a connection's own record, never of
 * what a webhook says, and only for hosts that the server's settings name: so nobody makes Mayfly ask elsewhere.
 */
import { MayflyError } from "../errors.ts";
import type { GitSource } from "../model.ts";

type Provider = GitSource["provider"];

/** Base URLs by provider, from the settings. */
export interface GitHostAddresses {
  readonly github: readonly string[];
  readonly gitlab: readonly string[];
}

/**
 * Comma-separated base URLs: `https://github.com,https://git.example.com`. `http` is for hosts on the same machine or in
 * a private network; whoever writes it here allows it.
 * @throws MayflyError config_invalid
 */
export function parseBaseUrls(setting: string, text: string): string[] {
  return text
    .split(",")
    .map((url) => url.trim())
    .filter((url) => url !== "")
    .map((url) => {
      const parsed = URL.canParse(url) ? new URL(url) : null;
      const plain = parsed !== null && ["https:", "http:"].includes(parsed.protocol) && parsed.username === "" && parsed.password === "";
      if (!plain || parsed.search !== "" || parsed.hash !== "") {
        throw new MayflyError(
          "config_invalid",
          `${setting} has ${JSON.stringify(url)}; a base URL such as https://github.com is expected.`,
        );
      }
      return parsed.origin + parsed.pathname.replace(/\/+$/, "");
    });
}

/**
 * The host and repository that a person means by an address: `https://github.com/ann/shop`, `…/shop.git`,
 * `git@github.com:ann/shop.git`, `ssh://git@github.com/ann/shop`.
 * @throws MayflyError git_refused: no such host in the settings, or not an address of a repository
 */
export function parseRepositoryAddress(
  address: string,
  hosts: GitHostAddresses,
): { provider: Provider; baseUrl: string; repository: string } {
  const refuse = (why: string): never => {
    throw new MayflyError("git_refused", `${JSON.stringify(address.slice(0, 200))} ${why}.`);
  };
  if (address.startsWith("-")) refuse("looks like an option, not like a repository");
  const scp = /^(?:[\w.-]+@)([\w.-]+):(?!\/\/)(.+)$/.exec(address);
  const url = scp === null ? (URL.canParse(address) ? new URL(address) : null) : new URL(`ssh://${scp[1]!}/${scp[2]!}`);
  if (url === null || !["https:", "http:", "ssh:"].includes(url.protocol)) return refuse("is not an https or ssh address of a repository");
  if (url.password !== "") refuse("has a password in it; give a token on its own");
  for (const provider of ["github", "gitlab"] as const) {
    for (const baseUrl of hosts[provider]) {
      const base = new URL(baseUrl);
      const same = url.protocol === "ssh:" ? url.hostname === base.hostname : url.origin === base.origin;
      const prefix = base.pathname === "/" || url.protocol === "ssh:" ? "/" : `${base.pathname}/`;
      if (!same || !url.pathname.startsWith(prefix)) continue;
      const repository = decodeURIComponent(url.pathname.slice(prefix.length))
        .replace(/\/+$/, "")
        .replace(/\.git$/, "");
      return { provider, baseUrl, repository: checkRepositoryPath(repository, provider) };
    }
  }
  return refuse(`is on no Git host that this server knows (${[...hosts.github, ...hosts.gitlab].join(", ")})`);
}

/**
 * `owner/name`; on GitLab groups may be nested.
 * @throws MayflyError git_refused
 */
export function checkRepositoryPath(path: string, provider: Provider): string {
  const parts = path.split("/");
  const right = provider === "github" ? parts.length === 2 : parts.length >= 2 && parts.length <= 21;
  if (!right || path.length > 500 || parts.some((part) => !/^[A-Za-z0-9_.][\w.-]*$/.test(part) || /^\.+$/.test(part))) {
    throw new MayflyError("git_refused", `${JSON.stringify(path.slice(0, 200))} is not a repository's path, such as owner/name.`);
  }
  return path;
}

/** Where a connected repository is cloned from. */
export function cloneUrl(baseUrl: string, repository: string): string {
  return `${baseUrl}/${repository}.git`;
}

/**
 * A branch's name, by the rules of `git check-ref-format`.
 * @throws MayflyError git_refused
 */
export function checkBranch(branch: string): string {
  const parts = branch.split("/");
  const wrong =
    branch === "" ||
    Buffer.byteLength(branch) > 240 ||
    !branch.isWellFormed() ||
    // eslint-disable-next-line no-control-regex
    /[\u0000-\u0020\u007f~^:?*[\\]|\.\.|@\{|^@$|^-|\.$/.test(branch) ||
    parts.some((part) => part === "" || part.startsWith(".") || part.endsWith(".lock"));
  if (wrong) throw new MayflyError("git_refused", `${JSON.stringify(branch.slice(0, 200))} is not the name of a branch.`);
  return branch;
}
