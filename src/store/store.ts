/**
 * SEAM: the metadata. A driver opens a database, migrates it forward and hands out Kysely; the SQL itself is written
 * once, by noun, in the files beside this one (teams, projects, deployments, aliases, uploads, tokens).
 * `store.conformance.ts` runs all of it against every driver.
 *
 * Invariant: what a caller was told is done is on disk (`synchronous=FULL`), and a deployment becomes READY in the same
 * transaction as its aliases, so a reader sees all of it or nothing.
 */
import type { Kysely } from "kysely";
import type { Tables } from "./tables.ts";

export interface Store {
  readonly db: Kysely<Tables>;
  /**
   * A number that changes whenever another process (or this one) has committed a change. Costs microseconds: the
   * gateway asks before every request whether what it remembers of hosts is still true. Throws when the database is
   * gone; the gateway then serves what it knows.
   */
  revision(): number;
  close(): Promise<void>;
}
