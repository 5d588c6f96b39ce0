/**
 * A deployment's source (`/_src`) and build log (`/_logs`) for people of its team, on the deployment's own host.
 *
 * ```
 * /_src ─ no ticket ─▶ <domain>/_mayfly/sign-in ─ token ─▶ /_src?ticket=… (a minute) ─▶ cookie (hours) ─▶ /_src
 * ```
 * Invariants: a token is typed at the platform's domain only, never where a deployment's scripts could read it; what a
 * deployment's host gets is a sealed ticket, good for this deployment and for reading alone; everything shown is escaped.
 */
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import type { LogStore } from "../logs/log-store.ts";
import type { Manifest, Sealed, SourceTree } from "../model.ts";
import { findDeploymentById } from "../store/deployments.ts";
import type { Seal } from "../store/seal.ts";
import type { Store } from "../store/store.ts";
import { findIdentity, findIdentityOfToken, type Identity } from "../store/tokens.ts";
import type { Exchange } from "./exchange.ts";
import { isControlHost, parseAuthority, type HostIndex } from "./host.ts";
import { viewCookie } from "./headers.ts";
import { escapeHtml, privatePageHeaders, renderPage } from "./html.ts";
import { readableSize } from "./listing.ts";
import { Lru } from "./lru.ts";
import { parseCookies } from "./spelling.ts";

export interface InspectionParts {
  readonly store: Store;
  readonly seal: Pick<Seal, "close" | "open">;
  readonly logs: Pick<LogStore, "query">;
  readonly blobs: Pick<BlobStore, "read">;
  readonly hosts: HostIndex;
  readonly config: Pick<Config, "domain" | "signInRateMax">;
  readonly clock: Clock;
}

const signInPath = "/_mayfly/sign-in";
const ticketMs = 60_000;
const viewMs = 8 * 3_600_000;
const formBytesMax = 4096;
const fileBytesShownMax = 512 * 1024;
const filesShownMax = 10_000;
const linesShownMax = 10_000;

type View = "_src" | "_logs";

interface Ticket {
  readonly deploymentId: string;
  readonly kind: "entry" | "view";
  readonly until: number;
  /** Id of the token that was shown: when that ends, so does this. */
  readonly tokenId: string;
}

export class Inspection {
  readonly #parts: InspectionParts;
  readonly #attempts: Attempts;

  constructor(parts: InspectionParts) {
    this.#parts = parts;
    this.#attempts = new Attempts(parts.clock, parts.config.signInRateMax);
  }

