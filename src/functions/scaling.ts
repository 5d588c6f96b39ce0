/**
 * When one more instance pays and which one is given up (pure). A boot costs tens of milliseconds of CPU, so a short queue
 * in front of a quick Function had better wait for its instances. What is given up costs least to lose: greedy-dual by
 * frequency, cost and size, as in FaasCache (Fuerst and Sharma, 2021).
 */

/** A Function's demand at one moment. */
export interface Demand {
  /** Requests without an instance. */
  readonly waiting: number;
  /** How long the first of them has waited. */
  readonly oldestWaitMs: number;
  readonly boots: number;
  /** Instances that have answered and will be free in a moment. */
  readonly finishing: number;
  /** Instances at work, finishing ones included. */
  readonly busy: number;
  /** Of those, the ones that have not been at it for long. */
  readonly fresh: number;
  /** How long an invocation takes; undefined until one has ended. */
  readonly serviceMs: number | undefined;
  /** CPU time that an invocation takes; undefined while that is not known. */
  readonly cpuMs: number | undefined;
  /** How long a boot takes. */
  readonly bootMs: number;
  readonly sinceLastBootMs: number;
  /** Of the machine. */
  readonly processors: number;
  /** Share of one of them that an instance may have. */
  readonly cpuShare: number;
  /** They are busy, so that another instance would take its time from those that are at work. */
  readonly saturated: boolean;
}

/** What of a demand tells whether more instances would get more done. */
export type Work = Pick<Demand, "fresh" | "serviceMs" | "cpuMs" | "processors" | "cpuShare">;

/** What a boot costs in CPU time, also one that a guest standing by makes quick: that guest is replaced. */
const bootCostMsMin = 50;
/** A queue that stays this long is worth another instance, now and then; a short one, as long as processors have none. */
const queueMsTolerated = 10;
const queueMsToleratedByFew = 1;
/** Boots for throughput's sake may take a tenth of the time. */
const throughputBootSpacing = 10;
/** With all processors busy what waits long waits for them; unless Functions sleep while others compute. */
const saturatedBootSpacing = 20;
/** Invocations that take longer share the processors more fairly than they would queue. */
const quickMsMax = 2;
/** What computes for less of its time waits for something else. */
const computingShare = 0.5;
/** Beyond one for each processor: so that one has a request at hand while another's answer is passed on. */
const spareInstances = 1;
/** An estimate that was so much too low was wrong: an instance may hang. */
const impatienceFactor = 8;
const impatienceMsMin = 10;

/** Whether to boot an instance for one more of the requests that wait. */
export function wantsBoot(demand: Demand): boolean {
  const { waiting, boots, finishing, busy, serviceMs, sinceLastBootMs, processors } = demand;
  if (waiting <= boots + finishing || keepProcessorsBusy(demand)) return false;
  if (serviceMs === undefined || busy + boots === 0) return true;
  const expectedMs = expectedWaitMs(demand);
  const costMs = Math.max(bootCostMsMin, demand.bootMs);
  if (expectedMs >= costMs) return true;
  if (boots > 0) return false;
  const few = busy < processors;
  if (demand.saturated && !few) return sinceLastBootMs >= costMs * saturatedBootSpacing && demand.oldestWaitMs >= impatienceMs(demand);
  if (demand.oldestWaitMs >= impatienceMs(demand) && sinceLastBootMs >= costMs) return true;
  return expectedMs >= (few ? queueMsToleratedByFew : queueMsTolerated) && sinceLastBootMs >= costMs * throughputBootSpacing;
}

/**
 * Whether the instances at work are as many as the processors can run of a Function that does nothing but compute. Then a
 * request had better wait for one of these than have another begin: that would take its time from them, and a few that go
 * on working run optimised code from warm caches, where many that take turns do not.
 */
export function keepProcessorsBusy({ fresh, serviceMs, cpuMs, processors, cpuShare }: Work): boolean {
  if (serviceMs === undefined || cpuMs === undefined || serviceMs > quickMsMax || cpuMs < serviceMs * computingShare) return false;
  return fresh >= processors / Math.min(1, cpuShare) + spareInstances;
}

/** After which wait the first request should be looked at again. */
export function impatienceMs(demand: Demand): number {
  return Math.min(Math.max(bootCostMsMin, demand.bootMs), impatienceMsMin + impatienceFactor * expectedWaitMs(demand));
}

function expectedWaitMs({ waiting, serviceMs = 0, busy, boots }: Demand): number {
  return (waiting * serviceMs) / Math.max(1, busy + boots);
}

/** What an idle instance is worth. */
export interface Worth {
  /** The node's greedy-dual clock when it was used last. */
  readonly clock: number;
  /** Invocations it has answered: since the last used one is taken first, surplus ones have few. */
  readonly uses: number;
  readonly bootMs: number;
  readonly memoryMB: number;
}

/** The lower, the smaller the loss. */
export function priorityOf({ clock, uses, bootMs, memoryMB }: Worth): number {
  return clock + (uses * bootMs) / Math.max(1, memoryMB);
}

/** The node's greedy-dual clock: it moves on to the priority of what is given up, so that what is not used ages. */
export class EvictionClock {
  #now = 0;

  get now(): number {
    return this.#now;
  }

  /** The cheapest to lose, the earlier of equal ones, and moves the clock on. */
  evict<T>(candidates: Iterable<T>, worthOf: (candidate: T) => Worth): T | undefined {
    let cheapest: T | undefined;
    let lowest = Number.POSITIVE_INFINITY;
    for (const candidate of candidates) {
      const priority = priorityOf(worthOf(candidate));
      if (priority >= lowest) continue;
      cheapest = candidate;
      lowest = priority;
    }
    if (cheapest !== undefined) this.#now = Math.max(this.#now, lowest);
    return cheapest;
  }
}

/** Newer values count for a fifth. */
export const smoothed = (mean: number | undefined, value: number): number => (mean === undefined ? value : mean + (value - mean) / 5);

const windowMs = 500;

/**
 * What an invocation takes when nothing hinders it: the least of the last half to whole second. With more instances at
 * work than processors each takes longer, and by a mean that would ask for still more of them. After a rest the first ones
 * are slow, and what was known before holds for one window more.
 */
export class ServiceTime {
  #ms: number | undefined;
  #least = Number.POSITIVE_INFINITY;
  #leastBefore = Number.POSITIVE_INFINITY;
  #sinceMs = Number.NEGATIVE_INFINITY;

  /** undefined until one has ended. */
  get ms(): number | undefined {
    return this.#ms;
  }

  record(ms: number, nowMs: number): void {
    if (nowMs - this.#sinceMs >= windowMs) {
      this.#leastBefore = nowMs - this.#sinceMs < 2 * windowMs ? this.#least : (this.#ms ?? Number.POSITIVE_INFINITY);
      this.#least = Number.POSITIVE_INFINITY;
      this.#sinceMs = nowMs;
    }
    if (ms < this.#least) this.#least = ms;
    this.#ms = Math.min(this.#least, this.#leastBefore);
  }
}
