/** Where GitHub's REST API is, and what an App made from our manifest may do and is told. */

/** Where the REST API of a base URL is. */
export function githubApi(baseUrl: string): string {
  return baseUrl === "https://github.com" ? "https://api.github.com" : `${baseUrl}/api/v3`;
}

export const githubAppPermissions = {
  contents: "read",
  metadata: "read",
  statuses: "write",
  deployments: "write",
  pull_requests: "write",
} as const;
export const githubEvents = ["push", "pull_request", "issue_comment"] as const;
