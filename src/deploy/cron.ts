/**
 * Cron jobs: what a manifest's `crons` ask for, at whole minutes in UTC, of the production deployment only, as a request
 * through the gateway like anybody's. A job never overlaps itself; what was due while no control plane ran is not made up
 * for. Two control planes on one database do not run a job twice: see store/cron-runs.ts.
 */
import { Cron as Schedule } from "croner";
import { request } from "node:http";
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError, messageOf } from "../errors.ts";
import type { Deployment, Digest, Manifest, Project, TimestampMs } from "../model.ts";
import { findAlias } from "../store/aliases.ts";
import { beginCronRun, endCronRun, type CronJob } from "../store/cron-runs.ts";
import { findDeployment } from "../store/deployments.ts";
import { listAllProjects } from "../store/projects.ts";
import { envPlace, type Seal } from "../store/seal.ts";
import type { Store } from "../store/store.ts";
import { productionHost } from "./alias.ts";

const minuteMs = 60_000;
/** Beyond the longest invocation and wait for an instance, a request has no answer to hope for. */
const graceMs = 30_000;

export interface CronOptions {
  readonly store: Store;
  readonly blobs: Pick<BlobStore, "read">;
  readonly clock: Clock;
  readonly seal: Seal;
  readonly config: Pick<Config, "domain" | "functionDurationSMax" | "queueWaitMsMax" | "cronRunsMax" | "cronJobsMax">;
  /** Where the gateway listens. */
  readonly gateway: { readonly host: string; readonly port: number };
  readonly log: (line: string) => void;
}

interface Job extends CronJob {
  readonly deployment: Deployment;
  readonly host: string;
}

/** Whether a text is a schedule: five fields, as Vercel takes them. */
export function isSchedule(text: string): boolean {
  try {
    parseSchedule(text);
    return text.trim().split(/\s+/).length === 5; // no nicknames
  } catch {
    return false;
  }
}

const parseSchedule = (text: string): Schedule => new Schedule(text, { timezone: "UTC", mode: "5-part", paused: true });

export class Cron {
  readonly #options: CronOptions;
  readonly #running = new Set<Promise<void>>();
  readonly #ends = new AbortController();
  /** Manifests never change. */
  readonly #crons = new Map<Digest, Manifest["crons"]>();
  #cancelTick: () => void = () => {};

  constructor(options: CronOptions) {
    this.#options = options;
  }

