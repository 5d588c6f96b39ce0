/** Blobs that nothing was found to refer to: they go when that is still so a while later. */
import { sql, type Kysely } from "kysely";

export async function up(db: Kysely<never>): Promise<void> {
  await sql`create table garbage (digest text primary key, size bigint not null, found_at bigint not null)`.execute(db);
}
