/**
 * What the front shows over TLS: a certificate that was given, read again when its file changes; or our own local authority,
 * made once and kept in the data directory, which writes certificates for this machine's names, and for a custom host when
 * it is first asked for. Invariant: it writes one only for a host that is served here, and keeps a bounded number.
 */
import { webcrypto } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createSecureContext, type SecureContext } from "node:tls";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError, messageOf } from "../errors.ts";
import { Lru } from "./lru.ts";

/** A new file is noticed within this time. */
const reloadEveryMs = 1000;
/** Custom hosts whose certificates are kept; beyond, the least recently used is written anew. */
const leavesMax = 1000;
const dayMs = 86_400_000;
const authorityDays = 3650;
/** Browsers refuse certificates that are valid for longer than 398 days. */
const leafDays = 90;
const renewedDaysBefore = 30;

export interface Certificates {
  /** The authority's certificate, for people to trust; null: certificates were given. */
  readonly authorityPath: string | null;
  /** For a server name of a handshake, lower-case; "" when the client named none. */
  contextFor(serverName: string): Promise<SecureContext>;
}

export interface CertificatesOptions {
  readonly config: Pick<Config, "tlsCert" | "tlsKey" | "domain">;
  readonly clock: Clock;
  /** Where the local authority is kept. */
  readonly directory: string;
  /** Whether a deployment answers at a host. */
  serves(host: string): Promise<boolean>;
}

/** @throws MayflyError config_invalid: the files given are no certificate and its key */
export async function openCertificates(options: CertificatesOptions): Promise<Certificates> {
  const { tlsCert, tlsKey } = options.config;
  if ((tlsCert === "") !== (tlsKey === "")) throw new MayflyError("config_invalid", "--tls-cert and --tls-key go together.");
  if (tlsCert !== "") return new GivenCertificate(tlsCert, tlsKey, options.clock);
  return LocalAuthority.open(options);
}

class GivenCertificate implements Certificates {
  readonly authorityPath = null;
  readonly #certPath: string;
  readonly #keyPath: string;
  readonly #clock: Clock;
  #context: SecureContext;
  #version: string;
  #checkedAtMs: number;

