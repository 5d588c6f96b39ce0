/** What builds leave for the next one of their project. */
import { sql, type Kysely } from "kysely";

export async function up(db: Kysely<never>): Promise<void> {
  await sql`create table build_records (
    project_id text not null, lane text not null, record_digest text not null, updated_at bigint not null,
    primary key (project_id, lane))`.execute(db);
}
