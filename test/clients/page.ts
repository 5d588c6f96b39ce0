/** docs/compatibility.md, out of what the steps have shown. */
import { versions, type Version } from "./clients.ts";

/** `absent`: this version of the client does not have the command. */
export type Result = "works" | "fails" | "absent";

const marks: Readonly<Record<Result, string>> = { works: "✓", fails: "✗", absent: "–" };

export function compatibilityPage(results: ReadonlyMap<string, Partial<Record<Version, Result>>>): string {
  const rows = [...results].map(
    ([command, row]) => `| \`vercel ${command}\` | ${versions.map((v) => marks[row[v] ?? "fails"]).join(" | ")} |`,
  );
  return `# Compatibility with the vercel client

The \`vercel\` client of npm works against Mayfly as it is. Point it at a server in one of two ways:

\`\`\`
mayfly use-vercel-cli                  # from now on \`vercel\` means this server; --undo takes it back
mayfly use-vercel-cli --dir DIR        # only \`vercel -Q DIR …\` does
\`\`\`

This page is written by \`npm run test:clients\`, which runs each command of the unmodified client against a running server
and looks at what is true afterwards. ✓ works, ✗ does not, – the client of that version has no such command.

| command | ${versions.join(" | ")} |
|---|${versions.map(() => ":-:|").join("")}
${rows.join("\n")}

\`createDeployment\` of \`@vercel/client\` works too (\`test/journeys/vercel-client.test.ts\`).

What differs: URLs are printed as \`https://<host>\` by the client, whatever scheme and port the server has. \`vercel login\` and
\`vercel logout\` speak to vercel.com alone; Mayfly's token comes from \`mayfly use-vercel-cli\` or \`--token\`.
`;
}
