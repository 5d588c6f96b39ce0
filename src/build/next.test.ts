/** The Next.js example, built as a person's deployment is: installed from its lock file, built by its own `next build`. Slow. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { packPath } from "../runtime/module-pack.js";
import { hasRegistry, openTestbed } from "./testbed.ts";
import { nextGroupBytesMax } from "./vercel.ts";

const skip = (await hasRegistry()) ? false : "no npm registry can be reached";

test("examples/next-date: pages and static/ are files, api/ is a Function", { skip, timeout: 180_000 }, async () => {
  await using bed = await openTestbed();
  const result = await bed.build(await bed.example("next-date"));
  assert.equal(result.framework, "nextjs");
  const page = result.outputs["index"];
  assert.equal(page?.kind === "static" ? page.contentType : "", "text/html; charset=utf-8");
  assert.match(await bed.text(result, "index"), /\/static\/logo\.svg/);
  assert.match(await bed.text(result, "static/logo.svg"), /^<svg /);
  assert.equal(result.outputs["404"]?.kind, "static");
  assert.ok(Object.keys(result.outputs).some((path) => path.startsWith("_next/static/")));
  assert.equal(result.outputs["api/date"]?.kind, "function");
  assert.deepEqual(
    Object.values(result.functions).map((spec) => spec.name),
    ["api/date"],
  );
  assert.deepEqual(await bed.leftovers(), []);
});

test("a Next.js server page and its API route are Functions within the limits", { skip, timeout: 180_000 }, async () => {
  await using bed = await openTestbed();
  const example = await bed.example("next-date");
  const files = {
    "package.json": example["package.json"]!,
    "package-lock.json": example["package-lock.json"]!,
    "pages/index.js":
      "export const getServerSideProps = () => ({ props: { now: Date.now() } });\nexport default ({ now }) => <p>{now}</p>;\n",
    "pages/isr.js": "export const getStaticProps = () => ({ props: {}, revalidate: 10 });\nexport default () => <p>isr</p>;\n",
    "pages/forever.js": "export const getStaticProps = () => ({ props: {} });\nexport default () => <p>forever</p>;\n",
    "pages/api/hi.js": "export default (req, res) => res.end('hi');\n",
  };
  const result = await bed.build(files, { settings: { nextFunctions: "separate" } });
  const kinds = Object.fromEntries(["index", "isr", "forever", "api/hi"].map((path) => [path, result.outputs[path]?.kind]));
  assert.deepEqual(kinds, { index: "function", isr: "prerender", forever: "prerender", "api/hi": "function" });
  for (const spec of Object.values(result.functions)) {
    assert.ok(spec.bundleSize < 50 * 1024 * 1024, `${spec.name}: ${spec.bundleSize}`);
    assert.equal(spec.handler, "___next_launcher.cjs");
    assert.ok(Object.keys(await bed.bundle(spec)).includes(packPath), `${spec.name} has a module pack`);
  }
  const functionOf = (path: string): string => {
    const output = result.outputs[path];
    return output !== undefined && "functionId" in output ? (result.functions[output.functionId]?.name ?? "") : "";
  };
  assert.deepEqual(
    ["index", "isr", "forever", "api/hi"].map(functionOf),
    ["index", "isr", "forever", "api/hi"],
    "as the project's setting says",
  );
});

test("pages share Functions up to the limit of one, or have one each, as the project says", () => {
  assert.equal(nextGroupBytesMax("shared", 50e6) > 40e6, true);
  assert.equal(nextGroupBytesMax("separate", 50e6), 1);
  assert.throws(() => nextGroupBytesMax("both", 50e6), { code: "BUILD_FAILED", message: /"shared" or "separate"/ });
});