  constructor(certPath: string, keyPath: string, clock: Clock) {
    this.#certPath = certPath;
    this.#keyPath = keyPath;
    this.#clock = clock;
    this.#checkedAtMs = clock.elapsed();
    try {
      this.#version = this.#readVersion();
      this.#context = this.#read();
    } catch (error) {
      throw new MayflyError("config_invalid", `Cannot use the certificate ${certPath} with the key ${keyPath}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  async contextFor(): Promise<SecureContext> {
    const nowMs = this.#clock.elapsed();
    if (nowMs - this.#checkedAtMs >= reloadEveryMs) {
      this.#checkedAtMs = nowMs;
      try {
        const version = this.#readVersion();
        if (version !== this.#version) {
          this.#context = this.#read();
          this.#version = version;
        }
      } catch {
        // Half-written, or gone for a moment: the old one serves until there is a whole new one.
      }
    }
    return this.#context;
  }

  #readVersion(): string {
    return [this.#certPath, this.#keyPath]
      .map((path) => statSync(path))
      .map(({ mtimeMs, ino, size }) => `${mtimeMs} ${ino} ${size}`)
      .join(", ");
  }

  #read(): SecureContext {
    return createSecureContext({ cert: readFileSync(this.#certPath), key: readFileSync(this.#keyPath) });
  }
}

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

interface Leaf {
  readonly context: SecureContext;
  readonly renewAtMs: number;
}

class LocalAuthority implements Certificates {
  readonly authorityPath: string;
  readonly #options: CertificatesOptions;
  readonly #certificate: string;
  readonly #key: webcrypto.CryptoKey;
  readonly #leaves = new Lru<string, Promise<Leaf>>(leavesMax);

  private constructor(options: CertificatesOptions, path: string, certificate: string, key: webcrypto.CryptoKey) {
    this.#options = options;
    this.authorityPath = path;
    this.#certificate = certificate;
    this.#key = key;
  }

  static async open(options: CertificatesOptions): Promise<LocalAuthority> {
    const { directory } = options;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const bundlePath = join(directory, "authority.pem");
    let bundle: string;
    try {
      bundle = readFileSync(bundlePath, "utf8");
    } catch {
      bundle = await keepFirst(bundlePath, await makeAuthority(options.clock));
    }
    const [certificate, key] = splitBundle(bundle);
    const der = Buffer.from(key.replaceAll(/-----[^-]+-----|\s/g, ""), "base64");
    const imported = await webcrypto.subtle.importKey("pkcs8", der, algorithm, false, ["sign"]);
    // What people are told to trust has no key in it.
    const path = join(directory, "authority.crt");
    writeFileSync(path, certificate);
    return new LocalAuthority(options, path, certificate, imported);
  }

  async contextFor(serverName: string): Promise<SecureContext> {
    const { domain } = this.#options.config;
    // The domain's own certificate covers the names directly below it, where clients accept that: not below a bare "localhost".
    const parent = serverName.slice(serverName.indexOf(".") + 1);
    const isOwn = serverName === "" || serverName === domain || (parent === domain && domain.includes("."));
    if (isOwn || !(await this.#serves(serverName))) return this.#leaf("", [domain, `*.${domain}`, "localhost", "127.0.0.1", "::1"]);
    return this.#leaf(serverName, [serverName]);
  }

  async #serves(host: string): Promise<boolean> {
    if (this.#leaves.get(host) !== undefined) return true;
    try {
      return await this.#options.serves(host);
    } catch {
      return false;
    }
  }

  async #leaf(key: string, names: readonly string[]): Promise<SecureContext> {
    const nowMs = this.#options.clock.now();
    const known = this.#leaves.get(key);
    if (known !== undefined) {
      const leaf = await known;
      if (leaf.renewAtMs > nowMs) return leaf.context;
    }
    const made = this.#make(names, nowMs);
    this.#leaves.set(key, made);
    made.catch(() => this.#leaves.delete(key));
    return (await made).context;
  }

  async #make(names: readonly string[], nowMs: number): Promise<Leaf> {
    const x509 = await load();
    const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
    const authority = new x509.X509Certificate(this.#certificate);
    const isAddress = (name: string) => /^[\d.]+$|:/.test(name);
    const certificate = await x509.X509CertificateGenerator.create({
      subject: `CN=${names[0]!.slice(0, 64)}`,
      issuer: authority.subject,
      notBefore: new Date(nowMs - dayMs),
      notAfter: new Date(nowMs + leafDays * dayMs),
      publicKey: keys.publicKey,
      signingKey: this.#key,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        new x509.SubjectAlternativeNameExtension(
          names.map((name) => ({ type: isAddress(name) ? ("ip" as const) : ("dns" as const), value: name })),
        ),
        await x509.AuthorityKeyIdentifierExtension.create(authority),
      ],
    });
    const key = x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
    return {
      context: createSecureContext({ cert: `${certificate.toString("pem")}\n${this.#certificate}`, key }),
      renewAtMs: nowMs + (leafDays - renewedDaysBefore) * dayMs,
    };
  }
}

/** A new authority: certificate and key, both PEM. */
async function makeAuthority(clock: Clock): Promise<string> {
  const x509 = await load();
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const nowMs = clock.now();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    // Several machines' authorities may be trusted by one person: their names must differ.
    name: `CN=Mayfly local authority ${Buffer.from(webcrypto.getRandomValues(new Uint8Array(4))).toString("hex")}`,
    keys,
    notBefore: new Date(nowMs - dayMs),
    notAfter: new Date(nowMs + authorityDays * dayMs),
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const key = x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
  return `${certificate.toString("pem")}\n${key}\n`;
}

/** Writes a file that several nodes may want to make at the same time. @returns what the first of them wrote */
async function keepFirst(path: string, text: string): Promise<string> {
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, text, { mode: 0o600 });
  try {
    linkSync(temporary, path);
  } catch {
    // Another was first.
  } finally {
    rmSync(temporary, { force: true });
  }
  return readFileSync(path, "utf8");
}

function splitBundle(bundle: string): readonly [certificate: string, key: string] {
  const [certificate, key] = bundle.match(/-----BEGIN [^-]+-----[^-]+-----END [^-]+-----/g) ?? [];
  if (certificate === undefined || key === undefined) {
    throw new MayflyError("config_invalid", "The local authority's file holds no certificate and key. Remove it, and a new one is made.");
  }
  return [`${certificate}\n`, key];
}

/** Loaded only when a certificate has to be written. */
async function load(): Promise<typeof import("@peculiar/x509")> {
  await import("reflect-metadata");
  return import("@peculiar/x509");
}
