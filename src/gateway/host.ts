/**
 * Which deployment a host names. Reads the `Host` header (or the absolute target that beats it) into one spelling, and
 * remembers host → manifest in bounded memory for as long as the database's revision says it is true. When the database
 * does not answer, what is remembered is served on: a site outlives its control plane.
 */
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import type { DeploymentState, Digest, Manifest } from "../model.ts";
import type { Store } from "../store/store.ts";
import { Lru } from "./lru.ts";
import type { StoreRevision } from "./revision.ts";
import { compileRoutes, type CompiledRoutes } from "./route.ts";

// ── what the client asked for ─────────────────────────────────────────────────────────────────────────────────────────

/** The address of a request, taken apart. */
export interface Address {
  /** Lower-case, no port, no trailing dot; IPv6 in brackets. */
  readonly host: string;
  /** `host`, with the port that the client named. */
  readonly authority: string;
  /** Path and query as they were sent, beginning with "/". */
  readonly target: string;
  readonly path: string;
  /** Without "?". */
  readonly query: string;
}

/**
 * @param request its headers flat, names lower-case
 * @throws MayflyError BAD_REQUEST: no host, several, or one that is none; a target that is neither a path nor an
 * absolute http(s) URL
 */
export function parseAddress(request: { readonly target: string; readonly headers: readonly string[] }): Address {
  const { headers } = request;
  let authority: string | null = null;
  for (let index = 0; index < headers.length; index += 2) {
    if (headers[index] !== "host") continue;
    if (authority !== null) throw new MayflyError("BAD_REQUEST", "The request has more than one Host header.");
    authority = headers[index + 1]!;
  }
  let { target } = request;
  // RFC 9112 §3.2.2: the authority of an absolute target replaces the Host header.
  const absolute = /^https?:\/\/([^/?#]*)/i.exec(target);
  if (absolute !== null) {
    authority = absolute[1]!;
    target = target.slice(absolute[0].length);
    if (!target.startsWith("/")) target = `/${target}`;
  }
  if (!target.startsWith("/")) throw new MayflyError("BAD_REQUEST", "The request target is not a path.");
  const hash = target.indexOf("#");
  if (hash !== -1) target = target.slice(0, hash);
  const host = authority === null ? null : parseAuthority(authority);
  if (host === null) throw new MayflyError("BAD_REQUEST", "The request names no valid host.");
  const mark = target.indexOf("?");
  return {
    ...host,
    target,
    path: mark === -1 ? target : target.slice(0, mark),
    query: mark === -1 ? "" : target.slice(mark + 1),
  };
}

/** `Example.COM.:80` → `example.com`; null for what is no host (userinfo included). */
export function parseAuthority(text: string): { readonly host: string; readonly authority: string } | null {
  const match = /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,254})(?::(\d{1,5}))?$/.exec(text.toLowerCase());
  if (match === null) return null;
  const [, name = "", port] = match;
  if (port !== undefined && Number(port) > 65_535) return null;
  const host = name.endsWith(".") ? name.slice(0, -1) : name;
  if (!host.startsWith("[") && (host.length > 253 || host.split(".").some((label) => label === "" || label.length > 63))) return null;
  return { host, authority: port === undefined ? host : `${host}:${port}` };
}

/** Whether the API answers at this host, not a deployment. */
export function isControlHost(host: string, config: Pick<Config, "domain">): boolean {
  return host === config.domain || host === "127.0.0.1" || host === "[::1]";
}

// ── which deployment answers ──────────────────────────────────────────────────────────────────────────────────────────

/** A deployment, ready to answer. */
export interface ServedDeployment {
  readonly manifest: Manifest;
  readonly routes: CompiledRoutes;
}

/** SEAM: host → deployment. Tests have a small one in memory. */
export interface HostIndex {
  /**
   * null: no deployment has this host.
   * @throws MayflyError DEPLOYMENT_NOT_READY; INTERNAL_ERROR when the host is not remembered and the database or the
   * blobs do not answer
   */
  resolve(host: string): Promise<ServedDeployment | null>;
  /** The same for a host whose deployment is in memory and still the right one, at once; null: {@link resolve} knows. */
  recall(host: string): ServedDeployment | null;
}

/** What the database says of a host. */
export interface HostRow {
  readonly state: DeploymentState;
  readonly manifestDigest: Digest | null;
}

/** Reads who answers at a host: an immutable deployment host first, so that no alias can take it over; then an alias. */
async function readHost(store: Store, host: string): Promise<HostRow | null> {
  const row =
    (await store.db.selectFrom("deployments").select(["state", "manifest_digest"]).where("host", "=", host).executeTakeFirst()) ??
    (await store.db
      .selectFrom("aliases")
      .innerJoin("deployments", "deployments.id", "aliases.deployment_id")
      .select(["deployments.state", "deployments.manifest_digest"])
      .where("aliases.host", "=", host)
      .executeTakeFirst());
  return row === undefined ? null : { state: row.state as DeploymentState, manifestDigest: row.manifest_digest };
}

