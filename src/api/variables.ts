/**
 * A project's environment: variables by target and Git branch, in the shapes that the official client reads. Values are
 * sealed; those of sensitive variables never leave by the API.
 */
import { checkEnv, openVariable, projectVariables } from "../deploy/environment.ts";
import { MayflyError } from "../errors.ts";
import type { EnvTarget, Target, Variable } from "../model.ts";
import { envPlace, variablePlace } from "../store/seal.ts";
import {
  addVariable,
  deleteVariable,
  findVariable,
  listVariables,
  updateVariable,
  type NewVariable,
  type SealedVariable,
  type VariableConflict,
} from "../store/variables.ts";
import { ofProject, ofProjects, theDeployment, theProject, type Endpoint, type EndpointCall, type ProjectCall } from "./endpoint.ts";
import { list, object, oneOf, optional, string, stringOf, type JsonObject, type JsonSchema } from "./schema.ts";

const allTargets: readonly EnvTarget[] = ["production", "preview", "development"];

const targetSchema: JsonSchema = { anyOf: [oneOf(...allTargets), list(oneOf(...allTargets), { minItems: 1 })] };
const variableSchema = {
  key: string,
  value: string,
  type: oneOf("plain", "encrypted", "sensitive"),
  target: targetSchema,
  gitBranch: optional(string),
  comment: optional({ type: "string", maxLength: 1000 }),
  customEnvironmentIds: list(string),
};
const newSchema = object(variableSchema, "key", "value");

export const variableEndpoints: readonly Endpoint[] = [
  ofProject({
    method: "GET",
    path: "/projects/:project/env",
    summary: "List variables; values of sensitive ones are never shown, of encrypted ones with `decrypt=true`",
    access: "read",
    query: { target: string, gitBranch: string, decrypt: oneOf("true", "false"), source: string },
    async handle(call) {
      const { project, context, query } = call;
      const { target, gitBranch } = query;
      const envs = (await listVariables(context.store, project.id)).filter(
        (variable) =>
          (target === undefined || (variable.targets as readonly string[]).includes(target)) &&
          (gitBranch === undefined || variable.branch === gitBranch),
      );
      return { envs: envs.map((variable) => variableJson(variable, shownValue(call, variable))) };
    },
  }),
  ofProject({
    method: "POST",
    path: "/projects/:project/env",
    summary: "Add variables (one or a list), sensitive unless `type` says otherwise; `upsert=true` replaces",
    access: "write",
    query: { upsert: oneOf("true", "false") },
    body: { anyOf: [newSchema, list(newSchema, { maxItems: 1000 })] },
    status: 201,
    async handle(call) {
      const many = Array.isArray(call.body);
      const created: unknown[] = [];
      const failed: unknown[] = [];
      for (const item of many ? (call.body as unknown as JsonObject[]) : [call.body]) {
        try {
          created.push(await add(call, item));
        } catch (error) {
          if (!many || !(error instanceof MayflyError)) throw error;
          failed.push({ error: { code: error.code, message: error.message, key: item["key"], ...error.details } });
        }
      }
      return { created: many ? created : created[0], failed };
    },
  }),
  ofProject({
    method: "GET",
    path: "/projects/:project/env/:id",
    summary: "Get a variable; the value only of one that is not sensitive",
    access: "read",
    async handle(call) {
      const variable = await findVariable(call.context.store, call.project.id, call.params["id"]!);
      if (variable === null) throw new MayflyError("not_found", "Variable not found");
      return variableJson(variable, variable.type === "sensitive" ? "" : openVariable(call.context.seal, variable));
    },
  }),
  ofProject({
    method: "PATCH",
    path: "/projects/:project/env/:id",
    summary: "Change a variable; a sensitive one stays sensitive",
    access: "write",
    body: object(variableSchema),
    async handle({ project, params, body, context: { store, seal, clock, config } }) {
      const before = await findVariable(store, project.id, params["id"]!);
      if (before === null) throw new MayflyError("not_found", "Variable not found");
      const name = stringOf(body, "key") ?? before.name;
      const type = (stringOf(body, "type") ?? before.type) as Variable["type"];
      if (before.type === "sensitive" && type !== "sensitive" && body["value"] === undefined) {
        throw new MayflyError("invalid_env", "A sensitive variable cannot be made readable; give it a new value.");
      }
      const value = stringOf(body, "value") ?? openVariable(seal, before);
      checkEnv({ [name]: value }, config.envBytesMax);
      const changed = await updateVariable(
        store,
        project.id,
        before.id,
        {
          name,
          type,
          value: seal.close(value, variablePlace(project.id, name)),
          ...(body["target"] === undefined ? {} : { targets: targetsOf(body) }),
          ...(body["gitBranch"] === undefined ? {} : { branch: stringOf(body, "gitBranch") }),
          ...(body["comment"] === undefined ? {} : { comment: stringOf(body, "comment") ?? "" }),
        },
        clock.now(),
      );
      if (changed === null) throw new MayflyError("not_found", "Variable not found");
      if (!("id" in changed)) throw clash(changed);
      return variableJson(changed, "");
    },
  }),
  ofProject({
    method: "DELETE",
    path: "/projects/:project/env/:id",
    summary: "Delete a variable",
    access: "write",
    async handle({ project, params, context }) {
      const variable = await deleteVariable(context.store, project.id, params["id"]!);
      if (variable === null) throw new MayflyError("not_found", "Variable not found");
      return variableJson(variable, "");
    },
  }),
  ...["/env/pull/:id", "/env/pull/:id/:target", "/env/pull/:id/:target/*"].map((path) =>
    ofProjects({
      method: "GET",
      path,
      summary: "The environment of a project's target and Git branch, or of a deployment; sensitive values are empty",
      access: "read",
      query: { source: string },
      handle: (call) => (call.params["id"]!.startsWith("dpl_") ? pullDeployment(call) : pullProject(call)),
    }),
  ),
];

