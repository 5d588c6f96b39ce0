/** Lines of a guest's output, however its bytes arrive. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { LineCutter } from "./lines.ts";

function cut(chunks: readonly Buffer[], bytesMax: number): string[] {
  const lines: string[] = [];
  const cutter = new LineCutter(bytesMax, (line) => lines.push(line));
  for (const chunk of chunks) cutter.push(chunk);
  cutter.flush();
  return lines;
}

it("cuts the same lines however the bytes arrive", () => {
  const text = "one\ntwo\r\n\nfünf ünd €uro 😀😀😀😀😀\nno newline";
  for (const bytesMax of [4, 5, 6, 7, 8, 16, 1000]) {
    const whole = cut([Buffer.from(text)], bytesMax);
    for (const line of whole)
      assert.ok(Buffer.byteLength(line) <= bytesMax && line.isWellFormed() && !line.includes("\u{fffd}"), JSON.stringify(line));
    assert.equal(whole.join(""), text.replaceAll(/\r?\n/g, ""));
    for (const size of [1, 2, 3, 7]) {
      const pieces = Array.from({ length: Math.ceil(Buffer.byteLength(text) / size) }, (_, index) =>
        Buffer.from(text).subarray(index * size, (index + 1) * size),
      );
      assert.deepEqual(cut(pieces, bytesMax), whole, `${bytesMax} by ${size}`);
    }
  }
});

it("survives bytes that are no UTF-8", () => {
  assert.equal(cut([Buffer.alloc(1000, 0x80)], 64).length, 16);
});
