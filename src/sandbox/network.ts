/**
 * The network of one block's sandboxes: a veth pair each, and one nftables table for all of them. Hides addresses and
 * rules. Invariant, fail closed: a guest gets an interface only while the table is loaded; it then reaches public IPv4
 * addresses, the DNS servers and what `allow` names: not the host, not private networks, not another guest of any block.
 */
import { readdirSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MayflyError, messageOf } from "../errors.ts";
import type { Block } from "./block.ts";
import { slotsMax } from "./block.ts";
import { runCommand } from "./command.ts";

/** Every block's sandboxes together: 32 blocks of 512 networks of 4 addresses. */
const range = "100.64.0.0/16";
const rangeStart = 0x64_40_00_00;
/** What is neither public nor a guest's business, besides the networks that the host is directly connected to. */
export const closedNetworks = [
  ..."0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24".split(" "),
  ..."192.168.0.0/16 198.18.0.0/15 224.0.0.0/3".split(" "),
];
/** As Docker does it when the host's own resolver listens on loopback only, where no guest can reach it. */
const publicDnsServers = ["1.1.1.1", "8.8.8.8"];
/** Another program may flush all tables (a restarted firewall does). So often it is looked after ours. */
const watchMs = 10_000;

export interface NetworkOptions {
  readonly block: Block;
  /** IPv4 networks in CIDR form that guests may reach although they are private. */
  readonly allow: readonly string[];
  readonly log: (line: string) => void;
}

export class Network {
  /** Host path of the guests' /etc/resolv.conf. */
  readonly resolvConf: string;
  readonly #block: Block;
  readonly #rules: string;
  readonly #mtu: number;
  readonly #log: (line: string) => void;
  readonly #watch: NodeJS.Timeout;
  #loaded = true;
  #closed = false;

  private constructor(options: NetworkOptions, resolvConf: string, rules: string) {
    this.#block = options.block;
    this.#log = options.log;
    this.#rules = rules;
    this.resolvConf = resolvConf;
    this.#mtu = uplinkMtu();
    this.#watch = setInterval(() => void this.#look(), watchMs).unref();
  }

  /** @throws MayflyError sandbox_unavailable, config_invalid when a network of `allow` is not one */
  static async open(options: NetworkOptions): Promise<Network> {
    const { onLink, dnsServers } = await surveyNetwork(options);
    const collision = onLink.find((network) => overlaps(network, range));
    if (collision !== undefined) {
      throw new MayflyError("sandbox_unavailable", `The host is in the network ${collision}, which overlaps ${range}, the sandboxes' own.`);
    }
    const rules = rulesOf(options.block.number, { onLink, dnsServers, allow: options.allow });
    try {
      await runCommand("nft", ["-f", "-"], rules);
    } catch (error) {
      throw new MayflyError("sandbox_unavailable", `The sandboxes' network rules could not be loaded: ${messageOf(error)}`, {
        cause: error,
      });
    }
    await enableForwarding(options.log);
    await warnOfForeignPolicy(options.log);
    const resolvConf = join(options.block.directory, "resolv.conf");
    await writeFile(resolvConf, dnsServers.map((server) => `nameserver ${server}\n`).join(""));
    return new Network(options, resolvConf, rules);
  }

