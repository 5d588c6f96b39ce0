/**
 * Another origin that a route leads to: asked as a proxy does, both bodies streamed. Invariants: the address connected to
 * is the one that was checked, so no name leads into a private network, to this machine or to a cloud's metadata; nothing
 * hop-by-hop passes; and a circle of proxies is broken (RFC 8586).
 */
import { lookup } from "node:dns";
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { BlockList, isIP, type LookupFunction } from "node:net";
import { networkInterfaces } from "node:os";
import type { Config } from "../config.ts";
import { errnoOf, MayflyError } from "../errors.ts";
import type { Exchange } from "./exchange.ts";
import { isFramingHeader, isPlatformRequestHeader, isPlatformResponseHeader, passOn } from "./headers.ts";
import { changeHeaders, type HeaderChange } from "./header-change.ts";
import type { RouteHeader } from "./route.ts";

export interface OriginAnswer {
  /** Absolute. */
  readonly url: string;
  readonly headers: readonly RouteHeader[];
  readonly requestHeaders?: ReadonlyMap<string, string | null>;
  readonly responseChanges?: readonly HeaderChange[];
}

/** A request that has passed us so often already goes in a circle. */
const hopsMax = 5;
const loopName = "mayfly";
const portsRefused = new Set([
  0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 53, 69, 110, 111, 135, 137, 139, 143, 161, 179, 389, 445, 465, 514, 587, 636,
  993, 995, 2049, 3306, 5432, 6379, 11211,
]);

export class Origins {
  readonly #config: Pick<Config, "originConnectMsMax" | "originAnswerMsMax" | "originConnectionsMax" | "headersBytesMax">;
  readonly #addresses: AddressGuard;
  readonly #http: HttpAgent;
  readonly #https: HttpsAgent;

  constructor(
    config: Pick<Config, "originAllow" | "originConnectMsMax" | "originAnswerMsMax" | "originConnectionsMax" | "headersBytesMax">,
  ) {
    this.#config = config;
    this.#addresses = new AddressGuard(config.originAllow);
    const options = { keepAlive: true, maxSockets: 256, maxTotalSockets: config.originConnectionsMax, maxFreeSockets: 16, timeout: 30_000 };
    this.#http = new HttpAgent(options);
    this.#https = new HttpsAgent(options);
  }

