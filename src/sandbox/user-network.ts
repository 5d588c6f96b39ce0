/**
 * The way out of an ordinary user's sandboxes: pasta carries each guest's connections by sockets of that user, and rules in
 * the guest's own network namespace, which it has no capability to change, say where to. Invariant, fail closed: the rules
 * are loaded before there is an interface. A guest reaches public IPv4 addresses, the DNS servers and what `allow` names.
 */
import { spawn } from "node:child_process";
import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { findProgram, hostPath } from "./command.ts";
import { closedNetworks, surveyNetwork } from "./network.ts";

const readyMsMax = 5000;
const commandMsMax = 10_000;

interface UserNetworkOptions {
  /** IPv4 networks in CIDR form that guests may reach although they are private. */
  readonly allow: readonly string[];
  /** Whom pasta runs as; absent: the platform's own user. */
  readonly user?: { readonly uid: number; readonly gid: number };
  readonly log: (line: string) => void;
}

/** How to become root in the namespaces that guests' namespaces descend from: arguments of nsenter. */
export type Outside = readonly string[];

/** Ends what carries a guest's connections. */
export type Disconnect = () => void;

export class UserNetwork {
  /** Of the guests' /etc/resolv.conf. */
  readonly resolvConf: string;
  readonly #options: UserNetworkOptions;
  readonly #rules: string;

  private constructor(options: UserNetworkOptions, resolvConf: string, rules: string) {
    this.#options = options;
    this.resolvConf = resolvConf;
    this.#rules = rules;
  }

  /**
   * Whether it works shows with the first guest; a string says why it cannot.
   * @throws MayflyError config_invalid when a network of `allow` is not one
   */
  static async open(options: UserNetworkOptions): Promise<UserNetwork | string> {
    for (const program of ["pasta", "nft", "setpriv"]) {
      if ((await findProgram(program)) === null) return `the program ${program} is not installed`;
    }
    try {
      // Root may open what the user whom pasta runs as may not.
      const isOpen = options.user === undefined || (statSync("/dev/net/tun").mode & 0o006) === 0o006;
      accessSync("/dev/net/tun", constants.R_OK | constants.W_OK);
      if (!isOpen) throw new Error();
    } catch {
      return "/dev/net/tun is not open to the user";
    }
    const { onLink, dnsServers } = await surveyNetwork(options);
    const resolvConf = dnsServers.map((server) => `nameserver ${server}\n`).join("");
    return new UserNetwork(options, resolvConf, rulesOf({ onLink, dnsServers, allow: options.allow }));
  }

  /** @param pid of the guest's first process, which waits for its start */
  async connect(pid: number, outside: Outside): Promise<Disconnect> {
    const { user } = this.#options;
    const netns = `/proc/${pid}/ns/net`;
    const rules = spawn("nsenter", [...outside, `--net=${netns}`, "--", "nft", "-f", "-"], {
      ...user,
      env: { PATH: hostPath },
      stdio: ["pipe", "ignore", "pipe"],
      timeout: commandMsMax,
      killSignal: "SIGKILL",
    });
    rules.stdin.on("error", () => {}).end(this.#rules);
    const refused = await endOf(rules);
    if (refused !== null) throw new Error(`The network rules could not be loaded: ${refused}`);
    // What pasta is asked for by name it would do for the host, too: forward ports, and be the host behind the gateway.
    const nothing = ["--no-map-gw", ..."-t none -u none -T none -U none".split(" ")];
    const what = ["--config-net", "--ipv4-only", "--ns-ifname", "eth0", "--netns-only", `--netns=${netns}`];
    // The signal is set behind the change of namespaces, which would clear it.
    const pasta = spawn(
      "nsenter",
      [...outside, "--", "setpriv", "--pdeathsig", "KILL", "pasta", "--foreground", "--quiet", ...nothing, ...what],
      {
        ...user,
        env: { PATH: hostPath },
        detached: true,
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    pasta.unref();
    const end = endOf(pasta);
    const deadline = performance.now() + readyMsMax;
    for (;;) {
      if (hasRoute(pid)) return () => void pasta.kill("SIGKILL");
      const ended = await Promise.race([end.then((said) => said ?? "it has ended"), sleep(2, null)]);
      if (ended !== null || performance.now() > deadline) {
        pasta.kill("SIGKILL");
        throw new Error(`pasta does not connect a guest: ${ended ?? "it took too long"}`);
      }
    }
  }
}

/** Null when it ends well, else what it said. */
function endOf(child: ReturnType<typeof spawn>): Promise<string | null> {
  let said = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (said = (said + text).slice(0, 500)));
  (child.stderr as unknown as { unref?: () => void })?.unref?.();
  return new Promise((done) => {
    child.once("error", (error) => done(error.message));
    child.once("exit", (code, signal) => done(code === 0 ? null : `${signal ?? code}: ${said.trim()}`));
  });
}

/** Its default route is the last that pasta gives a guest. */
function hasRoute(pid: number): boolean {
  try {
    return /^eth0\t00000000\t/m.test(readFileSync(`/proc/${pid}/net/route`, "latin1"));
  } catch {
    return false;
  }
}

function rulesOf({
  onLink,
  dnsServers,
  allow,
}: {
  readonly onLink: readonly string[];
  readonly dnsServers: readonly string[];
  readonly allow: readonly string[];
}): string {
  const interfaces = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const hosts = interfaces.filter(({ family }) => family === "IPv4").map(({ address }) => address);
  return `
table inet mayfly {
  set closed { type ipv4_addr; flags interval; auto-merge; elements = { ${[...closedNetworks, ...onLink, ...hosts].join(", ")} } }
  set allowed { type ipv4_addr; flags interval; auto-merge; ${allow.length > 0 ? `elements = { ${allow.join(", ")} }` : ""} }
  set dns { type ipv4_addr; elements = { ${dnsServers.join(", ")} } }
  chain output {
    type filter hook output priority filter;
    oifname "lo" accept
    meta nfproto != ipv4 drop
    ip daddr @dns meta l4proto { tcp, udp } th dport 53 accept
    ip daddr @allowed accept
    ip daddr @closed reject with icmp type admin-prohibited
    tcp dport 25 reject
  }
  chain input {
    type filter hook input priority filter;
    iifname "lo" accept
    ct state established,related accept
    drop
  }
}
`;
}
