/** When another instance is worth its start: pure, so with numbers alone. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BackOff } from "./back-off.ts";
import { MayflyError } from "../errors.ts";
import { EvictionClock, keepProcessorsBusy, priorityOf, ServiceTime, wantsBoot, type Demand, type Work } from "./scaling.ts";
import { share } from "./standby.ts";

const demand = (more: Partial<Demand>): Demand => ({
  waiting: 1,
  oldestWaitMs: 0,
  boots: 0,
  finishing: 0,
  busy: 1,
  fresh: 1,
  cpuMs: undefined,
  cpuShare: 1,
  serviceMs: 10,
  bootMs: 100,
  sinceLastBootMs: 1e9,
  processors: 1,
  saturated: false,
  ...more,
});

describe("when to boot", () => {
  const cases: readonly [string, Partial<Demand>, boolean][] = [
    ["nobody waits", { waiting: 0 }, false],
    ["nothing lives", { busy: 0 }, true],
    ["nothing is known", { serviceMs: undefined }, true],
    ["a boot is under way for each", { waiting: 2, boots: 2, busy: 0, serviceMs: undefined }, false],
    ["an instance is about to be free", { finishing: 1, serviceMs: 1000 }, false],
    ["a quick Function, a short queue", { waiting: 5, serviceMs: 1 }, false],
    ["a slow Function", { waiting: 1, serviceMs: 150 }, true],
    ["a long queue", { waiting: 20, serviceMs: 10 }, true],
    ["a long queue, enough boots under way", { waiting: 20, serviceMs: 10, boots: 2 }, false],
    ["it waits longer than was to be expected", { serviceMs: 1, oldestWaitMs: 40 }, true],
    ["the same while one boots", { serviceMs: 1, oldestWaitMs: 40, boots: 1, waiting: 3 }, false],
    ["a short queue, and a processor that has no instance", { waiting: 5, serviceMs: 1, processors: 2 }, true],
    ["the same, after a boot", { waiting: 5, serviceMs: 1, processors: 2, sinceLastBootMs: 500 }, false],
    ["a queue that stays, for all processors are busy", { waiting: 3, serviceMs: 5, saturated: true }, false],
    ["it waits long since all processors are busy", { serviceMs: 1, oldestWaitMs: 400, sinceLastBootMs: 1000, saturated: true }, false],
    ["it waits long though processors were busy", { serviceMs: 1, oldestWaitMs: 400, sinceLastBootMs: 3000, saturated: true }, true],
    ["as many compute as can", { waiting: 500, serviceMs: 1, cpuMs: 1, busy: 2, fresh: 2, oldestWaitMs: 400 }, false],
    ["as many are at work, but do not compute", { waiting: 500, serviceMs: 1, cpuMs: 0.2, busy: 2, fresh: 2, oldestWaitMs: 400 }, true],
    ["a queue that stays", { waiting: 3, serviceMs: 5 }, true],
    ["a queue that stays, after a boot", { waiting: 3, serviceMs: 5, sinceLastBootMs: 500 }, false],
  ];
  for (const [name, more, expected] of cases) it(name, () => assert.equal(wantsBoot(demand(more)), expected));
});

describe("whether those at work keep the processors busy", () => {
  const work: Work = { fresh: 3, serviceMs: 0.5, cpuMs: 0.4, processors: 2, cpuShare: 1 };
  const cases: readonly [string, Partial<Work>, boolean][] = [
    ["one for each and one more", {}, true],
    ["one for each", { fresh: 2 }, false],
    ["nothing is known of their CPU time", { cpuMs: undefined }, false],
    ["nothing is known of their time", { serviceMs: undefined }, false],
    ["they mostly wait", { cpuMs: 0.2 }, false],
    ["they take long", { serviceMs: 5, cpuMs: 5 }, false],
    ["each may have half a processor", { cpuShare: 0.5 }, false],
    ["each may have half a processor, and there are enough", { cpuShare: 0.5, fresh: 5 }, true],
    ["each may have more than one", { cpuShare: 3 }, true],
  ];
  for (const [name, more, expected] of cases) it(name, () => assert.equal(keepProcessorsBusy({ ...work, ...more }), expected));
});

describe("what an invocation takes", () => {
  it("is the least of late, whatever hinders some, and follows a Function that has become slow", () => {
    const time = new ServiceTime();
    assert.equal(time.ms, undefined);
    time.record(100, 0);
    assert.equal(time.ms, 100);
    for (const [ms, nowMs] of [
      [2, 1],
      [30, 2],
      [50, 499],
      [40, 700],
    ] as const)
      time.record(ms, nowMs);
    assert.equal(time.ms, 2);
    for (const nowMs of [1250, 1800, 2400]) time.record(200, nowMs);
    assert.equal(time.ms, 200);
  });

  it("is what it was before a rest while the first are slow", () => {
    const time = new ServiceTime();
    time.record(2, 0);
    time.record(30, 10_000);
    assert.equal(time.ms, 2);
    time.record(30, 10_600);
    time.record(30, 11_200);
    assert.equal(time.ms, 30);
  });
});

describe("what to give up", () => {
  const worth = { clock: 0, uses: 10, bootMs: 100, memoryMB: 50 };

  it("costs least to lose: seldom used, quick to boot, large", () => {
    assert.ok(priorityOf({ ...worth, uses: 9 }) < priorityOf(worth));
    assert.ok(priorityOf({ ...worth, bootMs: 50 }) < priorityOf(worth));
    assert.ok(priorityOf({ ...worth, memoryMB: 80 }) < priorityOf(worth));
  });

  it("is the earlier of equal ones, and the clock moves on so that what is not used ages", () => {
    const clock = new EvictionClock();
    const all = [
      { name: "popular once", ...worth, uses: 1000 },
      { name: "a", ...worth },
      { name: "b", ...worth },
    ];
    const evict = (): string | undefined => {
      const gone = clock.evict(all, (candidate) => candidate);
      if (gone !== undefined) all.splice(all.indexOf(gone), 1);
      return gone?.name;
    };
    assert.equal(evict(), "a");
    assert.equal(clock.now, 20);
    assert.equal(evict(), "b");
    // Newcomers start at the clock: some hundred evictions later they outlive what was popular once.
    let rounds = 0;
    for (; all.some((candidate) => candidate.name === "popular once"); rounds++) {
      assert.ok(rounds < 1000);
      all.push({ name: "new", ...worth, clock: clock.now });
      evict();
    }
    assert.ok(rounds > 50 && rounds < 500, `${rounds} rounds`);
    assert.equal(
      new EvictionClock().evict([], () => worth),
      undefined,
    );
  });
});

describe("what stands by", () => {
  const kind = (memoryMB: number, nodeMajor = 24) => ({ memoryMB, nodeMajor });

  it("is shared by how often it was asked for", () => {
    assert.deepEqual(share([kind(1), kind(1)], 2), [kind(1), kind(1)]);
    assert.deepEqual(share([kind(1), kind(1), kind(2)], 2), [kind(1), kind(2)]);
    assert.deepEqual(share([kind(1), kind(1), kind(1), kind(1), kind(1), kind(2)], 2), [kind(1), kind(1)]);
    assert.deepEqual(share([kind(1), kind(1, 20)], 1), [kind(1, 20)]);
    assert.deepEqual(share([], 2), []);
  });
});

describe("back-off", () => {
  it("pauses after failures in a row, twice as long each time, up to a bound", () => {
    const backOff = new BackOff({ failuresMax: 3, pauseMsMax: 5000 });
    const error = new MayflyError("FUNCTION_INVOCATION_FAILED", "It has crashed.");
    const pauses = [];
    let now = 0;
    for (let round = 0; round < 7; round++) {
      const pause = backOff.fail(error, now);
      pauses.push(pause);
      assert.equal(backOff.fail(error, now) === undefined || pause === undefined, true, "a failure within a pause begins none");
      now += pause ?? 0;
    }
    assert.deepEqual(
      pauses.filter((pause) => pause !== undefined),
      [1000, 2000, 4000, 5000, 5000, 5000].slice(0, pauses.filter(Boolean).length),
    );
    assert.equal(backOff.onTrial, true);
    const refusal = backOff.refusal(now - 1500);
    assert.deepEqual([refusal.code, refusal.message, refusal.details.retryAfterS], [error.code, error.message, 2]);
    backOff.succeed();
    assert.deepEqual([backOff.onTrial, backOff.leftMs(now), backOff.failures], [false, 0, 0]);
  });
});