  /** Whether it answers this path of the platform's own host. */
  isSignIn(exchange: Exchange): boolean {
    return exchange.address.path === signInPath && isControlHost(exchange.address.host, this.#parts.config);
  }

  /** Whether it answers this path of a deployment. */
  isView({ address }: Exchange): boolean {
    return address.path === "/_src" || address.path === "/_logs";
  }

  // ── signing in, at the platform's domain ────────────────────────────────────────────────────────────────────────────

  async signIn(exchange: Exchange): Promise<void> {
    const target = await this.#target(new URLSearchParams(exchange.address.query).get("to") ?? "");
    if (target === null)
      return notice(exchange, 404, "There is no such deployment", "Open the address of a deployment, with /_src or /_logs behind it.");
    if (exchange.method !== "POST") return signInForm(exchange, target.authority, null);
    const from = networkOf(exchange.request.remoteAddress);
    const leftMs = this.#attempts.take(from);
    if (leftMs > 0) {
      const retryAfter = ["retry-after", String(Math.ceil(leftMs / 1000))];
      return notice(exchange, 429, "Too many attempts", "Wait a minute, then try again.", retryAfter);
    }
    const token = new URLSearchParams(await readForm(exchange)).get("token")?.trim() ?? "";
    const { store, clock } = this.#parts;
    const identity = await findIdentity(store, token, clock.now());
    const { manifest } = target;
    if (identity === null || !mayRead(identity, manifest))
      return signInForm(exchange, target.authority, "This token does not open this deployment.");
    const until = clock.now() + ticketMs;
    const ticket = this.#ticket({ deploymentId: manifest.deploymentId, kind: "entry", until, tokenId: identity.token.id });
    const scheme = exchange.request.secure ? "https" : "http";
    return redirect(exchange, `${scheme}://${target.authority}/${target.view}?ticket=${ticket}`);
  }

  /** `<host of a deployment>/_src`, never anything else: this page must not lead to other sites. */
  async #target(text: string): Promise<{ readonly authority: string; readonly view: View; readonly manifest: Manifest } | null> {
    const match = /^([^/]{1,300})\/(_src|_logs)$/.exec(text);
    const address = match === null ? null : parseAuthority(match[1]!);
    if (match === null || address === null || isControlHost(address.host, this.#parts.config)) return null;
    const deployment = await this.#parts.hosts.resolve(address.host).catch(() => null);
    return deployment === null ? null : { authority: address.authority, view: match[2] as View, manifest: deployment.manifest };
  }

  // ── looking, at the deployment's host ───────────────────────────────────────────────────────────────────────────────

  async answer(exchange: Exchange, manifest: Manifest): Promise<void> {
    const view = exchange.address.path.slice(1) as View;
    const query = new URLSearchParams(exchange.address.query);
    if (exchange.method !== "GET" && exchange.method !== "HEAD")
      return notice(exchange, 405, "This page can only be read", "", ["allow", "GET, HEAD"]);
    const entry = await this.#read(query.get("ticket") ?? "", manifest, "entry");
    if (entry !== null) {
      const kept = this.#ticket({ ...entry, kind: "view", until: this.#parts.clock.now() + viewMs });
      const attributes = `Max-Age=${viewMs / 1000}; HttpOnly; SameSite=Lax${exchange.request.secure ? "; Secure" : ""}`;
      // By path: browsers send it for these pages, and what lies below them goes on without it (headers.ts).
      const cookies = ["_src", "_logs"].flatMap((path) => ["set-cookie", `${viewCookie}=${kept}; Path=/${path}; ${attributes}`]);
      return redirect(exchange, `/${view}`, cookies);
    }
    const cookie = parseCookies(exchange.header("cookie") ?? "").get(viewCookie) ?? "";
    if ((await this.#read(cookie, manifest, "view")) === null) {
      const scheme = exchange.request.secure ? "https" : "http";
      const port = /:\d+$/.exec(exchange.address.authority)?.[0] ?? "";
      return redirect(
        exchange,
        `${scheme}://${this.#parts.config.domain}${port}${signInPath}?to=${encodeURIComponent(`${exchange.address.authority}/${view}`)}`,
      );
    }
    if (view === "_logs") return this.#log(exchange, manifest);
    return this.#source(exchange, manifest, query.get("f"));
  }

  async #log(exchange: Exchange, { deploymentId, host }: Manifest): Promise<void> {
    const { lines, dropped } = await this.#parts.logs.query({ deploymentId, source: "build", limit: linesShownMax });
    const rows = lines.map(({ timestampMs, stream, text }) => {
      const time = new Date(timestampMs).toISOString().slice(11, 23);
      return `<span class="time">${time}</span> <span${stream === "stderr" ? ' class="error"' : ""}>${escapeHtml(text)}</span>`;
    });
    const missing = dropped > 0 ? `<p class="hint">${dropped} earlier lines were dropped.</p>` : "";
    const body = rows.length === 0 ? '<p class="hint">The build wrote nothing.</p>' : `<pre class="log">${rows.join("\n")}</pre>`;
    show(exchange, `Build log of ${host}`, `<nav aria-label="Deployment"><a href="/_src">Source</a></nav>${missing}${body}`);
  }

  async #source(exchange: Exchange, { deploymentId, host }: Manifest, path: string | null): Promise<void> {
    const { store, blobs } = this.#parts;
    const deployment = await findDeploymentById(store, deploymentId);
    if (deployment === null) return notice(exchange, 404, "The source is no longer kept", "");
    const tree = JSON.parse((await blobs.read(deployment.sourceDigest)).toString()) as SourceTree;
    if (path === null) {
      const names = Object.keys(tree).sort();
      const rows = names
        .slice(0, filesShownMax)
        .map(
          (name) =>
            `<li><a href="/_src?f=${escapeHtml(encodeURIComponent(name))}"><span class="name">${escapeHtml(name)}</span><span class="size">${readableSize(tree[name]!.size)}</span></a></li>`,
        );
      const rest = names.length - rows.length;
      const more = rest > 0 ? `<p class="hint">${rest} more are not shown.</p>` : "";
      return show(
        exchange,
        `Source of ${host}`,
        `<nav aria-label="Deployment"><a href="/_logs">Build log</a></nav><ul class="files">${rows.join("\n")}</ul>${more}`,
      );
    }
    const file = Object.hasOwn(tree, path) ? tree[path] : undefined;
    if (file === undefined) return notice(exchange, 404, "There is no such file in the source", path.slice(0, 200));
    return show(
      exchange,
      path,
      `<nav aria-label="Deployment"><a href="/_src">All files</a> · ${readableSize(file.size)}</nav>${await this.#content(file)}`,
    );
  }

  async #content({ digest, size }: SourceTree[string]): Promise<string> {
    if (size > fileBytesShownMax) return `<p class="hint">It is too large to be shown.</p>`;
    const bytes = await this.#parts.blobs.read(digest);
    if (bytes.includes(0)) return `<p class="hint">It is not text.</p>`;
    // Long lines are scrolled to: by the keyboard, too.
    return `<pre tabindex="0" role="region" aria-label="Content">${escapeHtml(bytes.toString("utf8"))}</pre>`;
  }

