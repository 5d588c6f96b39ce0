/** How long an instance is kept: pure, so with gaps alone. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { IdleGaps, surplusKeepMs } from "./keep-alive.ts";

const minute = 60_000;
const bounds = { fixedMs: 10 * minute, msMin: minute, msMax: 240 * minute };

const after = (...gaps: readonly (readonly [times: number, minutes: number])[]): number => {
  const learnt = new IdleGaps();
  for (const [times, minutes] of gaps) for (let n = 0; n < times; n++) learnt.record(minutes * minute);
  return learnt.keepMs(bounds) / minute;
};

describe("keep-alive", () => {
  it("is fixed until there are enough gaps", () => {
    assert.equal(after(), 10);
    assert.equal(after([19, 30]), 10);
    assert.equal(after([20, 30]), 34.1);
  });

  it("covers the 99th percentile and a margin, within bounds", () => {
    assert.equal(after([990, 0.1], [10, 59.5]), 1.1);
    assert.equal(after([980, 0.1], [20, 59.5]), 66);
    assert.equal(after([100, 0.01]), 1.1);
    assert.equal(after([100, 239.9]), 240);
    assert.equal(new IdleGaps().keepMs({ ...bounds, fixedMs: 0 }), 0);
  });

  it("is fixed when gaps are scattered, or mostly too long to wait for", () => {
    assert.equal(after(...Array.from({ length: 200 }, (_, at) => [5, at] as const)), 10);
    assert.equal(after([30, 5], [31, 300]), 10);
    assert.equal(after([30, 5], [29, 300]), 6.6);
  });

  it("forgets a rhythm that has changed", () => {
    assert.equal(after([10_000, 120], [10_000, 2]) < 200, true);
    assert.equal(after([10_000, 120], [200_000, 2]), 3.3);
  });

  it("keeps the last instance longest", () => {
    assert.deepEqual(
      [0, 1, 2, 9, 99].map((rank) => surplusKeepMs(10 * minute, rank, bounds) / minute),
      [10, 5, 10 / 3, 1, 1],
    );
    assert.equal(surplusKeepMs(1000, 5, bounds), 1000);
  });
});
