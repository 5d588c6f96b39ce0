/**
 * Git hosts at work: webhooks come in, deployments and reports go out. What is in hand lies in the store, so an end at any
 * moment loses nothing:
 *
 *   webhook ─▶ on disk ─▶ acknowledged        delivery ─▶ deployment        deployment's state ─▶ status, comment
 */
import type { Readable } from "node:stream";
import { messageOf, MayflyError } from "../errors.ts";
import type { GitConnection } from "../model.ts";
import { findGitConnection } from "../store/git-connections.ts";
import {
  coalesceDeliveries,
  deleteDeliveriesBefore,
  finishDelivery,
  listDueDeliveries,
  nextDeliveryAt,
  postponeDelivery,
  type PendingDelivery,
} from "../store/git-deliveries.ts";
import { deleteReportsBefore, listDueReports, nextReportAt, type GitReport } from "../store/git-reports.ts";
import type { GitContext } from "./context.ts";
import { act } from "./deliveries.ts";
import type { Webhook } from "./git-host.ts";
import { post } from "./reports.ts";
import { Rounds } from "./rounds.ts";
import { receiveAppWebhook, receiveConnectionWebhook, type Reception } from "./webhook.ts";

/** How often the store is asked whether a deployment's state has changed: microseconds each. */
const watchMs = 250;
/** Webhooks that may be arriving at the same time. */
const readingMax = 32;
const dayMs = 86_400_000;
const backOffMs = { first: 1000, max: 300_000 } as const;
/** Failures that pass: what was to be done is tried again. */
const passing = new Set(["git_host_unavailable", "queue_full", "disk_full", "internal_error"]);

export class Git {
  readonly context: GitContext;
  readonly #deliveries: Rounds<PendingDelivery>;
  readonly #reports: Rounds<GitReport>;
  #revision = 0;
  #reading = 0;
  #closed = false;
  #cancelWatch: () => void = () => {};
  #cancelCleaning: () => void = () => {};

  constructor(context: GitContext) {
    this.context = context;
    const { store, clock, config } = context.deploy;
    this.#deliveries = new Rounds({
      clock,
      atOnce: config.gitDeliveriesAtOnce,
      find: (limit) => listDueDeliveries(store, clock.now(), limit),
      keyOf: (delivery) => `${delivery.connectionId} ${delivery.subject}`,
      act: (delivery) => this.#deliver(delivery),
      nextAt: () => nextDeliveryAt(store),
      log: context.log,
    });
    this.#reports = new Rounds({
      clock,
      atOnce: config.gitReportsAtOnce,
      find: (limit) => listDueReports(store, clock.now(), limit),
      keyOf: (report) => `${report.baseUrl} ${report.repositoryId}`,
      act: (report) => post(context, report),
      nextAt: () => nextReportAt(store, clock.now()),
      log: context.log,
    });
  }

  /** Takes up what an earlier control plane left. */
  start(): void {
    this.#deliveries.wake();
    this.#watch();
    this.#clean();
  }

  /** A webhook for one connection, on disk when this returns. @throws as {@link receiveConnectionWebhook} */
  receive(connectionId: string, headers: Webhook["headers"], body: Readable): Promise<Reception> {
    return this.#receive(body, (bytes) => receiveConnectionWebhook(this.context, connectionId, { headers, body: bytes }));
  }

  /** A webhook of an App. @throws as {@link receiveAppWebhook} */
  receiveForApp(appId: string, headers: Webhook["headers"], body: Readable): Promise<Reception> {
    return this.#receive(body, (bytes) => receiveAppWebhook(this.context, appId, { headers, body: bytes }));
  }

  /** Deliveries have been put into the store by other means. */
  wake(): void {
    this.#deliveries.wake();
  }

  /** Ends fetches, waits for what is in hand; the next control plane goes on. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelWatch();
    this.#cancelCleaning();
    await this.context.mirrors.close();
    await this.#deliveries.close();
    await this.#reports.close();
  }

  /** Whoever has no secret can make us hold bytes; not more than these at once. */
  async #receive(body: Readable, receive: (bytes: Buffer) => Promise<Reception>): Promise<Reception> {
    if (this.#reading >= readingMax) throw new MayflyError("queue_full", "Too many webhooks arrive at once. Send it again later.");
    this.#reading++;
    try {
      const reception = await receive(await readBytes(body, this.context.deploy.config.gitWebhookBytesMax));
      this.#deliveries.wake();
      return reception;
    } finally {
      this.#reading--;
    }
  }

  async #deliver(delivery: PendingDelivery): Promise<void> {
    const { store, clock, config } = this.context.deploy;
    const connection = await findGitConnection(store, delivery.connectionId);
    if (connection === null) return; // its deliveries are gone with it
    if ((await coalesceDeliveries(store, delivery, clock.now())) !== delivery.id) return;
    try {
      const { result, deploymentId } = await act(this.context, connection, delivery);
      await finishDelivery(store, delivery.id, { state: "DONE", result, deploymentId }, clock.now());
    } catch (error) {
      await this.#failed(connection, delivery, error, config.gitDeliveryAttemptsMax);
    }
  }

  async #failed(connection: GitConnection, delivery: PendingDelivery, error: unknown, attemptsMax: number): Promise<void> {
    const { store, clock } = this.context.deploy;
    const code = error instanceof MayflyError ? error.code : "internal_error";
    if (code === "server_closing") return;
    if (code === "internal_error") this.context.log(`git: ${connection.repository}, ${delivery.subject}: ${stackOf(error)}`);
    const result = `${messageOf(error)} (${code})`;
    if (!passing.has(code) || delivery.attempts + 1 >= attemptsMax) {
      await finishDelivery(store, delivery.id, { state: "FAILED", result }, clock.now());
      return;
    }
    const asked = error instanceof MayflyError ? error.details["retryAfterMs"] : undefined;
    const pause = Math.min(backOffMs.first * 2 ** delivery.attempts, backOffMs.max);
    await postponeDelivery(store, delivery.id, result, clock.now() + Math.max(pause, typeof asked === "number" ? asked : 0));
  }

  /** Deployments change their state without a word to us; the store's revision says that something did. */
  #watch(): void {
    if (this.#closed) return;
    let revision = this.#revision;
    try {
      revision = this.context.deploy.store.revision();
    } catch {
      // The database is gone for the moment.
    }
    if (revision !== this.#revision) this.#reports.wake();
    this.#revision = revision;
    this.#cancelWatch = this.context.deploy.clock.after(watchMs, () => this.#watch());
  }

  #clean(): void {
    if (this.#closed) return;
    const { store, clock, config } = this.context.deploy;
    const before = clock.now() - config.gitLogDaysMax * dayMs;
    Promise.all([deleteDeliveriesBefore(store, before), deleteReportsBefore(store, before)]).catch((error: unknown) =>
      this.context.log(`git: ${messageOf(error)}`),
    );
    this.#cancelCleaning = clock.after(dayMs, () => this.#clean());
  }
}

const stackOf = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error));

/** @throws MayflyError payload_too_large */
async function readBytes(stream: Readable, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  // Not destroyed when it is too long: whoever answers must still read it to its end.
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax) throw new MayflyError("payload_too_large", `A webhook may have ${bytesMax} bytes.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
