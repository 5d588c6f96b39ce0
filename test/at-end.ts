/** What a test file has opened and must close when all of it has ended, passed or not: the newest first. */
import { after } from "node:test";

const closings: (() => Promise<void> | void)[] = [];

// Registered where the file is loaded: inside a hook it would belong to that hook and run at its end.
after(async () => {
  for (const close of closings.toReversed()) await close();
});

export function atEnd(close: () => Promise<void> | void): void {
  closings.push(close);
}