  // ── tickets ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  #ticket(ticket: Ticket): string {
    return this.#parts.seal.close(JSON.stringify(ticket), ticketPlace);
  }

  /** null: it is none for this, or whoever it was for may no longer see this. */
  async #read(text: string, manifest: Manifest, kind: Ticket["kind"]): Promise<Ticket | null> {
    if (text === "") return null;
    let ticket: Ticket;
    try {
      ticket = JSON.parse(this.#parts.seal.open(text as Sealed, ticketPlace)) as Ticket;
    } catch {
      return null;
    }
    const { store, clock } = this.#parts;
    if (ticket.deploymentId !== manifest.deploymentId || ticket.kind !== kind || ticket.until <= clock.now()) return null;
    const identity = await findIdentityOfToken(store, ticket.tokenId, clock.now());
    return identity !== null && mayRead(identity, manifest) ? ticket : null;
  }
}

const mayRead = ({ team, token }: Identity, { teamId, projectId }: Manifest): boolean =>
  team.id === teamId && [null, projectId].includes(token.projectId);

/** An IPv6 client has a whole network to itself. */
function networkOf(address: string): string {
  return address.includes(":") ? address.split(":", 4).join(":") : address;
}

const addressesMax = 10_000;
const minuteMs = 60_000;

/** Attempts to sign in, by address. */
class Attempts {
  readonly #clock: Clock;
  readonly #max: number;
  readonly #byAddress = new Lru<string, { readonly untilMs: number; readonly count: number }>(addressesMax);

  constructor(clock: Clock, max: number) {
    this.#clock = clock;
    this.#max = max;
  }

  /** Counts one more. @returns how long it must wait; 0: it may try */
  take(address: string): number {
    const nowMs = this.#clock.elapsed();
    const known = this.#byAddress.get(address);
    const begun = known === undefined || known.untilMs <= nowMs ? { untilMs: nowMs + minuteMs, count: 0 } : known;
    if (begun.count >= this.#max) return begun.untilMs - nowMs;
    this.#byAddress.set(address, { ...begun, count: begun.count + 1 });
    return 0;
  }
}

const ticketPlace = "view of a deployment";

async function readForm(exchange: Exchange): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  if (!exchange.hasBody) return "";
  for await (const chunk of exchange.bodyStream()) {
    bytes += (chunk as Buffer).length;
    if (bytes > formBytesMax) return "";
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString();
}

function signInForm(exchange: Exchange, authority: string, refusal: string | null): void {
  const main = `<h1>Sign in</h1>
<p class="hint">To see the source and the build log of ${escapeHtml(authority)}, show a token of its team. “mayfly tokens add NAME” makes one.</p>
<form method="post">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus${refusal === null ? "" : ' aria-invalid="true" aria-describedby="refusal"'}>
${refusal === null ? "" : `<p id="refusal" class="error" role="alert">${escapeHtml(refusal)}</p>\n`}<button>Sign in</button>
</form>`;
  // The form's answer leads to the deployment's host, which a policy for forms would forbid.
  const headers = privatePageHeaders.map((text) => text.replace("form-action 'self'; ", ""));
  exchange.send(refusal === null ? 200 : 403, headers, renderPage({ title: "Sign in", main, shape: "notice" }));
}

function show(exchange: Exchange, title: string, body: string): void {
  exchange.send(200, privatePageHeaders, renderPage({ title, main: `<h1>${escapeHtml(title)}</h1>\n${body}`, shape: "wide" }));
}

function notice(exchange: Exchange, status: number, sentence: string, hint: string, more: readonly string[] = []): void {
  const main = `<p class="status">${status}</p>\n<h1>${escapeHtml(sentence)}</h1>\n<p class="hint">${escapeHtml(hint)}</p>`;
  exchange.send(status, [...privatePageHeaders, ...more], renderPage({ title: sentence, main, shape: "notice" }));
}

function redirect(exchange: Exchange, location: string, more: readonly string[] = []): void {
  exchange.send(303, ["location", location, "cache-control", "private, no-store", "referrer-policy", "no-referrer", ...more], "");
}
