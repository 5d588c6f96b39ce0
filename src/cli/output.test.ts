/** What the command line writes: colours, the live line, text that others wrote, tables. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { closestTo, editDistance } from "../suggestion.ts";
import { formatBytes, formatDuration, formatTable, printable, Terminal } from "./output.ts";

/** A terminal whose streams are remembered. */
function terminal(isTTY: boolean, env: Record<string, string> = {}) {
  const written = { stdout: "", stderr: "" };
  const stream = (name: "stdout" | "stderr") => ({ isTTY, columns: 20, write: (text: string) => (written[name] += text) });
  return { written, terminal: new Terminal({ stdout: stream("stdout"), stderr: stream("stderr"), env }) };
}

describe("Terminal", () => {
  it("colours on a terminal only, and never with NO_COLOR", () => {
    const painted = (isTTY: boolean, env: Record<string, string>): string => terminal(isTTY, env).terminal.paint("red", "x");
    assert.equal(painted(true, {}), "\u001b[31mx\u001b[39m");
    assert.equal(painted(true, { NO_COLOR: "" }), "\u001b[31mx\u001b[39m");
    assert.equal(painted(true, { NO_COLOR: "1" }), "x");
    assert.equal(painted(true, { TERM: "dumb" }), "x");
    assert.equal(painted(false, {}), "x");
  });

  it("redraws one live line on a terminal, below what is noted", () => {
    const { written, terminal: live } = terminal(true);
    live.live("Uploading 1 of 12 files…");
    live.note("line");
    live.out("result");
    live.settle();
    assert.equal(written.stderr, "Uploading 1 of 12 f\r\u001b[Kline\nUploading 1 of 12 f\r\u001b[KUploading 1 of 12 f\r\u001b[K");
    assert.equal(written.stdout, "result\n");
  });

  it("lets no control sequence through, wherever in a line it comes from", () => {
    const hostile = "a\u001b]0;title\u0007b\u001b[2J\u001b[1Ac\u009b2Jd\re";
    for (const isTTY of [true, false]) {
      const { written, terminal: one } = terminal(isTTY);
      one.out(`${one.paint("red", "x")} ${hostile}`);
      one.note(hostile);
      one.json({ [hostile]: hostile });
      one.live(hostile);
      one.settle();
      // eslint-disable-next-line no-control-regex
      const rest = (written.stdout + written.stderr).replaceAll(/\u001b\[[\d;]*m|\r\u001b\[K|\n/g, "");
      // eslint-disable-next-line no-control-regex
      assert.doesNotMatch(rest, /[\u0000-\u001f\u007f-\u009f]/);
      assert.deepEqual(JSON.parse(written.stdout.split("\n")[1]!), { [hostile]: hostile });
    }
  });

  it("has no live line elsewhere", () => {
    const { written, terminal: plain } = terminal(false);
    plain.live("x");
    plain.settle();
    assert.equal(written.stderr, "");
  });
});

it("passes no control sequence of others on, but colours where there are colours", () => {
  const text = "a\u001b[31mred\u001b[0m\u001b[2J\u001b]0;title\u0007\r\bb\tc";
  assert.equal(printable(text, false), "aredb\tc");
  assert.equal(printable(text, true), "a\u001b[31mred\u001b[0mb\tc\u001b[0m");
  assert.equal(printable("plain", true), "plain");
});

it("formats bytes, durations and tables for people", () => {
  assert.deepEqual([0, 999, 1000, 1234, 9949, 9951, 999_499, 999_500, 1.1e9, 5e12].map(formatBytes), [
    "0 B",
    "999 B",
    "1.0 kB",
    "1.2 kB",
    "9.9 kB",
    "10 kB",
    "999 kB",
    "1.0 MB",
    "1.1 GB",
    "5.0 TB",
  ]);
  assert.deepEqual([0, 12.4, 994, 995, 1234, 9949, 9950, 59_499, 59_500, 125_000, 11_040_000, 183_600_000].map(formatDuration), [
    "0 ms",
    "12 ms",
    "994 ms",
    "1.0 s",
    "1.2 s",
    "9.9 s",
    "10 s",
    "59 s",
    "1 min 0 s",
    "2 min 5 s",
    "3 h 4 min",
    "2 d 3 h",
  ]);
  assert.deepEqual(
    formatTable(
      [
        ["a", "1"],
        ["bbb", "22"],
      ],
      { right: [1] },
    ),
    ["a     1", "bbb  22"],
  );
  const rows = [["one", "two", "three"]];
  assert.deepEqual(formatTable(rows, { columns: 15, optional: [2, 0] }), ["one  two  three"]);
  assert.deepEqual(formatTable(rows, { columns: 14, optional: [2, 0] }), ["one  two"]);
  assert.deepEqual(formatTable(rows, { columns: 7, optional: [2, 0] }), ["two"]);
});

it("finds the word that was meant", () => {
  assert.equal(editDistance("kitten", "sitting"), 3);
  assert.equal(editDistance("depoly", "deploy"), 1);
  const words = ["deploy", "start", "ls", "logs", "rm"];
  assert.deepEqual(
    ["depoly", "stat", "log", "dep", "l", "zebra"].map((word) => closestTo(word, words)),
    ["deploy", "start", "logs", "deploy", "ls", undefined],
  );
});