  /** @throws MayflyError ROUTER_EXTERNAL_TARGET_…, DNS_HOSTNAME_…, INFINITE_LOOP_DETECTED, all before anything is sent */
  async answer(exchange: Exchange, answer: OriginAnswer): Promise<void> {
    const url = parseTarget(answer.url);
    const hops = (exchange.header("cdn-loop") ?? "").split(",").filter((hop) => hop.trim().split(";", 1)[0] === loopName).length;
    if (hops >= hopsMax) throw new MayflyError("INFINITE_LOOP_DETECTED");
    const address = url.hostname.replace(/^\[|\]$/g, "");
    if (isIP(address) !== 0 && !this.#addresses.allows(address)) throw refused(url.hostname);

    const upstream = await this.#ask(exchange, url, answer);
    const own = passOn(upstream.rawHeaders, isPlatformResponseHeader);
    const names = new Set(own.filter((_, index) => index % 2 === 0));
    const important = new Set(answer.headers.filter((header) => header.important).map((header) => header.name));
    let headers = own.filter((_, index) => !important.has(own[index - (index % 2)]!));
    for (const { name, value } of answer.headers) {
      if (!names.has(name) || important.has(name) || name === "set-cookie") headers.push(name, value);
    }
    if (answer.responseChanges !== undefined) headers = changeHeaders(headers, answer.responseChanges);
    try {
      exchange.head(upstream.statusCode ?? 502, [...headers, "x-vercel-cache", "MISS"]);
    } catch (error) {
      upstream.destroy();
      throw new MayflyError("ROUTER_EXTERNAL_TARGET_ERROR", undefined, { cause: error });
    }
    if (exchange.method === "HEAD") {
      upstream.resume();
      return exchange.end();
    }
    exchange.flush();
    await exchange.pipe(upstream);
  }

  #ask(exchange: Exchange, url: URL, answer: OriginAnswer): Promise<IncomingMessage> {
    const { config, isSecure } = { config: this.#config, isSecure: url.protocol === "https:" };
    const options: RequestOptions = {
      method: exchange.method,
      host: url.hostname.replace(/^\[|\]$/g, ""),
      port: url.port === "" ? (isSecure ? 443 : 80) : Number(url.port),
      path: url.pathname + url.search,
      headers: originHeaders(exchange, url, answer),
      lookup: this.#addresses.lookup,
      agent: isSecure ? this.#https : this.#http,
      maxHeaderSize: config.headersBytesMax,
      setHost: false,
    };
    return new Promise((resolve, reject) => {
      const request = isSecure ? httpsRequest(options) : httpRequest(options);
      let isAnswered = false;
      let deadline = setTimeout(
        () => request.destroy(new MayflyError("ROUTER_EXTERNAL_TARGET_CONNECTION_ERROR")),
        config.originConnectMsMax,
      );
      const sent = (): void => {
        clearTimeout(deadline);
        deadline = setTimeout(() => request.destroy(new MayflyError("ROUTER_EXTERNAL_TARGET_TIMEOUT")), config.originAnswerMsMax);
      };
      request.once("socket", (socket) => {
        if (socket.connecting) socket.once(isSecure ? "secureConnect" : "connect", sent);
        else sent();
      });
      const stay = exchange.onGone(() => request.destroy());
      request.once("response", (response) => {
        isAnswered = true;
        clearTimeout(deadline);
        stay();
        // An origin that falls silent in the middle must not hold the client for ever.
        response.setTimeout(config.originAnswerMsMax, () => response.destroy());
        resolve(response);
      });
      request.on("error", (error) => {
        clearTimeout(deadline);
        if (!isAnswered) reject(failure(error, url));
      });
      if (!exchange.hasBody) return request.end();
      const body = exchange.bodyStream();
      body.on("error", () => request.destroy());
      body.pipe(request);
    });
  }
}

function parseTarget(text: string): URL {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new MayflyError("ROUTER_EXTERNAL_TARGET_ERROR", "The route leads to what is no URL.");
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new MayflyError(
      "ROUTER_EXTERNAL_TARGET_ERROR",
      `The route leads to a ${url.protocol.slice(0, 20)} address; only http: and https: can be asked.`,
    );
  }
  if (url.hostname === "") throw new MayflyError("ROUTER_EXTERNAL_TARGET_ERROR", "The route leads to an address without a host.");
  if (portsRefused.has(Number(url.port === "" ? "443" : url.port))) {
    throw new MayflyError("ROUTER_EXTERNAL_TARGET_ERROR", `The route leads to port ${url.port}, which is no web server's.`);
  }
  return url;
}

function originHeaders(exchange: Exchange, url: URL, answer: OriginAnswer): string[] {
  const { request, address } = exchange;
  const changed = answer.requestHeaders;
  // A deployment that could take away by what circles are known would make one without an end (RFC 8586 §2).
  const isOurs = (name: string): boolean => isPlatformRequestHeader(name) || name === "cdn-loop";
  const headers = passOn(request.headers, (name) => isPlatformRequestHeader(name) || (changed?.has(name) === true && !isOurs(name)));
  for (const [name, value] of changed ?? []) {
    if (value !== null && !isOurs(name) && !isFramingHeader(name)) headers.push(name, value);
  }
  headers.push(
    "host",
    url.host,
    "x-forwarded-host",
    address.authority,
    "x-forwarded-proto",
    request.secure ? "https" : "http",
    "x-forwarded-for",
    request.remoteAddress,
    "x-real-ip",
    request.remoteAddress,
    "x-vercel-id",
    exchange.publicId,
    "cdn-loop",
    loopName,
  );
  if (exchange.hasBody && request.bodyLength === null) headers.push("transfer-encoding", "chunked");
  return headers;
}

function refused(host: string): MayflyError {
  return new MayflyError("DNS_HOSTNAME_RESOLVED_PRIVATE", `The route leads to ${host.slice(0, 100)}, which is no public address.`);
}

