/** A fake GitHub: its REST API as far as Mayfly calls it, every call held against the published OpenAPI description. */
import { createHmac, generateKeyPairSync, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv, type ValidateFunction } from "ajv";
import { FakeHost, type Answer, type Call, type Hook } from "./fake-host.ts";

interface Operation {
  readonly parameters: readonly { name: string; in: "path" | "query" | "header"; required: boolean; schema: object }[];
  readonly body: object | null;
}

const { operations } = JSON.parse(readFileSync(join(import.meta.dirname, "github-openapi.json"), "utf8")) as {
  operations: Record<string, Operation>;
};
const ajv = new Ajv({ strict: false, validateFormats: false });
// By its number a repository is found in the same shape; the description leaves that call out.
const byNumber = { name: "repository_id", in: "path", required: true, schema: { type: "integer" } } as const;
const known: Record<string, Operation> = { ...operations, "GET /repositories/{repository_id}": { parameters: [byNumber], body: null } };
const checks = Object.entries(known).map(([name, operation]) => {
  const [method = "", path = ""] = name.split(" ");
  const names = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]!);
  return {
    name,
    method,
    names,
    pattern: new RegExp(`^${path.replaceAll(/\{\w+\}/g, "([^/]+)")}$`),
    parameters: operation.parameters.map((parameter) => ({ ...parameter, check: ajv.compile(parameter.schema) })),
    body: operation.body === null ? null : ajv.compile(operation.body),
  };
});

export class FakeGithub extends FakeHost {
  readonly prefix = "/api/v3";
  readonly statuses = new Map<string, { state: string; context: string; description: string; target_url: string }[]>();
  readonly deployments: { id: number; ref: string; environment: string; states: { state: string; environment_url: string }[] }[] = [];
  readonly comments = new Map<number, { id: number; body: string }[]>();
  readonly appKeys = generateKeyPairSync("rsa", { modulusLength: 2048 });
  readonly appSecret = "secret-of-the-app";
  readonly installationToken = "ghs_installation";
  #ids = 1000;

  static open(): Promise<FakeGithub> {
    return new FakeGithub().open();
  }

  override isToken(token: string): boolean {
    return super.isToken(token) || token === this.installationToken;
  }

  idOf(repository: string): number {
    return this.numberOf(repository);
  }

  answer(call: Call): Answer {
    const operation = checks.find(({ method, pattern }) => method === call.method && pattern.test(call.path));
    if (operation === undefined) return this.#wrong(404, `${call.method} ${call.path} is no published call that was expected`);
    const values = operation.pattern.exec(call.path)!.slice(1).map(decodeURIComponent);
    const place = Object.fromEntries(operation.names.map((name, i) => [name, values[i]!]));
    for (const { name, in: where, required, schema, check } of operation.parameters) {
      const text = where === "path" ? place[name] : (call.query.get(name) ?? undefined);
      if (where === "header" || (text === undefined && !required)) continue;
      this.#check(check, (schema as { type?: string }).type === "integer" ? Number(text) : text, `${operation.name}: ${name}`);
    }
    if (operation.body !== null) this.#check(operation.body, call.body, operation.name);
    const open = ["POST /app-manifests/{code}/conversions"].includes(operation.name);
    const token = /^(?:token|bearer) (.+)$/i.exec(String(call.headers.authorization ?? ""))?.[1];
    const asApp = token?.split(".").length === 3;
    if (!open && !asApp && !(token !== undefined && this.isToken(token))) return { status: 401, body: { message: "Bad credentials" } };
    return this.#act(operation.name, place, call);
  }

