/** What is started cold: four programs from nothing to heavy, each as people write it. */
import { cpSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { writeFiles } from "../test/server.ts";

export interface Program {
  readonly name: string;
  /** Path that the Function answers. */
  readonly path: string;
  /** The handler in the project's directory; null: only the build makes one. */
  readonly handler: string | null;
  /** Writes the project. */
  write(directory: string): void;
}

const examples = join(dirname(import.meta.dirname), "examples");
const packageJson = (dependencies: Record<string, string>) => JSON.stringify({ name: "bench", private: true, dependencies });

export const programs: readonly Program[] = [
  {
    name: "trivial",
    path: "/api/date",
    handler: "api/date.js",
    write: (directory) => writeFiles(directory, { "api/date.js": readFileSync(join(examples, "hello/api/date.js")) }),
  },
  {
    name: "Express 5",
    path: "/api/app",
    handler: "api/app.js",
    write: (directory) =>
      writeFiles(directory, {
        "package.json": packageJson({ express: "^5.1.0" }),
        "api/app.js": `const app = require("express")(); app.use((req, res) => res.json({ date: new Date() })); module.exports = app;`,
      }),
  },
  {
    name: "TypeScript compiler (10 MB)",
    path: "/api/compile",
    handler: "api/compile.js",
    write: (directory) =>
      writeFiles(directory, {
        "package.json": packageJson({ typescript: "~5.9.0" }),
        "api/compile.js": `const ts = require("typescript");
module.exports = (req, res) => res.end(ts.transpileModule("export const a: number = 1;", { compilerOptions: { module: ts.ModuleKind.CommonJS } }).outputText);`,
      }),
  },
  {
    name: "Next.js page (server-rendered)",
    path: "/",
    handler: null,
    write(directory) {
      cpSync(join(examples, "next-date"), directory, { recursive: true, filter: (path) => !/node_modules|\.next/.test(path) });
      writeFiles(directory, {
        "pages/index.js": `export const getServerSideProps = () => ({ props: { date: new Date().toISOString() } });
export default function Page({ date }) { return <main><h1>Date</h1><p>{date}</p></main>; }`,
      });
    },
  },
];
