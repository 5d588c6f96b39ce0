/**
 * A fake GitLab: its REST API as far as Mayfly calls it. GitLab publishes no description of it on npm, so calls are held
 * against the fields that its reference names. It refuses, as the real one does, to say a status twice.
 */
import { createHmac, randomUUID } from "node:crypto";
import { FakeHost, type Answer, type Call, type Hook } from "./fake-host.ts";

interface GitlabHook extends Hook {
  readonly signingKey: string;
}

/** Call → body fields that there are; those with `!` must be there. */
const published: Readonly<Record<string, readonly string[]>> = {
  "GET /projects/:id": [],
  "POST /projects/:id/hooks": [
    "url!",
    "token",
    "signing_token",
    "push_events",
    "merge_requests_events",
    "note_events",
    "enable_ssl_verification",
  ],
  "DELETE /projects/:id/hooks/:hook_id": [],
  "GET /projects/:id/members/all/:user_id": [],
  "POST /projects/:id/statuses/:sha": ["state!", "ref", "name", "target_url", "description", "coverage", "pipeline_id", "context"],
  "GET /projects/:id/merge_requests/:iid/notes": [],
  "POST /projects/:id/merge_requests/:iid/notes": ["body!", "created_at", "internal"],
  "PUT /projects/:id/merge_requests/:iid/notes/:note_id": ["body!"],
};
const routes = Object.entries(published).map(([name, fields]) => {
  const [method = "", path = ""] = name.split(" ");
  return { name, method, fields, pattern: new RegExp(`^${path.replaceAll(/:\w+/g, "([^/]+)")}$`) };
});
const states = new Set(["pending", "running", "success", "failed", "canceled", "skipped"]);

export class FakeGitlab extends FakeHost {
  readonly prefix = "/api/v4";
  readonly statuses = new Map<string, { state: string; name: string; description: string; target_url: string }[]>();
  readonly notes = new Map<number, { id: number; body: string }[]>();
  /** GitLab 19 and later sign. */
  signs = true;
  #ids = 1000;

  static open(): Promise<FakeGitlab> {
    return new FakeGitlab().open();
  }

  idOf(repository: string): string {
    return String(this.numberOf(repository));
  }

  answer(call: Call): Answer {
    const route = routes.find(({ method, pattern }) => method === call.method && pattern.test(call.path));
    if (route === undefined) return this.#wrong(`${call.method} ${call.path} is no published call that was expected`);
    for (const field of route.fields) {
      if (field.endsWith("!") && call.body[field.slice(0, -1)] === undefined) this.wrong.push(`${route.name}: ${field} is missing`);
    }
    const known = new Set(route.fields.map((field) => field.replace("!", "")));
    for (const field of Object.keys(call.body)) if (!known.has(field)) this.wrong.push(`${route.name}: there is no ${field}`);
    if (call.headers["private-token"] !== this.token) return { status: 401, body: { message: "401 Unauthorized" } };
    const [id = "", second = "", third = ""] = route.pattern.exec(call.path)!.slice(1).map(decodeURIComponent);
    const path = this.paths.find((known) => this.idOf(known) === id) ?? id;
    if (!this.paths.includes(path)) return { status: 404, body: { message: "404 Project Not Found" } };
    return this.#act(route.name, path, second, third, call.body);
  }

