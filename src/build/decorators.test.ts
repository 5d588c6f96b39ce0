/** Decorators of TypeScript: what they are called with, and what `reflect-metadata` then knows, in a bundle that runs. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { hasRegistry, openTestbed } from "./testbed.ts";
import type { Files, Testbed } from "./testbed.ts";

const skip = (await hasRegistry()) ? false : "no npm registry can be reached";
let bed: Testbed;
before(async () => {
  bed = await openTestbed();
});
after(() => bed[Symbol.asyncDispose]());

/** What the handler of `api/a` gives. */
async function run(files: Files): Promise<unknown> {
  const result = await bed.build(files);
  const [spec] = Object.values(result.functions);
  const directory = await mkdtemp(join(tmpdir(), "mayfly-decorators-"));
  try {
    for (const [path, text] of Object.entries(await bed.bundle(spec))) {
      await mkdir(dirname(join(directory, path)), { recursive: true });
      await writeFile(join(directory, path), text);
    }
    const script = `const { default: handle } = await import(${JSON.stringify(join(directory, spec!.handler))}); console.log(JSON.stringify((handle.default ?? handle)()));`;
    return JSON.parse(execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" })) as unknown;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

const json = (value: unknown): string => JSON.stringify(value);
const dependencies = { "reflect-metadata": "0.2.2" };
const entrypoint = `import "reflect-metadata";
import { Clock } from "../lib/clock.js";
import type { Shape } from "../lib/shape";
enum Color { Red }
const said: string[] = [];
const note = (what: string): any => (said.push(what), (_: unknown, key?: string, at?: unknown) => void said.push(\`\${what} \${key} \${typeof at}\`));
@note("class")
class Service {
  @note("field") name!: string;
  @note("field") list: string[] = ["x"];
  @note("field") color!: Color;
  @note("field") either!: string | number;
  @note("field") shape!: Shape;
  constructor(readonly clock: Clock, @note("parameter") readonly count: number) {}
  @note("method") async run(a: Date): Promise<string> { return String(a); }
}
const names = (types: unknown) => (types as Function[] | undefined)?.map((type) => type.name);
const typeOf = (key: string) => (Reflect.getMetadata("design:type", Service.prototype, key) as Function | undefined)?.name;
export default () => ({
  parameters: names(Reflect.getMetadata("design:paramtypes", Service)),
  method: names(Reflect.getMetadata("design:paramtypes", Service.prototype, "run")),
  returns: Reflect.getMetadata("design:returntype", Service.prototype, "run")?.name,
  fields: ["name", "list", "color", "either", "shape"].map(typeOf),
  own: Object.keys(new Service(new Clock(), 1)),
  said: said.length,
});
`;
const project: Files = {
  "package.json": json({ dependencies }),
  "tsconfig.json": json({ compilerOptions: { target: "es2021", experimentalDecorators: true, emitDecoratorMetadata: true } }),
  "api/a.ts": entrypoint,
  "lib/clock.ts": "export class Clock {}\n",
  "lib/shape.ts": "export interface Shape { readonly x: number }\n",
};
const known = {
  parameters: ["Clock", "Number"],
  method: ["Date"],
  returns: "Promise",
  fields: ["String", "Array", "Number", "Object", "Object"],
  said: 16,
};

test("emitDecoratorMetadata: types are there at run time, fields are assigned", { skip }, async () => {
  assert.deepEqual(await run(project), { ...known, own: ["clock", "count", "list"] });
});

test("emitDecoratorMetadata in what tsconfig.json extends, as modules, with aliases and defined fields", { skip }, async () => {
  const files: Files = {
    ...project,
    "package.json": json({ type: "module", dependencies }),
    "base.json": '{ "compilerOptions": { /* "emitDecoratorMetadata": false */ "emitDecoratorMetadata": true, "target": "es2022" } }',
    "tsconfig.json": json({ extends: "./base", compilerOptions: { experimentalDecorators: true, paths: { "@/*": ["./lib/*"] } } }),
    "api/a.ts": entrypoint.replace("../lib/clock.js", "@/clock"),
  };
  const own = ["clock", "count", "name", "list", "color", "either", "shape"];
  const found = (await run(files)) as { own: string[] };
  assert.deepEqual({ ...found, own: found.own.sort() }, { ...known, own: own.sort() });
});

test("without emitDecoratorMetadata decorators are called and nothing is told", { skip }, async () => {
  const options = { target: "es2021", experimentalDecorators: true };
  const files = { ...project, "tsconfig.json": json({ compilerOptions: options }) };
  assert.deepEqual(await run(files), { fields: [null, null, null, null, null], own: ["clock", "count", "list"], said: 16 });
});
