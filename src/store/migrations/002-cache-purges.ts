/** What the edge cache must no longer give: every gateway reads the rows that are new to it. */
import { sql, type Kysely } from "kysely";

export async function up(db: Kysely<never>): Promise<void> {
  await sql`create table cache_purges (
    serial bigint primary key, project_id text not null, deployment_id text, tag text, mode text not null,
    created_at bigint not null)`.execute(db);
}
