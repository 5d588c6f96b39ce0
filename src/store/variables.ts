/**
 * Variables of a project's environment. Values are sealed (seal.ts), bound to project and name; what is listed has none.
 * A name has at most one value for a target and branch.
 */
import type { Selectable, Transaction } from "kysely";
import type { EnvTarget, Sealed, TimestampMs, Variable } from "../model.ts";
import { randomId } from "../names.ts";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";

/** With its value. */
export interface SealedVariable extends Variable {
  readonly value: Sealed;
}

export type NewVariable = Pick<SealedVariable, "name" | "type" | "targets" | "branch" | "comment" | "value">;

/** By name, then by branch: those for all branches first. */
export async function listVariables(store: Store, projectId: string): Promise<SealedVariable[]> {
  const rows = await store.db.selectFrom("variables").selectAll().where("project_id", "=", projectId).orderBy("name").execute();
  return rows
    .map(toVariable)
    .toSorted((a, b) => (a.name === b.name ? Number(a.branch !== null) - Number(b.branch !== null) || a.createdAt - b.createdAt : 0));
}

/** null when the project has none such. */
export async function findVariable(store: Store, projectId: string, id: string): Promise<SealedVariable | null> {
  const row = await store.db
    .selectFrom("variables")
    .selectAll()
    .where("project_id", "=", projectId)
    .where("id", "=", id)
    .executeTakeFirst();
  return row === undefined ? null : toVariable(row);
}

/** What a deployment of that target and branch gets: a branch's own value beats the one for all. */
export function selectVariables<V extends Variable>(variables: readonly V[], target: EnvTarget, branch: string | null): V[] {
  const fitting = variables.filter((variable) => variable.targets.includes(target));
  const general = fitting.filter((variable) => variable.branch === null);
  const special = fitting.filter((variable) => variable.branch !== null && variable.branch === branch);
  return [...new Map([...general, ...special].map((variable) => [variable.name, variable])).values()];
}

/** Two that would answer for the same name, target and branch. */
export interface VariableConflict {
  readonly name: string;
  readonly target: EnvTarget;
}

/**
 * Adds a variable; with `upsert` it takes the place of those it clashes with, which keep their other targets.
 * @returns a clash, when there is one and `upsert` is not asked for
 */
export async function addVariable(
  store: Store,
  projectId: string,
  creatorId: string,
  variable: NewVariable,
  options: { readonly upsert: boolean; readonly variablesMax: number },
  now: TimestampMs,
): Promise<Variable | VariableConflict | "too_many"> {
  return store.db.transaction().execute(async (trx) => {
    await trx.updateTable("projects").set({ updated_at: now }).where("id", "=", projectId).execute();
    const clashing = await clashes(trx, projectId, variable, null);
    if (clashing.length > 0 && !options.upsert) {
      return { name: variable.name, target: clashing[0]!.targets.find((target) => variable.targets.includes(target))! };
    }
    for (const other of clashing) {
      const targets = other.targets.filter((target) => !variable.targets.includes(target));
      if (targets.length === 0) await trx.deleteFrom("variables").where("id", "=", other.id).execute();
      else
        await trx
          .updateTable("variables")
          .set({ targets: JSON.stringify(targets) })
          .where("id", "=", other.id)
          .execute();
    }
    const { count } = await trx
      .selectFrom("variables")
      .select(({ fn }) => fn.countAll<number>().as("count"))
      .where("project_id", "=", projectId)
      .executeTakeFirstOrThrow();
    if (count >= options.variablesMax) return "too_many";
    // Who replaces a value keeps the variable's identity.
    const kept = clashing.find((other) => other.targets.every((target) => variable.targets.includes(target)));
    const row: Tables["variables"] = {
      id: kept?.id ?? `env_${randomId(24)}`,
      project_id: projectId,
      name: variable.name,
      value: variable.value,
      type: variable.type,
      targets: JSON.stringify(variable.targets),
      branch: variable.branch,
      comment: variable.comment,
      creator_id: creatorId,
      created_at: kept?.createdAt ?? now,
      updated_at: now,
    };
    await trx.insertInto("variables").values(row).execute();
    return toVariable(row);
  });
}

/** null when there is none such; a clash leaves it as it is. */
export async function updateVariable(
  store: Store,
  projectId: string,
  id: string,
  change: Partial<NewVariable>,
  now: TimestampMs,
): Promise<SealedVariable | VariableConflict | null> {
  return store.db.transaction().execute(async (trx) => {
    const row = await trx
      .updateTable("variables")
      .set({ updated_at: now })
      .where("project_id", "=", projectId)
      .where("id", "=", id)
      .returningAll()
      .executeTakeFirst();
    if (row === undefined) return null;
    const changed: SealedVariable = { ...toVariable(row), ...change };
    const [clash] = await clashes(trx, projectId, changed, id);
    if (clash !== undefined) return { name: changed.name, target: clash.targets.find((target) => changed.targets.includes(target))! };
    const { name, value, type, branch, comment } = changed;
    await trx
      .updateTable("variables")
      .set({ name, value, type, branch, comment, targets: JSON.stringify(changed.targets) })
      .where("id", "=", id)
      .execute();
    return changed;
  });
}

/** null when there was none such. */
export async function deleteVariable(store: Store, projectId: string, id: string): Promise<Variable | null> {
  const row = await store.db
    .deleteFrom("variables")
    .where("project_id", "=", projectId)
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirst();
  return row === undefined ? null : toVariable(row);
}

async function clashes(
  trx: Transaction<Tables>,
  projectId: string,
  { name, branch, targets }: Pick<Variable, "name" | "branch" | "targets">,
  besides: string | null,
): Promise<Variable[]> {
  const rows = await trx.selectFrom("variables").selectAll().where("project_id", "=", projectId).where("name", "=", name).execute();
  return rows
    .map(toVariable)
    .filter((other) => other.id !== besides && other.branch === branch && other.targets.some((target) => targets.includes(target)));
}

function toVariable(row: Selectable<Tables["variables"]>): SealedVariable {
  return {
    id: row.id,
    projectId: row.project_id,
    name: row.name,
    value: row.value,
    type: row.type as Variable["type"],
    targets: JSON.parse(row.targets) as EnvTarget[],
    branch: row.branch,
    comment: row.comment,
    creatorId: row.creator_id,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}
