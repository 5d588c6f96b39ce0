/** SQLite as a usage store: it passes the suite of all. */
import { join } from "node:path";
import { scratchDirectory } from "../../test/scratch.ts";
import { openSqliteUsage } from "./sqlite.ts";
import { usageStoreConformance } from "./usage-store.conformance.ts";

usageStoreConformance("sqlite", () => {
  const path = join(scratchDirectory(), "usage.db");
  return { open: (clock) => openSqliteUsage({ path, clock, daysMax: 90, bufferRowsMax: 50 }) };
});