  #act(name: string, path: string, second: string, third: string, body: Call["body"]): Answer {
    switch (name) {
      case "GET /projects/:id": {
        const visibility = this.privates.has(path) ? "private" : "public";
        return { status: 200, body: { id: Number(this.idOf(path)), path_with_namespace: path, default_branch: "main", visibility } };
      }
      case "POST /projects/:id/hooks": {
        const hook = { url: String(body["url"]), secret: String(body["token"]), signingKey: String(body["signing_token"]) };
        this.hooks.set(path, [...(this.hooks.get(path) ?? []), hook]);
        return { status: 201, body: { id: ++this.#ids, url: hook.url } };
      }
      case "DELETE /projects/:id/hooks/:hook_id":
        this.hooks.delete(path);
        return { status: 204 };
      case "GET /projects/:id/members/all/:user_id":
        if (!this.members.has(second)) return { status: 404, body: { message: "404 Not found" } };
        return { status: 200, body: { id: Number(second), access_level: 30 } };
      case "POST /projects/:id/statuses/:sha": {
        const state = String(body["state"]);
        if (!states.has(state)) return this.#wrong(`there is no state ${state}`);
        const before = this.statuses.get(second) ?? [];
        const last = before.findLast((status) => status.name === body["name"])?.state;
        if (last === state) return { status: 400, body: { message: `Cannot transition status via :enqueue from :${last} (Reason(s): …)` } };
        this.statuses.set(second, [...before, body as never]);
        return { status: 201, body: { id: ++this.#ids, status: state } };
      }
      case "GET /projects/:id/merge_requests/:iid/notes":
        return { status: 200, body: this.notes.get(Number(second)) ?? [] };
      case "POST /projects/:id/merge_requests/:iid/notes": {
        const note = { id: ++this.#ids, body: String(body["body"]) };
        this.notes.set(Number(second), [...(this.notes.get(Number(second)) ?? []), note]);
        return { status: 201, body: note };
      }
      case "PUT /projects/:id/merge_requests/:iid/notes/:note_id": {
        const note = (this.notes.get(Number(second)) ?? []).find((one) => one.id === Number(third));
        if (note === undefined) return { status: 404, body: { message: "404 Not found" } };
        note.body = String(body["body"]);
        return { status: 200, body: note };
      }
      default:
        return this.#wrong(`${name} is not faked`);
    }
  }

  #wrong(what: string): Answer {
    this.wrong.push(what);
    return { status: 404, body: { message: what } };
  }

  /** Sends a webhook to every hook of the repository, signed if this GitLab signs; the answers. */
  async deliver(repository: string, event: string, payload: Record<string, unknown>, options: { id?: string; at?: number } = {}) {
    const body = JSON.stringify({ ...payload, project: { id: Number(this.idOf(repository)), path_with_namespace: repository } });
    const id = options.id ?? randomUUID();
    const answers = [];
    for (const hook of (this.hooks.get(repository) ?? []) as GitlabHook[]) {
      const headers: Record<string, string> = { "x-gitlab-event": event, "x-gitlab-event-uuid": randomUUID(), "idempotency-key": id };
      headers["x-gitlab-token"] = hook.secret;
      if (this.signs) {
        const timestamp = String(Math.floor((options.at ?? Date.now()) / 1000));
        const key = Buffer.from(hook.signingKey.replace("whsec_", ""), "base64");
        const signature = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
        Object.assign(headers, { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": `v1,${signature}` });
      }
      answers.push(await this.send(hook, headers, body));
    }
    return answers;
  }

  push(repository: string, branch: string, after: string, options: { id?: string; deleted?: boolean } = {}) {
    const { deleted = false, ...rest } = options;
    const payload = {
      object_kind: "push",
      ref: `refs/heads/${branch}`,
      after: deleted ? "0".repeat(40) : after,
      user_id: 1,
      user_username: "ann",
    };
    return this.deliver(repository, "Push Hook", payload, rest);
  }

  mergeRequest(repository: string, request: { iid: number; action: string; branch: string; sha: string; from?: string; user?: number }) {
    const { iid, action, branch, sha, from = repository, user = 1 } = request;
    const payload = {
      object_kind: "merge_request",
      user: { id: user, username: "ann" },
      object_attributes: {
        iid,
        action,
        state: action === "close" ? "closed" : action === "merge" ? "merged" : "opened",
        source_branch: branch,
        source_project_id: Number(this.idOf(from)),
        target_project_id: Number(this.idOf(repository)),
        last_commit: { id: sha },
        ...(action === "update" ? { oldrev: "1".repeat(40) } : {}),
      },
    };
    return this.deliver(repository, "Merge Request Hook", payload);
  }

  comment(repository: string, iid: number, text: string, user: number) {
    const payload = {
      object_kind: "note",
      user: { id: user },
      object_attributes: { id: ++this.#ids, note: text, noteable_type: "MergeRequest", action: "create" },
      merge_request: { iid },
    };
    return this.deliver(repository, "Note Hook", payload);
  }
}
