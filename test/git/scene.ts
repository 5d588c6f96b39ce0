/** One repository of one host, connected to one project: the same words for both hosts, so that a test is written once. */
import assert from "node:assert/strict";
import { eventually, type Mayfly, type Reply } from "../server.ts";
import { FakeGithub } from "./fake-github.ts";
import type { FakeGitlab } from "./fake-gitlab.ts";
import { connectProject, deploymentOf, settled, visit, type Listed } from "./journey.ts";
import type { Repository } from "./repository.ts";

/** Someone who may push, and someone who may not, as both hosts name them. */
const people = { member: { login: "mia", id: 7 }, stranger: { login: "sam", id: 8 } } as const;
export type Person = keyof typeof people;

export class Scene {
  readonly mayfly: Mayfly;
  readonly host: FakeGithub | FakeGitlab;
  path: string;
  readonly project: string;
  readonly repository: Repository;

  private constructor(mayfly: Mayfly, host: FakeGithub | FakeGitlab, path: string, project: string, isPrivate: boolean) {
    this.mayfly = mayfly;
    this.host = host;
    this.path = path;
    this.project = project;
    this.repository = host.repository(path, { private: isPrivate });
    host.members.add(people.member.login).add(String(people.member.id));
  }

  /** A repository `ann/NAME` and a project connected to it. */
  static async open(
    mayfly: Mayfly,
    host: FakeGithub | FakeGitlab,
    name: string,
    options: { settings?: Readonly<Record<string, unknown>>; private?: boolean } = {},
  ): Promise<Scene> {
    const project = `${name}-${host instanceof FakeGithub ? "github" : "gitlab"}`;
    const scene = new Scene(mayfly, host, `ann/${name}`, project, options.private === true);
    await connectProject(mayfly, host, scene.path, project, options.settings);
    return scene;
  }

  get provider(): "github" | "gitlab" {
    return this.host instanceof FakeGithub ? "github" : "gitlab";
  }

  /** The host calls the repository something else. */
  rename(path: string): void {
    this.repository.moved(this.host.rename(this.path, path));
    this.path = path;
  }

  /** Commits, pushes, and sends the webhook; the commit. */
  async push(branch: string, files: Readonly<Record<string, string | null>>, message?: string): Promise<string> {
    const sha = this.repository.commit(branch, files, message);
    this.repository.push(branch);
    await this.pushed(branch, sha);
    return sha;
  }

  /** Sends the webhook of a push alone. */
  async pushed(branch: string, sha: string, options: { id?: string; deleted?: boolean } = {}): Promise<number[]> {
    const answers = await this.host.push(this.path, branch, sha, options);
    assert.ok(answers.length > 0, "the host has a webhook");
    return answers.map(({ status }) => status);
  }

  /** Sends the webhook of a pull request; `fork`: it comes from another repository, whose head the host keeps. */
  async pull(
    number: number,
    action: "opened" | "pushed" | "closed",
    branch: string,
    sha: string,
    fork = false,
    by: Person = "stranger",
  ): Promise<void> {
    const from = fork ? "sam/fork" : this.path;
    if (fork) this.repository.push(branch, this.provider === "github" ? `refs/pull/${number}/head` : `refs/merge-requests/${number}/head`);
    const answers =
      this.host instanceof FakeGithub
        ? await this.host.pullRequest(this.path, {
            number,
            action: { opened: "opened", pushed: "synchronize", closed: "closed" }[action],
            branch,
            sha,
            from,
            sender: people[by].login,
          })
        : await this.host.mergeRequest(this.path, {
            iid: number,
            action: { opened: "open", pushed: "update", closed: "close" }[action],
            branch,
            sha,
            from,
            user: people[by].id,
          });
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([202]));
  }

  async comment(number: number, text: string, by: Person): Promise<void> {
    if (this.host instanceof FakeGithub) await this.host.comment(this.path, number, text, people[by].login);
    else await this.host.comment(this.path, number, text, people[by].id);
  }

  /** What came of the last webhook. */
  async result(): Promise<string> {
    const [last] = await settled(this.mayfly, this.project);
    return `${last?.result}`;
  }

  ready(sha: string): Promise<Listed> {
    return deploymentOf(this.mayfly, this.project, sha);
  }

  visit(host: string, path = "/"): Promise<Reply> {
    return visit(this.mayfly, host, path);
  }

  visitProduction(): Promise<Reply> {
    return this.visit(`${this.project}.localhost`);
  }

  visitBranch(branch: string): Promise<Reply> {
    return this.visit(`${this.project}-git-${branch}.localhost`);
  }

  /** States of this project that the host was told of a commit. */
  statuses(sha: string): readonly { state: string; target_url: string; description: string }[] {
    const context = `Mayfly – ${this.project}`;
    if (this.host instanceof FakeGithub) return (this.host.statuses.get(sha) ?? []).filter((status) => status.context === context);
    return (this.host.statuses.get(sha) ?? []).filter((status) => status.name === context);
  }

  /** The last of them, once it is as expected. */
  told(sha: string, state: string) {
    return eventually(`${this.provider} is told that ${sha.slice(0, 7)} is ${state}`, () => {
      const last = this.statuses(sha).at(-1);
      return last?.state === state ? last : null;
    });
  }

  /** Comments on a pull request. */
  comments(number: number): readonly { body: string }[] {
    return (this.host instanceof FakeGithub ? this.host.comments.get(number) : this.host.notes.get(number)) ?? [];
  }

  /** The one comment, once it says so. */
  commented(number: number, words: RegExp) {
    return eventually(`the comment on ${this.provider}'s ${number} says ${words}`, () => {
      assert.ok(this.comments(number).length <= 1, "there is one comment");
      const text = this.comments(number)[0]?.body;
      return text !== undefined && words.test(text) ? text : null;
    });
  }
}