  #act(name: string, place: Record<string, string>, { body }: Call): Answer {
    const path = `${place["owner"]}/${place["repo"]}`;
    switch (name) {
      case "GET /repos/{owner}/{repo}":
        return { status: 200, body: { id: this.idOf(path), full_name: path, default_branch: "main", private: this.privates.has(path) } };
      case "GET /repositories/{repository_id}": {
        const found = this.paths.find((known) => this.idOf(known) === Number(place["repository_id"]));
        if (found === undefined) return { status: 404, body: { message: "Not Found" } };
        return { status: 200, body: { id: this.idOf(found), full_name: found, default_branch: "main", private: this.privates.has(found) } };
      }
      case "GET /repos/{owner}/{repo}/installation":
        return { status: 200, body: { id: 77 } };
      case "POST /app/installations/{installation_id}/access_tokens":
        return {
          status: 201,
          body: {
            token: this.installationToken,
            expires_at: "2999-01-01T00:00:00Z",
            permissions: { contents: "read" },
            repository_selection: "all",
          },
        };
      case "POST /app-manifests/{code}/conversions": {
        const pem = this.appKeys.privateKey.export({ type: "pkcs8", format: "pem" });
        if (place["code"] !== "good-code") return { status: 404, body: { message: "Not Found" } };
        return { status: 201, body: { id: 4711, slug: "mayfly-test", pem, webhook_secret: this.appSecret } };
      }
      case "GET /repos/{owner}/{repo}/collaborators/{username}/permission":
        return { status: 200, body: { permission: this.members.has(place["username"]!) ? "write" : "read" } };
      case "POST /repos/{owner}/{repo}/hooks": {
        const { url, secret } = body["config"] as Hook;
        this.hooks.set(path, [...(this.hooks.get(path) ?? []), { url, secret }]);
        return { status: 201, body: { id: ++this.#ids } };
      }
      case "DELETE /repos/{owner}/{repo}/hooks/{hook_id}":
        this.hooks.delete(path);
        return { status: 204 };
      case "POST /repos/{owner}/{repo}/statuses/{sha}": {
        const sha = place["sha"]!;
        this.statuses.set(sha, [...(this.statuses.get(sha) ?? []), body as never]);
        return { status: 201, body: { id: ++this.#ids } };
      }
      case "POST /repos/{owner}/{repo}/deployments": {
        const id = ++this.#ids;
        this.deployments.push({ id, ref: String(body["ref"]), environment: String(body["environment"]), states: [] });
        return { status: 201, body: { id } };
      }
      case "POST /repos/{owner}/{repo}/deployments/{deployment_id}/statuses": {
        const deployment = this.deployments.find(({ id }) => id === Number(place["deployment_id"]));
        if (deployment === undefined) return { status: 404, body: { message: "Not Found" } };
        deployment.states.push(body as never);
        return { status: 201, body: { id: ++this.#ids } };
      }
      case "GET /repos/{owner}/{repo}/issues/{issue_number}/comments":
        return { status: 200, body: this.comments.get(Number(place["issue_number"])) ?? [] };
      case "POST /repos/{owner}/{repo}/issues/{issue_number}/comments": {
        const number = Number(place["issue_number"]);
        const comment = { id: ++this.#ids, body: String(body["body"]) };
        this.comments.set(number, [...(this.comments.get(number) ?? []), comment]);
        return { status: 201, body: comment };
      }
      case "PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}": {
        const comment = [...this.comments.values()].flat().find(({ id }) => id === Number(place["comment_id"]));
        if (comment === undefined) return { status: 404, body: { message: "Not Found" } };
        comment.body = String(body["body"]);
        return { status: 200, body: comment };
      }
      default:
        return this.#wrong(501, `${name} is not faked`);
    }
  }

  #check(check: ValidateFunction, value: unknown, what: string): void {
    if (!check(value)) this.wrong.push(`${what}: ${ajv.errorsText(check.errors)} (${JSON.stringify(value)})`);
  }

  #wrong(status: number, what: string): Answer {
    this.wrong.push(what);
    return { status, body: { message: what } };
  }

  /** Sends a webhook to every hook of the repository; the answers. */
  async deliver(
    repository: string,
    event: string,
    payload: Record<string, unknown>,
    options: { id?: string; hooks?: readonly Hook[]; signature?: string | null } = {},
  ) {
    const body = JSON.stringify({ ...payload, repository: { id: this.idOf(repository), full_name: repository } });
    const id = options.id ?? randomUUID();
    const answers = [];
    for (const hook of options.hooks ?? this.hooks.get(repository) ?? []) {
      const signature = options.signature ?? `sha256=${createHmac("sha256", hook.secret).update(body).digest("hex")}`;
      const signed: Record<string, string> = options.signature === null ? {} : { "x-hub-signature-256": signature };
      answers.push(
        await this.send(hook, { "x-github-event": event, "x-github-delivery": id, "user-agent": "GitHub-Hookshot/fake", ...signed }, body),
      );
    }
    return answers;
  }

  push(repository: string, branch: string, after: string, options: { id?: string; deleted?: boolean; hooks?: readonly Hook[] } = {}) {
    const { deleted = false, ...rest } = options;
    const payload = {
      ref: `refs/heads/${branch}`,
      after: deleted ? "0".repeat(40) : after,
      deleted,
      pushed_at: ++this.#ids,
      head_commit: { author: { username: "ann" } },
    };
    return this.deliver(repository, "push", payload, rest);
  }

  pullRequest(
    repository: string,
    pull: { number: number; action: string; branch: string; sha: string; from?: string; sender?: string; hooks?: readonly Hook[] },
  ) {
    const { number, action, branch, sha, from = repository, sender = "ann" } = pull;
    const head = { ref: branch, sha, repo: { id: this.idOf(from), full_name: from } };
    const payload = {
      action,
      pull_request: { number, state: action === "closed" ? "closed" : "open", head, updated_at: ++this.#ids },
      sender: { login: sender },
    };
    return this.deliver(repository, "pull_request", payload, pull.hooks === undefined ? {} : { hooks: pull.hooks });
  }

  comment(repository: string, number: number, text: string, sender: string) {
    const payload = {
      action: "created",
      issue: { number, pull_request: {} },
      comment: { id: ++this.#ids, body: text },
      sender: { login: sender },
    };
    return this.deliver(repository, "issue_comment", payload);
  }
}
