/**
 * What a start leaves behind: the young generation has grown to what loading needed, and V8 shrinks it at a full collection
 * only, which a data plane with little to do may not have for hours. One is made when the start is over. (The control plane's
 * does not shrink by one: it is not asked for there.)
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Takes some tens of milliseconds, in which this process does nothing else. */
export function collectAll(): void {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
}
