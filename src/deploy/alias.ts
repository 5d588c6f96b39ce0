/** Which of the platform's own hosts lead to a deployment. Pure: the store writes them, the gateway reads them. */
import { createHash } from "node:crypto";
import type { Deployment } from "../model.ts";
import { newHostId } from "../names.ts";

/** RFC 1035 §2.3.4 */
const labelLengthMax = 63;
const hashLength = 6;

/** `<project>-<id9>.<domain>`: given at creation, never to another deployment. */
export function immutableHost(projectName: string, domain: string): string {
  return `${projectName}-${newHostId()}.${domain}`;
}

/** `<project>.<domain>` */
export function productionHost(projectName: string, domain: string): string {
  return `${projectName}.${domain}`;
}

/**
 * `<project>-git-<branch>.<domain>`: the branch in lower case, anything but letters and digits as one hyphen (as Vercel
 * does, so `a/b` and `a-b` share a host). What is longer than a DNS label ends with a hash of the branch instead.
 */
export function branchHost(projectName: string, branch: string, domain: string): string {
  const slug = branch
    .normalize("NFKD")
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-+|-+$/g, "");
  const hash = createHash("sha256").update(branch).digest("hex").slice(0, hashLength);
  const label = `${projectName}-git-${slug === "" ? hash : slug}`;
  if (label.length <= labelLengthMax) return `${label}.${domain}`;
  return `${label.slice(0, labelLengthMax - hashLength - 1).replace(/-+$/, "")}-${hash}.${domain}`;
}

/** The hosts that a deployment takes when it becomes READY, as far as it may (store/aliases.ts), besides its immutable one. */
export function hostsOf(deployment: Deployment, projectName: string, domain: string) {
  const { git, target, request } = deployment;
  return {
    branchHost: git === null || git.fork ? null : branchHost(projectName, git.branch, domain),
    productionHost: target === "production" && request.autoAssign !== false ? productionHost(projectName, domain) : null,
  };
}