function failure(error: Error, url: URL): MayflyError {
  if (error instanceof MayflyError) return error;
  const code = errnoOf(error) ?? "";
  const reason = `${url.hostname.slice(0, 100)}: ${code === "" ? "no answer" : code}`;
  if (code === "ENOTFOUND" || code === "ENODATA")
    return new MayflyError("DNS_HOSTNAME_NOT_FOUND", `There is no host ${url.hostname.slice(0, 100)}.`);
  if (code.startsWith("EAI_"))
    return new MayflyError("DNS_HOSTNAME_RESOLVE_FAILED", `The host's address could not be found out. (${reason})`);
  if (/^(?:ERR_TLS|ERR_SSL|CERT_|UNABLE_TO|SELF_SIGNED|DEPTH_ZERO|EPROTO)/.test(code)) {
    return new MayflyError("ROUTER_EXTERNAL_TARGET_HANDSHAKE_ERROR", `No secure connection to the origin. (${reason})`, { cause: error });
  }
  if (/^(?:ECONN|EHOST|ENET|ETIMEDOUT|EPIPE)/.test(code)) {
    return new MayflyError("ROUTER_EXTERNAL_TARGET_CONNECTION_ERROR", `The origin does not answer. (${reason})`, { cause: error });
  }
  return new MayflyError("ROUTER_EXTERNAL_TARGET_ERROR", `The origin did not answer with valid HTTP. (${reason})`, { cause: error });
}

// ── which addresses may be asked ──────────────────────────────────────────────────────────────────────────────────────

/** Not globally reachable: IANA's special-purpose registries (RFC 6890), multicast, and forms that hold an IPv4 address. */
const privateNetworks = [
  "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24",
  "192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4",
  "::/128 ::1/128 ::/96 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16 3fff::/20 5f00::/16",
  "fc00::/7 fe80::/10 fec0::/10 ff00::/8",
].flatMap((line) => line.split(" "));

/** What the guard must know of the machine it runs on. */
export interface Machine {
  /** All of its own. */
  readonly addresses: () => readonly string[];
  readonly lookup: typeof lookup;
}

const thisMachine: Machine = {
  addresses: () => Object.values(networkInterfaces()).flatMap((all) => all?.map(({ address }) => address) ?? []),
  lookup,
};

export class AddressGuard {
  // Apart: a list with "::ffff:0:0/96" in it would hold every IPv4 address.
  readonly #refused = {
    ipv4: blockList(privateNetworks.filter((network) => !network.includes(":"))),
    ipv6: blockList(privateNetworks.filter((network) => network.includes(":"))),
  };
  readonly #allowed: BlockList;
  readonly #machine: Machine;

  /** @param allow networks that may be asked although they are private: CIDR, comma-separated */
  constructor(allow: string, machine = thisMachine) {
    this.#machine = machine;
    this.#allowed = blockList(allow.split(",").filter((network) => network !== ""));
  }

  allows(address: string): boolean {
    const family = isIP(address) === 6 ? "ipv6" : "ipv4";
    if (this.#allowed.check(address, family)) return true;
    if (this.#refused[family].check(address, family)) return false;
    // This machine by its public address is still this machine.
    return !this.#machine.addresses().includes(address);
  }

  /** For `net.connect`: the addresses of a name, none of them private. One that has any is refused: it may be another's tomorrow. */
  readonly lookup: LookupFunction = (hostname, options, callback) => {
    this.#machine.lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, "", 0);
      const first = addresses[0];
      if (first === undefined || addresses.some(({ address }) => !this.allows(address))) return callback(refused(hostname), "", 0);
      if (options.all === true) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}

function blockList(networks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = "", prefix] = network.trim().split("/");
    const version = isIP(address);
    if (version === 0) throw new MayflyError("config_invalid", `"${network}" is no network: write 10.1.0.0/16, or one address.`);
    list.addSubnet(address, prefix === undefined ? (version === 6 ? 128 : 32) : Number(prefix), version === 6 ? "ipv6" : "ipv4");
  }
  return list;
}
