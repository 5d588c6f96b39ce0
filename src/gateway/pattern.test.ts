/** Patterns that would run for ever, those that must stay as they are, and letters in both cases. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { compilePattern, foldCase, PatternTimeout } from "./pattern.ts";

/** A whole second of one pattern would be a thousand times what it may take, whatever else the machine does. */
const endlessMs = 5000;

describe("patterns that backtrack without end", () => {
  for (const [source, text] of [
    ["^(a|a)*$", `${"a".repeat(5000)}b`],
    ["^/(a+)+$", `/${"a".repeat(5000)}!`],
    ["^/(.*)-(.*)-(.*)-x$", `/${"-".repeat(14_000)}`],
    ["^(?<x>[a-z]+)*(?<y>[a-z]+)*\\d$", "a".repeat(14_000)],
    ["^(?:\\w*)*\\.(?:\\w*)*$", "a".repeat(2000)],
  ] as const) {
    for (const ignoreCase of [false, true]) {
      test(`${source}${ignoreCase ? " in any case" : ""}`, () => {
        const pattern = compilePattern(source, ignoreCase);
        assert(pattern !== null);
        const begin = performance.now();
        for (let count = 0; count < 5; count++) assert.equal(pattern.match(text), null);
        assert(performance.now() - begin < endlessMs);
      });
    }
  }

  test("with look-around or back-references they meet a deadline, and are not tried again", () => {
    for (const [source, text] of [
      ["^/((?!x)(a+)+)+$", `/${"a".repeat(50)}!`],
      ["^(a*)*\\1b$", "a".repeat(60)],
      ["^/(?!api)(.*)-(.*)-(.*)-(.*)x$", `/${"-".repeat(14_000)}`],
    ] as const) {
      const pattern = compilePattern(source, true);
      assert(pattern !== null);
      const begin = performance.now();
      for (let count = 0; count < 20; count++) assert.throws(() => pattern.match(text), PatternTimeout, source);
      assert(performance.now() - begin < endlessMs);
    }
  });

  test("what such a pattern can answer in time, it answers", () => {
    const pattern = compilePattern("^/((?!_next/)(?:[^/]+/)*)$", true);
    assert.equal(pattern?.match(`/${"ab/".repeat(2000)}`)?.[1]?.length, 6000);
    assert.equal(compilePattern("^/(?!api)(.*)/(.*)$", true)?.match(`/${"a/b".repeat(1000)}`)?.length, 3);
  });
});

test("a process that is put aside in the middle of a match has matched all the same, and is given no strike", async () => {
  const program = `
    import { compilePattern } from ${JSON.stringify(join(import.meta.dirname, "pattern.ts"))};
    // As Next.js writes it for trailing slashes below a base path.
    const pattern = compilePattern("^/docs/((?!\\\\.well-known(?:/.*)?)(?:[^/]+/)*[^/\\\\.]+)$", false);
    console.log("begin");
    const end = Date.now() + 1500;
    let matches = 0;
    for (; Date.now() < end; matches++) if (pattern.match("/docs/users/7")?.[1] !== "users/7") throw new Error("no match");
    console.log(matches);
  `;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (said += String(chunk)));
  child.stderr.on("data", (chunk: Buffer) => (said += String(chunk)));
  const ended = once(child, "close");
  await once(child.stdout, "data");
  while (child.exitCode === null && child.signalCode === null) {
    child.kill("SIGSTOP");
    await sleep(60);
    child.kill("SIGCONT");
    await sleep(10);
  }
  await ended;
  assert.match(said, /^begin\n\d+\n$/);
});

test("both cases without the flag: the same matches and captures", () => {
  const sources = [
    "^/a[b-d]x?$",
    "^/API/(.*)\\.Json$",
    "^/[^/a]+$",
    "^/(?<Name>[\\w-]+)/\\d{2,3}$",
    "^/[A-Fa-f0-9-]{3}$",
    "^/(?:b|CC|[.z-])\\.?$",
    "^/((?!_next/).*)$",
  ];
  const texts = [
    "/abx",
    "/ACX",
    "/api/X.JSON",
    "/B",
    "/cc.",
    "/a-",
    "/Z",
    "/-",
    "/Ab-c/123",
    "/DEF",
    "/f-0",
    "/_NEXT/x",
    "/_next/x",
    "/q/w",
  ];
  for (const source of sources) {
    const folded = foldCase(source);
    assert(folded !== null, source);
    for (const text of texts) {
      assert.deepEqual(new RegExp(folded).exec(text)?.slice(), new RegExp(source, "i").exec(text)?.slice(), `${source} ${text}`);
    }
  }
  for (const source of ["[A-z]", "ä", "\\x41", "(?i:a)"]) assert.equal(foldCase(source), null, source);
  assert.equal(compilePattern("^/[A-z]ä$", true)?.match("/BÄ")?.[0], "/BÄ");
});

test("what is no regular expression is null", () => {
  for (const source of ["(", "[", "a{2,1}"]) assert.equal(compilePattern(source, false), null, source);
});
