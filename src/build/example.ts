/** A project of one Function: a worker that has nothing to do yet builds it, to be warm for the one that comes. */
import { noSettings } from "../model.ts";
import type { BuildJob } from "./builder.ts";

/** Path → text. */
export const exampleFiles: Readonly<Record<string, string>> = {
  "package.json": "{}",
  "tsconfig.json": `{ "compilerOptions": { "strict": true } }`,
  "lib/greeting.ts":
    "export interface Greeting { text: string }\nexport const greet = (name: string): Greeting => ({ text: `Hello ${name}` });\n",
  "api/hello.ts": `import { greet } from "../lib/greeting";\nexport default (_: unknown, res: { end(text: string): void }) => res.end(greet("you").text);\n`,
};

export const exampleJob: BuildJob = {
  rootDirectory: "",
  settings: noSettings,
  installs: [],
  steps: [
    {
      builder: "node",
      use: "",
      useVersion: "",
      entrypoint: "api/hello.ts",
      output: "api/hello",
      routes: [],
      server: false,
      config: { zeroConfig: true },
      functionSettings: {},
    },
  ],
  runsCommands: false,
  reused: [],
  earlier: [],
  routes: { user: [], detected: [] },
  cleanUrls: false,
  site: {},
  target: "preview",
  bundleBytesMax: 1024 * 1024,
  programs: [],
  env: {},
  inMemory: false,
};