  /** From now on jobs are run. */
  start(): void {
    const { clock } = this.#options;
    const due = (Math.floor(clock.now() / minuteMs) + 1) * minuteMs;
    this.#cancelTick = clock.after(due - clock.now(), () => {
      // A clock that jumped over minutes, as after sleep, does not make up for them.
      const late = clock.now() - due >= minuteMs;
      this.start();
      if (!late) this.tick(due).catch((error: unknown) => this.#options.log(`Cron: ${messageOf(error)}`));
    });
  }

  /** Runs what is due at this minute; resolves when all of it has ended. */
  async tick(dueAt: TimestampMs): Promise<void> {
    const runs: Promise<void>[] = [];
    for (const project of await listAllProjects(this.#options.store)) {
      for (const job of await this.jobs(project)) {
        if (!parseSchedule(job.schedule).match(new Date(dueAt))) continue;
        while (this.#running.size >= this.#options.config.cronRunsMax) await Promise.race(this.#running);
        if (this.#ends.signal.aborted) return;
        runs.push(this.#start(job, dueAt));
      }
    }
    await Promise.all(runs);
  }

  /** A job at once, beside its schedule. @throws MayflyError not_found, conflict: it is running */
  async runNow(project: Project, path: string): Promise<void> {
    const job = (await this.jobs(project)).find((one) => one.path === path);
    if (job === undefined) throw new MayflyError("not_found", `Production has no cron job at ${JSON.stringify(path.slice(0, 200))}.`);
    const run = { ...job, dueAt: this.#options.clock.now() };
    if ((await this.#begin(run)) !== "begun") throw new MayflyError("conflict", "The job is running.");
    void this.#track(this.#run(run));
  }

  /** Of the project's production deployment; what is no schedule is left out. */
  async jobs(project: Project): Promise<readonly Job[]> {
    const { store, config } = this.#options;
    const host = productionHost(project.name, config.domain);
    const alias = await findAlias(store, project.teamId, host);
    if (alias?.projectId !== project.id) return [];
    const deployment = await findDeployment(store, project.teamId, alias.deploymentId);
    if (deployment?.manifestDigest == null) return [];
    const crons = (await this.#cronsOf(deployment.manifestDigest)) ?? [];
    return crons
      .filter(({ path, schedule }) => path.startsWith("/") && isSchedule(schedule))
      .slice(0, config.cronJobsMax)
      .map(({ path, schedule }) => ({ projectId: project.id, path, schedule, deployment, host }));
  }

  /** When it runs next; null: never. */
  next({ schedule }: Pick<CronJob, "schedule">): TimestampMs | null {
    return parseSchedule(schedule).nextRun(new Date(this.#options.clock.now()))?.getTime() ?? null;
  }

  /** Cuts off what runs. */
  async close(): Promise<void> {
    this.#cancelTick();
    this.#ends.abort();
    await Promise.all(this.#running);
  }

  async #cronsOf(digest: Digest): Promise<Manifest["crons"]> {
    if (!this.#crons.has(digest)) {
      const manifest = JSON.parse((await this.#options.blobs.read(digest)).toString()) as Manifest;
      if (this.#crons.size >= this.#options.config.cronJobsMax) this.#crons.clear();
      this.#crons.set(digest, manifest.crons);
    }
    return this.#crons.get(digest);
  }

  #start(job: Job, dueAt: TimestampMs): Promise<void> {
    const run = { ...job, dueAt };
    return this.#track(this.#begin(run).then((begun) => (begun === "begun" ? this.#run(run) : undefined)));
  }

  #begin(run: Job & { readonly dueAt: TimestampMs }): Promise<"begun" | "overlap" | "claimed"> {
    const { store, clock } = this.#options;
    return beginCronRun(store, { ...run, deploymentId: run.deployment.id }, this.#deadlineMs + graceMs, clock.now());
  }

  #track(run: Promise<void>): Promise<void> {
    const tracked = run
      .catch((error: unknown) => this.#options.log(`Cron: ${messageOf(error)}`))
      .finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
    return tracked;
  }

  async #run(run: Job & { readonly dueAt: TimestampMs }): Promise<void> {
    const { store, clock } = this.#options;
    const end = await this.#ask(run).then(
      (status) => ({ status, error: status < 400 ? null : `It answered ${status}.` }),
      (error: unknown) => ({ status: null, error: messageOf(error) }),
    );
    await endCronRun(store, run, end, clock.now());
  }

  get #deadlineMs(): number {
    const { functionDurationSMax, queueWaitMsMax } = this.#options.config;
    return functionDurationSMax * 1000 + queueWaitMsMax + graceMs;
  }

  /** One GET; a redirect is an answer like any other. @returns the answer's status */
  #ask({ path, host, deployment }: Job): Promise<number> {
    const { seal, gateway } = this.#options;
    const sealed = deployment.request.env["CRON_SECRET"];
    const secret = sealed === undefined ? undefined : seal.open(sealed, envPlace(deployment.id, "CRON_SECRET"));
    return new Promise((resolve, reject) => {
      const outgoing = request({
        host: gateway.host,
        port: gateway.port,
        agent: false,
        method: "GET",
        path: encodeURI(decodeLoosely(path)),
        headers: { host, "user-agent": "vercel-cron/1.0", ...(secret === undefined ? {} : { authorization: `Bearer ${secret}` }) },
        signal: AbortSignal.any([this.#ends.signal, AbortSignal.timeout(this.#deadlineMs)]),
      });
      outgoing.once("error", reject);
      outgoing.once("response", (response) => {
        response.once("error", reject);
        response.once("close", () => (response.complete ? resolve(response.statusCode ?? 0) : reject(new Error("The answer broke off."))));
        response.resume();
      });
      outgoing.end();
    });
  }
}

function decodeLoosely(path: string): string {
  try {
    return decodeURI(path);
  } catch {
    return path;
  }
}
