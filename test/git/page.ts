/** docs/git.md, with what the journeys have seen. */

export interface EventRow {
  readonly event: string;
  readonly github: string;
  readonly gitlab: string;
}

export function gitPage(rows: readonly EventRow[]): string {
  const cell = (text: string) => text.replaceAll("|", "\\|");
  const lines = rows.map(({ event, github, gitlab }) =>
    github === gitlab ? `| ${event} | ${cell(github)} | the same |` : `| ${event} | ${cell(github)} | ${cell(gitlab)} |`,
  );
  return `# Git

Push to any branch of a connected repository and get a preview; push to the production branch and get production. GitHub
(github.com and Enterprise) and GitLab (gitlab.com and self-hosted); servers other than the two public ones are named in
\`MAYFLY_GITHUB_URLS\` and \`MAYFLY_GITLAB_URLS\` ([config.md](config.md)), and Mayfly asks no others.

## Connect

\`\`\`
mayfly git connect https://github.com/ann/shop --project shop < token.txt    # or asks for the token
mayfly git app                                   # a GitHub App of your own: an address with one button
mayfly git connect https://github.com/ann/shop --project shop --app NAME
mayfly git status --project shop                 # commits, states, webhooks
mayfly git disconnect --project shop
\`\`\`

| | a token needs | an App has |
|---|---|---|
| GitHub | \`repo\` and \`admin:repo_hook\`, or fine-grained: contents read; commit statuses, deployments, pull requests and webhooks write | contents read; statuses, deployments and pull requests write |
| GitLab | \`api\`, as a Maintainer (webhooks are theirs to make) | – |

Where the token may not make webhooks, \`connect\` prints the address and the secret to enter by hand: events *push*, *pull
request* (*merge request*) and *comment*; content type JSON. Tokens, keys and secrets are kept sealed; git gets them in its
environment, bound to the host's address.

## What comes of an event

These rows are what the journeys in \`test/journeys/git.test.ts\` have seen, word by word as the log of webhooks says it.

| event | GitHub | GitLab |
|---|---|---|
${lines.join("\n")}

Each commit gets a status \`Mayfly – PROJECT\`: pending, success, failure; on GitHub a deployment with its URL too. A pull
request gets one comment with a row for each project, which is kept up to date.

## What is decided how

- A webhook is a hint. What is built is the branch's commit at the moment it is acted on, so webhooks may come twice, late or
  out of order. Of several that wait for one branch the newest is enough, and a newer push replaces an older queued build.
- Webhooks are on disk before they are acknowledged. A wrong or missing signature, and a signed body that comes again under
  another id, is 401 \`invalid_signature\`.
- A fork's commit is built only when somebody who may push has brought it, or has approved this very commit: by the comment
  \`/mayfly deploy\`, or by \`mayfly git approve NUMBER\`. It sees no secret, writes no cache and takes no alias.
- In a monorepo each project has its root directory. A commit that changes nothing below it, nor in packages of the repository
  that it depends on, nor in the repository's lock file and its like, is skipped.
- \`[skip ci]\`, \`[ci skip]\`, \`[no ci]\`, \`[skip deploy]\` or \`[skip vercel]\` in the message skips a commit; so does
  \`git.deploymentEnabled\` of vercel.json or vercel.toml, by branch or glob.
- \`ignoreCommand\` of vercel.json runs in a sandbox like a build's, with the source and the build's environment but without
  \`.git\`: exit code 0 skips the commit, any other builds it.
- A deleted branch loses its alias at once, its deployments when retention says so.
- What cannot be said to the host because it does not answer, or asks for patience, is said later: as it is by then.
- Submodules and LFS files are not fetched; a submodule is named in the build's log.
`;
}