async function add(call: ProjectCall, body: JsonObject): Promise<unknown> {
  const { project, identity, query } = call;
  const { store, seal, clock, config } = call.context;
  const [name, value, branch] = [stringOf(body, "key")!, stringOf(body, "value")!, stringOf(body, "gitBranch")];
  if (Array.isArray(body["customEnvironmentIds"]) && body["customEnvironmentIds"].length > 0) {
    throw new MayflyError("invalid_env", "There are no environments but production, preview and development.");
  }
  checkEnv({ [name]: value }, config.envBytesMax);
  const targets = targetsOf(body);
  if (branch !== null && targets.some((target) => target !== "preview")) {
    throw new MayflyError("invalid_env", "Only a variable for preview can be for one Git branch.");
  }
  const variable: NewVariable = {
    name,
    type: (stringOf(body, "type") ?? "sensitive") as Variable["type"],
    targets,
    branch,
    comment: stringOf(body, "comment") ?? "",
    value: seal.close(value, variablePlace(project.id, name)),
  };
  const options = { upsert: query["upsert"] === "true", variablesMax: config.variablesMax };
  const added = await addVariable(store, project.id, identity.user.id, variable, options, clock.now());
  if (added === "too_many") throw new MayflyError("invalid_env", `A project may have ${config.variablesMax} variables.`);
  if (!("id" in added)) throw clash(added);
  return variableJson(added, "");
}

const clash = ({ name, target }: VariableConflict): MayflyError =>
  new MayflyError("ENV_CONFLICT", `A variable ${name} exists already for ${target}.`, { details: { envVarKey: name, target } });

/** Of a list or a single one; without any: all. */
function targetsOf(body: JsonObject): EnvTarget[] {
  const target = body["target"];
  if (target === undefined) return [...(typeof body["gitBranch"] === "string" ? (["preview"] as const) : allTargets)];
  return [...new Set([target].flat() as EnvTarget[])];
}

function shownValue({ context, query }: EndpointCall, variable: SealedVariable): string {
  if (variable.type === "plain" || (variable.type === "encrypted" && query["decrypt"] === "true")) {
    return openVariable(context.seal, variable);
  }
  return "";
}

/** What the project's next deployment for that target would get, for a person's machine. */
async function pullProject(call: EndpointCall) {
  const { context, params } = call;
  const project = await theProject(call, params["id"]!);
  const target = (params["target"] ?? "development") as EnvTarget;
  if (!allTargets.includes(target)) throw new MayflyError("bad_request", `The target must be ${allTargets.join(", ")}.`);
  const branch = params["*"] === undefined || params["*"] === "" ? null : params["*"];
  const variables = await projectVariables(context.store, project.id, target, branch === null ? null : { branch, fork: false });
  const own = Object.fromEntries(
    variables.map((variable) => [variable.name, variable.type === "sensitive" ? "" : openVariable(context.seal, variable)]),
  );
  const env = { ...own, VERCEL: "1", VERCEL_ENV: target, VERCEL_TARGET_ENV: target };
  return { env, buildEnv: env };
}

/** What a deployment got. */
async function pullDeployment(call: EndpointCall) {
  const { seal } = call.context;
  const { id, request, target, host } = await theDeployment(call, call.params["id"]!);
  const hidden = new Set(request.sensitive);
  const open = (env: Readonly<Record<string, string>>) =>
    Object.fromEntries(Object.entries(env).map(([name, value]) => [name, hidden.has(name) ? "" : seal.open(value, envPlace(id, name))]));
  const system = { ...request.systemEnv, VERCEL: "1", VERCEL_ENV: target satisfies Target, VERCEL_TARGET_ENV: target, VERCEL_URL: host };
  return { env: { ...open(request.env), ...system }, buildEnv: { ...open(request.buildEnv), ...system } };
}

function variableJson(variable: Variable, value: string) {
  const { id, name, type, targets, branch, comment, creatorId, createdAt, updatedAt } = variable;
  return {
    id,
    key: name,
    value,
    type,
    target: targets,
    ...(branch === null ? {} : { gitBranch: branch }),
    ...(comment === "" ? {} : { comment }),
    configurationId: null,
    customEnvironmentIds: [],
    createdBy: creatorId,
    createdAt,
    updatedAt,
  };
}
