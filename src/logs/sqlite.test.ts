/** SQLite as a log store: it passes the suite of all. */
import { join } from "node:path";
import { scratchDirectory } from "../../test/scratch.ts";
import { systemClock } from "../clock.ts";
import { logStoreConformance } from "./log-store.conformance.ts";
import { openSqliteLogs } from "./sqlite.ts";

logStoreConformance("sqlite", () => {
  const path = join(scratchDirectory(), "logs.db");
  return { open: () => openSqliteLogs({ path, clock: systemClock, linesMax: 10, requestsMax: 10, bufferLinesMax: 50 }) };
});