interface Remembered {
  /** The revision before it was read: later commits make it doubtful. */
  readonly revision: number;
  readonly row: HostRow | null;
}

/** Remembers at most `manifestsMax` hosts, as many hosts that do not exist, and as many compiled manifests. */
export function openHostIndex(parts: HostIndexParts): HostIndex {
  return new StoredHostIndex(parts);
}

export interface HostIndexParts {
  readonly store: Store;
  readonly revision: StoreRevision;
  readonly blobs: Pick<BlobStore, "read">;
  readonly config: Pick<Config, "manifestsMax">;
  /** Variables of a deployment, for routes that name one. */
  readonly environment?: (manifest: Manifest) => Readonly<Record<string, string>>;
}

class StoredHostIndex implements HostIndex {
  readonly #store: Store;
  readonly #revision: StoreRevision;
  readonly #blobs: Pick<BlobStore, "read">;
  readonly #environment: (manifest: Manifest) => Readonly<Record<string, string>>;
  readonly #known: Lru<string, Remembered>;
  /** Apart from the known ones, so that a scan of random hosts cannot push a site out. */
  readonly #unknown: Lru<string, Remembered>;
  readonly #compiled: Lru<Digest, ServedDeployment>;
  /** Reads under way, so that a burst asks once. */
  readonly #reading = new Map<string, { readonly revision: number; readonly row: Promise<HostRow | null> }>();
  readonly #compiling = new Map<Digest, Promise<ServedDeployment>>();

  constructor({ store, revision, blobs, config: { manifestsMax }, environment }: HostIndexParts) {
    this.#store = store;
    this.#revision = revision;
    this.#environment = environment ?? (() => ({}));
    this.#blobs = blobs;
    this.#known = new Lru(manifestsMax);
    this.#unknown = new Lru(manifestsMax);
    this.#compiled = new Lru(manifestsMax);
  }

  async resolve(host: string): Promise<ServedDeployment | null> {
    const row = await this.#row(host);
    if (row === null) return null;
    if (row.state !== "READY" || row.manifestDigest === null) {
      throw new MayflyError("DEPLOYMENT_NOT_READY", notReady[row.state]);
    }
    return this.#compiled.get(row.manifestDigest) ?? (await this.#compile(row.manifestDigest));
  }

  recall(host: string): ServedDeployment | null {
    const remembered = this.#known.get(host);
    if (remembered === undefined || remembered.row?.state !== "READY" || remembered.row.manifestDigest === null) return null;
    try {
      if (remembered.revision !== this.#revision.now()) return null;
    } catch {
      // The database is gone: what is remembered is served on.
    }
    return this.#compiled.get(remembered.row.manifestDigest) ?? null;
  }

  async #row(host: string): Promise<HostRow | null> {
    const remembered = this.#known.get(host) ?? this.#unknown.get(host);
    try {
      const revision = this.#revision.now();
      if (remembered?.revision === revision) return remembered.row;
      return await this.#read(host, revision);
    } catch (error) {
      if (remembered !== undefined) return remembered.row;
      throw new MayflyError("INTERNAL_ERROR", "The database does not answer, and this address was not asked for before.", { cause: error });
    }
  }

  #read(host: string, revision: number): Promise<HostRow | null> {
    const running = this.#reading.get(host);
    if (running?.revision === revision) return running.row;
    const reading = {
      revision,
      row: readHost(this.#store, host).then((row) => {
        this.#known.delete(host);
        this.#unknown.delete(host);
        (row === null ? this.#unknown : this.#known).set(host, { revision, row });
        return row;
      }),
    };
    this.#reading.set(host, reading);
    const forget = (): void => {
      if (this.#reading.get(host) === reading) this.#reading.delete(host);
    };
    reading.row.then(forget, forget);
    return reading.row;
  }

  #compile(digest: Digest): Promise<ServedDeployment> {
    const running = this.#compiling.get(digest);
    if (running !== undefined) return running;
    const compiling = (async () => {
      const manifest = JSON.parse((await this.#blobs.read(digest)).toString()) as Manifest;
      const served = { manifest, routes: compileRoutes(manifest, () => this.#environment(manifest)) };
      this.#compiled.set(digest, served);
      return served;
    })();
    this.#compiling.set(digest, compiling);
    const forget = (): void => void this.#compiling.delete(digest);
    compiling.then(forget, forget);
    return compiling;
  }
}

const notReady: Readonly<Record<DeploymentState, string>> = {
  QUEUED: "This deployment waits for its build.",
  BUILDING: "This deployment is being built.",
  READY: "This deployment is not ready.",
  ERROR: "The build of this deployment failed. Its log has the reason.",
  CANCELED: "This deployment was canceled.",
};