  /**
   * Gives a network namespace its way out.
   * @param namespace path of the namespace, free of races with the end of its processes (`/proc/<own pid>/fd/<n>`)
   */
  async connect(slot: number, namespace: string): Promise<void> {
    if (!this.#loaded) throw new MayflyError("sandbox_unavailable", "The sandboxes' network rules are not loaded.");
    const { host, guest } = addressesOf(this.#block.number, slot);
    const name = interfaceName(this.#block.number, slot);
    const inside = [
      `link add eth0 mtu ${this.#mtu} type veth peer name ${name} mtu ${this.#mtu} netns ${process.pid}`,
      `addr add ${guest}/30 dev eth0`,
      "link set eth0 up",
      `route add default via ${host} dev eth0`,
    ];
    await runCommand("nsenter", [`--net=${namespace}`, "ip", "-batch", "-"], `${inside.join("\n")}\n`);
    await runCommand("ip", ["-batch", "-"], `addr add ${host}/30 dev ${name}\nlink set ${name} up\n`);
  }

  /** Takes a slot's interface away; no effect when there is none. */
  async disconnect(slot: number): Promise<void> {
    await deleteLink(interfaceName(this.#block.number, slot));
  }

  async close(): Promise<void> {
    clearInterval(this.#watch);
    this.#closed = true;
    this.#loaded = false;
    await sweepNetwork(this.#block.number);
  }

  async #look(): Promise<void> {
    try {
      await runCommand("nft", ["list", "chain", "inet", tableName(this.#block.number), "forward"]);
    } catch {
      if (this.#closed) return;
      this.#log("sandbox network: another program has removed our rules, they are loaded again");
      this.#loaded = false;
      try {
        await runCommand("nft", ["-f", "-"], this.#rules);
        this.#loaded = true;
      } catch (error) {
        this.#log(`sandbox network: closed, the rules cannot be loaded: ${messageOf(error)}`);
      }
    }
  }
}

/** Removes the interfaces and the table of a block. */
export async function sweepNetwork(block: number): Promise<void> {
  const ours = new RegExp(`^mf${block}s\\d+$`);
  for (const name of readdirSync("/sys/class/net")) if (ours.test(name)) await deleteLink(name);
  await runCommand("nft", ["-f", "-"], emptyTable(block));
}

const interfaceName = (block: number, slot: number): string => `mf${block}s${slot}`;
const tableName = (block: number): string => `mayfly_${block}`;

/** In nft's language "delete" of what is not there is an error, so it is declared first. */
const emptyTable = (block: number): string => `table inet ${tableName(block)}\ndelete table inet ${tableName(block)}\n`;

async function deleteLink(name: string): Promise<void> {
  try {
    await runCommand("ip", ["link", "del", name]);
  } catch (error) {
    // The pair goes with the guest's namespace, whenever the kernel gets round to it.
    if (readdirSync("/sys/class/net").includes(name)) throw error;
  }
}

/** Both ends of a slot's veth pair, in a network of four addresses. */
function addressesOf(block: number, slot: number): { readonly host: string; readonly guest: string } {
  const start = rangeStart + (block * slotsMax + slot) * 4;
  return { host: dotted(start + 1), guest: dotted(start + 2) };
}

const dotted = (address: number): string => [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");

function rulesOf(
  block: number,
  { onLink, dnsServers, allow }: { onLink: readonly string[]; dnsServers: readonly string[]; allow: readonly string[] },
): string {
  const guests = `"mf${block}s*"`;
  // Every slot's interface with its only address: what a guest sends under another one is dropped.
  const senders = Array.from({ length: slotsMax }, (_, slot) => `"${interfaceName(block, slot)}" . ${addressesOf(block, slot).guest}`);
  const network = `${dotted(rangeStart + block * slotsMax * 4)}/21`;
  return `${emptyTable(block)}
table inet ${tableName(block)} {
  set senders { typeof iifname . ip saddr; elements = { ${senders.join(", ")} } }
  set closed { type ipv4_addr; flags interval; auto-merge; elements = { ${[...closedNetworks, ...onLink].join(", ")} } }
  set allowed { type ipv4_addr; flags interval; auto-merge; ${allow.length > 0 ? `elements = { ${allow.join(", ")} }` : ""} }
  set dns { type ipv4_addr; elements = { ${dnsServers.join(", ")} } }
  chain origin {
    type filter hook prerouting priority raw;
    iifname ${guests} meta nfproto != ipv4 drop
    iifname ${guests} iifname . ip saddr != @senders drop
  }
  chain input {
    type filter hook input priority filter - 10;
    iifname ${guests} ip daddr @dns meta l4proto { tcp, udp } th dport 53 accept
    iifname ${guests} drop
  }
  chain forward {
    type filter hook forward priority filter - 10;
    iifname ${guests} oifname "mf*" drop
    iifname ${guests} ip daddr @dns meta l4proto { tcp, udp } th dport 53 accept
    iifname ${guests} ip daddr @allowed accept
    iifname ${guests} ip daddr @closed reject with icmp type admin-prohibited
    iifname ${guests} tcp dport 25 reject
    iifname ${guests} accept
    oifname ${guests} ct state established,related accept
    oifname ${guests} drop
  }
  chain translate {
    type nat hook postrouting priority srcnat;
    ip saddr ${network} oifname != "mf*" masquerade
  }
}
`;
}

/**
 * What rules and resolv.conf are made of.
 * @throws MayflyError config_invalid when a network of `allow` is not one
 */
export async function surveyNetwork({ allow, log }: Pick<NetworkOptions, "allow" | "log">): Promise<{
  readonly onLink: readonly string[];
  readonly dnsServers: readonly string[];
}> {
  for (const network of allow) {
    if (!isNetwork(network)) throw new MayflyError("config_invalid", `"${network}" is not an IPv4 network like 10.1.0.0/16.`);
  }
  let dnsServers = readDnsServers();
  if (dnsServers.length === 0) {
    log(`sandbox network: the host's DNS servers cannot be reached from sandboxes, they use ${publicDnsServers.join(", ")}`);
    dnsServers = publicDnsServers;
  }
  return { onLink: await onLinkNetworks(), dnsServers };
}

/** Networks that the host is connected to, whether its addresses there are public or not. */
async function onLinkNetworks(): Promise<readonly string[]> {
  const output = await runCommand("ip", ["-4", "-o", "route", "show", "table", "all", "scope", "link"]);
  const networks: string[] = [];
  for (const line of output.split("\n")) {
    const [destination = "", , device = ""] = line.split(" ");
    if (isNetwork(destination) && !/^mf\d+s\d+$/.test(device)) networks.push(destination);
  }
  return networks;
}

/** IPv4 DNS servers of the host that are not on its loopback. */
function readDnsServers(): readonly string[] {
  for (const path of ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]) {
    let text: string;
    try {
      text = readFileSync(path, "utf8");
    } catch {
      continue;
    }
    const servers = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map((match) => match[1] ?? "");
    const usable = servers.filter((server) => isNetwork(server) && !server.startsWith("127."));
    if (usable.length > 0) return usable.slice(0, 3);
  }
  return [];
}

async function enableForwarding(log: (line: string) => void): Promise<void> {
  const path = "/proc/sys/net/ipv4/ip_forward";
  if (readFileSync(path, "utf8").trim() === "1") return;
  await writeFile(path, "1");
  log("sandbox network: turned on IPv4 forwarding (net.ipv4.ip_forward)");
}

/** A table can forbid what another allows, never the other way round. Docker's does. */
async function warnOfForeignPolicy(log: (line: string) => void): Promise<void> {
  const chain = await runCommand("nft", ["list", "chain", "ip", "filter", "FORWARD"]).catch(() => "");
  if (!chain.includes("policy drop")) return;
  log("sandbox network: this machine's firewall drops forwarded packets (Docker sets it so); let those from and to mf+ interfaces pass");
}

/** Packets that leave by a tunnel must not be larger than it takes. */
function uplinkMtu(): number {
  const isDefault = (line: string): boolean => line.split("\t")[1] === "00000000";
  const device = readFileSync("/proc/net/route", "utf8").split("\n").find(isDefault)?.split("\t")[0];
  const mtu = device === undefined ? 1500 : Number(readFileSync(join("/sys/class/net", device, "mtu"), "utf8"));
  return Math.min(1500, mtu);
}

/** An IPv4 address, or one with a prefix length. */
function isNetwork(text: string): boolean {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:\/(\d{1,2}))?$/.exec(text);
  return match !== null && match.slice(1, 5).every((part) => Number(part) <= 255) && Number(match[5] ?? 32) <= 32;
}

function overlaps(a: string, b: string): boolean {
  const parse = (text: string): readonly [number, number] => {
    const [address = "", length = "32"] = text.split("/");
    return [address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0), 2 ** (32 - Number(length))];
  };
  const [startA, sizeA] = parse(a);
  const [startB, sizeB] = parse(b);
  return startA < startB + sizeB && startB < startA + sizeA;
}
