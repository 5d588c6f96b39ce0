/**
 * Every knob: default, unit, bounds, environment variable, sentence. `mayfly start --help`, docs/config.md and the
 * parser come from this table; nobody else reads `process.env` for settings.
 */
import { MayflyError } from "./errors.ts";

interface KnobBase {
  /** One sentence for people. */
  readonly doc: string;
  /** Command-line flag of `mayfly start` without dashes; absent: only the environment sets it. */
  readonly flag?: string;
}
interface NumberKnob extends KnobBase {
  readonly type: "number";
  readonly default: number;
  readonly unit: string;
  readonly min: number;
  readonly max: number;
}
interface StringKnob extends KnobBase {
  readonly type: "string";
  readonly default: string;
  /** Allowed values; absent: any string. */
  readonly values?: readonly string[];
}
interface BooleanKnob extends KnobBase {
  readonly type: "boolean";
  readonly default: boolean;
}
export type Knob = NumberKnob | StringKnob | BooleanKnob;

const MB = 1024 * 1024;

/** The table. The environment variable of `buildTimeoutMs` is `MAYFLY_BUILD_TIMEOUT_MS`, and so on: see {@link knobEnv}. */
export const knobs = {
  // where it listens and what it keeps
  port: {
    type: "number",
    flag: "port",
    default: 3000,
    unit: "TCP port, 0 = any",
    min: 0,
    max: 65535,
    doc: "Port of the gateway and the API.",
  },
  httpsPort: {
    type: "number",
    flag: "https-port",
    default: 0,
    unit: "TCP port, 0 = none",
    min: 0,
    max: 65535,
    doc: "Port of HTTPS with HTTP/2; its certificates are given by tlsCert and tlsKey, or come from a local authority in the data directory.",
  },
  tlsCert: {
    type: "string",
    flag: "tls-cert",
    default: "",
    doc: "Certificate chain (PEM file) of the HTTPS port; read again when it changes.",
  },
  tlsKey: { type: "string", flag: "tls-key", default: "", doc: "Private key (PEM file) of that certificate." },
  host: { type: "string", flag: "host", default: "127.0.0.1", doc: "Address to listen on." },
  domain: {
    type: "string",
    flag: "domain",
    default: "localhost",
    doc: "Deployments answer at hosts below this domain, the API at the domain itself.",
  },
  data: { type: "string", flag: "data", default: ".mayfly", doc: "Data directory: database, blobs, unpacked bundles." },
  region: { type: "string", default: "dev1", doc: "Name of this node's region, shown in x-vercel-id." },
  peers: {
    type: "string",
    default: "",
    doc: "Nodes in other regions (region=http://host:port or https, comma-separated); Functions run in a region that their configuration names.",
  },
  peerSecretFile: { type: "string", default: "", doc: "File with the secret that all peers share, at least 32 characters." },
  peerCaFile: {
    type: "string",
    default: "",
    doc: "Certificates (PEM file) of the authorities that vouch for peers at https addresses, whose certificates are for the domain; empty: those that the system trusts.",
  },
  peerProbeMs: {
    type: "number",
    default: 1000,
    unit: "ms",
    min: 50,
    max: 60_000,
    doc: "Each peer is probed this long after its last probe has ended.",
  },
  peerProbeMsMax: {
    type: "number",
    default: 1000,
    unit: "ms",
    min: 50,
    max: 60_000,
    doc: "A peer that does not answer two probes in a row within this time each, or takes no connection, is passed over until it answers one.",
  },
  peerConnectMsMax: {
    type: "number",
    default: 1000,
    unit: "ms",
    min: 50,
    max: 60_000,
    doc: "A peer that does not take a connection within this time is passed over.",
  },
  peerSilenceMs: {
    type: "number",
    default: 250,
    unit: "ms",
    min: 10,
    max: 60_000,
    doc: "A peer that has not begun to answer a request after this time is probed at once.",
  },
  peerHedgeMs: {
    type: "number",
    default: 250,
    unit: "ms",
    min: 10,
    max: 60_000,
    doc: "When that probe is not answered within this time, the next peer is asked for the same GET or HEAD as well, and the first answer counts.",
  },
  peerLostMs: {
    type: "number",
    default: 5000,
    unit: "ms",
    min: 100,
    max: 600_000,
    doc: "What a peer has begun to answer, or may have, is given up when nothing at all has come from it for so long.",
  },
  signInRateMax: {
    type: "number",
    default: 10,
    unit: "attempts per minute",
    min: 1,
    max: 10_000,
    doc: "Tokens that one address may try at the sign-in form of /_src and /_logs.",
  },
  sandbox: {
    type: "string",
    flag: "sandbox",
    default: "auto",
    values: ["auto", "oci", "bubblewrap", "process"],
    doc: "How untrusted code is isolated; auto takes the strongest that works here.",
  },
  ociRuntime: { type: "string", default: "crun", values: ["crun", "runc"], doc: "Program that makes the containers of the oci sandbox." },
  untrusted: {
    type: "boolean",
    flag: "untrusted",
    default: false,
    doc: "Other people's code will run here: refuse to start when the sandbox does not isolate files, processes and network, or limits no memory.",
  },
  networkAllow: {
    type: "string",
    default: "",
    doc: "Private IPv4 networks (CIDR, comma-separated) that sandboxes may reach although private addresses are closed to them.",
  },
  npmRegistry: { type: "string", default: "", doc: "npm registry for builds; empty: npm's own default." },

  // Functions (design: the seed's promises)
  functionMemoryMBDefault: {
    type: "number",
    default: 1769,
    unit: "MB",
    min: 128,
    max: 3008,
    doc: "Memory of a Function that asks for none (1769 MB is one CPU).",
  },
  functionMemoryMBMin: { type: "number", default: 128, unit: "MB", min: 64, max: 3008, doc: "Least memory a Function may ask for." },
  functionMemoryMBMax: { type: "number", default: 3008, unit: "MB", min: 128, max: 10240, doc: "Most memory a Function may ask for." },
  functionDurationSMax: { type: "number", default: 300, unit: "s", min: 1, max: 900, doc: "Longest invocation; maxDuration may lower it." },
  functionBodyBytesMax: {
    type: "number",
    default: 5 * MB,
    unit: "bytes",
    min: 1024,
    max: 100 * MB,
    doc: "Largest request body of a Function.",
  },
  functionBundleBytesMax: {
    type: "number",
    default: 50 * MB,
    unit: "bytes",
    min: MB,
    max: 1024 * MB,
    doc: "Largest bundle of one Function.",
  },
  functionLoadMsMax: {
    type: "number",
    default: 10_000,
    unit: "ms",
    min: 100,
    max: 60_000,
    doc: "Longest time for a sandbox to boot and load a Function's code.",
  },
  tmpBytesMax: { type: "number", default: 512 * MB, unit: "bytes", min: MB, max: 10240 * MB, doc: "Size of an instance's /tmp." },
  processesMax: { type: "number", default: 1024, unit: "processes and threads", min: 16, max: 32768, doc: "Processes of one sandbox." },
  openFilesMax: { type: "number", default: 1024, unit: "descriptors", min: 64, max: 65536, doc: "Open files of one process in a sandbox." },
  instanceIdleMs: {
    type: "number",
    default: 600_000,
    unit: "ms",
    min: 0,
    max: 86_400_000,
    doc: "An idle instance is kept for so long until its Function's rhythm is known; 0: none is kept.",
  },
  keepAliveMsMin: {
    type: "number",
    default: 60_000,
    unit: "ms",
    min: 0,
    max: 86_400_000,
    doc: "When the rhythm is known, an idle instance is kept at least so long.",
  },
  keepAliveMsMax: {
    type: "number",
    default: 14_400_000,
    unit: "ms",
    min: 0,
    max: 86_400_000,
    doc: "When the rhythm is known, an idle instance is kept at most so long.",
  },
  functionsRememberedMax: {
    type: "number",
    default: 10_000,
    unit: "Functions",
    min: 1,
    max: 1_000_000,
    doc: "Functions whose rhythm and costs are remembered while no instance lives.",
  },
  freezeDelayMs: {
    type: "number",
    default: 10,
    unit: "ms",
    min: 0,
    max: 1000,
    doc: "An instance whose requests follow each other faster than this is frozen only after it; 0: always at once.",
  },
  busyWaitMsMax: {
    type: "number",
    default: 20,
    unit: "ms",
    min: 0,
    max: 1000,
    doc: "Where a Function only computes and keeps all processors busy, its next request waits for an instance at work instead of taking another; one that is busy for longer is not waited for; 0: none is.",
  },
  retireMs: {
    type: "number",
    default: 500,
    unit: "ms",
    min: 0,
    max: 10_000,
    doc: "An instance that is retired gets SIGTERM and may run on for so long; 0: it is killed at once.",
  },
  functionsMemoryBudgetMB: {
    type: "number",
    default: 0,
    unit: "MB, 0 = three quarters of the machine's",
    min: 0,
    max: 16_777_216,
    doc: "Memory that all instances may really use together; beyond it idle ones are given up, cheapest loss first.",
  },
  instancesMax: { type: "number", default: 400, unit: "instances", min: 1, max: 10_000, doc: "Instances of all Functions on this node." },
  instancesPerFunctionMax: {
    type: "number",
    default: 100,
    unit: "instances",
    min: 1,
    max: 10_000,
    doc: "Instances of one Function on this node.",
  },
  poolSize: {
    type: "number",
    default: 2,
    unit: "sandboxes",
    min: 0,
    max: 64,
    doc: "Generic sandboxes that wait, booted and frozen, for a cold start.",
  },
  bootsMax: {
    type: "number",
    default: 4,
    unit: "instances",
    min: 1,
    max: 1000,
    doc: "Instances that boot or load at the same time; further ones wait.",
  },
  queueMax: {
    type: "number",
    default: 1000,
    unit: "requests",
    min: 1,
    max: 100_000,
    doc: "Requests that may wait for an instance of one Function.",
  },
  queueWaitMsMax: { type: "number", default: 30_000, unit: "ms", min: 100, max: 300_000, doc: "Longest wait for an instance." },
  bootFailuresMax: {
    type: "number",
    default: 3,
    unit: "instances",
    min: 1,
    max: 1000,
    doc: "When so many instances of a Function in a row have ended without an answer, its boots pause.",
  },
  bootPauseMsMax: { type: "number", default: 60_000, unit: "ms", min: 1000, max: 3_600_000, doc: "Longest pause between boots that fail." },
  nodeFetchMsMax: {
    type: "number",
    default: 300_000,
    unit: "ms",
    min: 1000,
    max: 3_600_000,
    doc: "Longest fetch of another Node version than the platform's own.",
  },
  bundleCacheBytesMax: {
    type: "number",
    default: 10_240 * MB,
    unit: "bytes",
    min: MB,
    max: 1_048_576 * MB,
    doc: "Unpacked bundles kept on this node; the least recently used go first.",
  },
  recordsBytesMax: {
    type: "number",
    default: 1024 * MB,
    unit: "bytes, 0 = none is made",
    min: 0,
    max: 1_048_576 * MB,
    doc: "Compiled code that instances have recorded for later ones; the least recently used go first.",
  },
  recordBytesMax: {
    type: "number",
    default: 32 * MB,
    unit: "bytes",
    min: MB,
    max: 256 * MB,
    doc: "Compiled code that one Function may record.",
  },

  // gateway
  headersBytesMax: { type: "number", default: 32_768, unit: "bytes", min: 4096, max: 1_048_576, doc: "Largest request head." },
  urlBytesMax: { type: "number", default: 14_336, unit: "bytes", min: 1024, max: 65_536, doc: "Longest request target." },
  headersMsMax: {
    type: "number",
    default: 15_000,
    unit: "ms",
    min: 1000,
    max: 120_000,
    doc: "A client must send its request head within this time.",
  },
  headersMax: { type: "number", default: 200, unit: "headers", min: 16, max: 10_000, doc: "Headers of one request." },
  bodyIdleMsMax: {
    type: "number",
    default: 60_000,
    unit: "ms",
    min: 1000,
    max: 600_000,
    doc: "A client that sends nothing of its request body for so long is given up.",
  },
  writeStallMsMax: {
    type: "number",
    default: 60_000,
    unit: "ms",
    min: 1000,
    max: 600_000,
    doc: "A client that takes nothing of its response for so long is given up.",
  },
  connectionsMax: { type: "number", default: 10_000, unit: "connections", min: 16, max: 1_000_000, doc: "Open client connections." },
  connectionIdleMs: {
    type: "number",
    default: 60_000,
    unit: "ms",
    min: 1000,
    max: 600_000,
    doc: "An idle kept-alive connection is closed after this time.",
  },
  staticMemoryBytesMax: { type: "number", default: 256 * MB, unit: "bytes", min: 0, max: 65_536 * MB, doc: "Static files held in memory." },
  staticFileMemoryBytesMax: {
    type: "number",
    default: 2 * MB,
    unit: "bytes",
    min: 0,
    max: 1024 * MB,
    doc: "Larger static files are streamed from disk.",
  },
  settledAnswersMax: {
    type: "number",
    default: 20_000,
    unit: "addresses",
    min: 0,
    max: 10_000_000,
    doc: "Addresses whose routing the gateway remembers, so that the next request is answered at once.",
  },
  cacheMemoryBytesMax: {
    type: "number",
    default: 128 * MB,
    unit: "bytes",
    min: 0,
    max: 65_536 * MB,
    doc: "Answers of Functions that the edge cache holds in memory.",
  },
  cacheDiskBytesMax: {
    type: "number",
    default: 1024 * MB,
    unit: "bytes, 0 = none",
    min: 0,
    max: 1_048_576 * MB,
    doc: "Answers of Functions that the edge cache holds on disk, over a restart.",
  },
  cacheAnswerBytesMax: { type: "number", default: 10 * MB, unit: "bytes", min: 0, max: 1024 * MB, doc: "Larger answers are not cached." },
  cacheVariantsBytesMax: {
    type: "number",
    default: 64 * MB,
    unit: "bytes, 0 = none",
    min: 0,
    max: 65_536 * MB,
    doc: "Compressed variants of cached answers that are held in memory.",
  },
  compressionsMax: {
    type: "number",
    default: 256,
    unit: "answers, 0 = none",
    min: 0,
    max: 100_000,
    doc: "Answers of Functions that are compressed on their way to the client at the same time; more go out as they are.",
  },
  cacheWaitMsMax: {
    type: "number",
    default: 10_000,
    unit: "ms",
    min: 0,
    max: 300_000,
    doc: "Requests for a cacheable answer that is just being made wait so long for it; then each has it made for itself.",
  },
  cacheProbeMsMax: {
    type: "number",
    default: 300,
    unit: "ms",
    min: 0,
    max: 10_000,
    doc: "The same while it is not known yet whether the Function's answers can be cached.",
  },
  cacheRemakesMax: {
    type: "number",
    default: 64,
    unit: "answers",
    min: 1,
    max: 10_000,
    doc: "Stale answers that are made anew at the same time.",
  },
  imageWorkersMax: {
    type: "number",
    default: 0,
    unit: "workers, 0 = half the processors",
    min: 0,
    max: 256,
    doc: "Sandboxes that make pictures smaller at the same time.",
  },
  imageQueueMax: {
    type: "number",
    default: 64,
    unit: "pictures",
    min: 0,
    max: 10_000,
    doc: "Pictures that may wait to be made or fetched.",
  },
  imageMsMax: {
    type: "number",
    default: 10_000,
    unit: "ms",
    min: 100,
    max: 120_000,
    doc: "Longest wait for a worker, and longest time that it may take for a picture.",
  },
  imageIdleMs: {
    type: "number",
    default: 60_000,
    unit: "ms",
    min: 0,
    max: 3_600_000,
    doc: "A worker that has made no picture for so long is ended; until then it is frozen.",
  },
  imageMemoryMB: { type: "number", default: 512, unit: "MB", min: 128, max: 16_384, doc: "Memory of one worker." },
  imagePixelsMax: {
    type: "number",
    default: 67_108_864,
    unit: "pixels",
    min: 1,
    max: 268_402_689,
    doc: "Width times height of a picture that is made smaller; larger ones are refused before they are decoded.",
  },
  imageSourceBytesMax: {
    type: "number",
    default: 20 * MB,
    unit: "bytes",
    min: 1024,
    max: 512 * MB,
    doc: "Largest file of such a picture.",
  },
  imageSourceMsMax: {
    type: "number",
    default: 15_000,
    unit: "ms",
    min: 100,
    max: 300_000,
    doc: "The Function or the other host that such a picture comes from must have sent it within this time.",
  },
  middlewareBodyBytesMax: {
    type: "number",
    default: 5 * MB,
    unit: "bytes, 0 = none",
    min: 0,
    max: 100 * MB,
    doc: "Larger request bodies are refused where a middleware is in their way: it might let pass what it does not see; 0: it sees none, and none is refused.",
  },
  middlewareBodiesBytesMax: {
    type: "number",
    default: 256 * MB,
    unit: "bytes",
    min: 0,
    max: 65_536 * MB,
    doc: "Request bodies that are held for middleware at the same time; further requests with a body are refused.",
  },
  middlewareBodyMsMax: {
    type: "number",
    default: 60_000,
    unit: "ms",
    min: 100,
    max: 600_000,
    doc: "A request body that a middleware is to see must have arrived by then.",
  },
  originAllow: {
    type: "string",
    default: "",
    doc: "Private networks (CIDR, comma-separated) that routes may lead to although private addresses are closed to them.",
  },
  originConnectMsMax: {
    type: "number",
    default: 10_000,
    unit: "ms",
    min: 100,
    max: 120_000,
    doc: "Another origin must take the connection within this time.",
  },
  originAnswerMsMax: {
    type: "number",
    default: 120_000,
    unit: "ms",
    min: 100,
    max: 900_000,
    doc: "Another origin must begin to answer, and send the next piece, within this time.",
  },
  originConnectionsMax: { type: "number", default: 1024, unit: "connections", min: 1, max: 100_000, doc: "Connections to other origins." },
  manifestsMax: { type: "number", default: 1000, unit: "manifests", min: 1, max: 1_000_000, doc: "Compiled manifests held in memory." },
  drainMs: {
    type: "number",
    default: 10_000,
    unit: "ms",
    min: 0,
    max: 300_000,
    doc: "On SIGTERM, requests in flight may finish within this time.",
  },

  // deployments
  filesMax: { type: "number", default: 100_000, unit: "files", min: 1, max: 1_000_000, doc: "Files of one deployment." },
  fileBytesMax: { type: "number", default: 5_120 * MB, unit: "bytes", min: MB, max: 102_400 * MB, doc: "Largest uploaded file." },
  deploymentBytesMax: {
    type: "number",
    default: 10_240 * MB,
    unit: "bytes",
    min: MB,
    max: 1_048_576 * MB,
    doc: "Bytes of one deployment's source.",
  },
  pathBytesMax: { type: "number", default: 1024, unit: "bytes", min: 64, max: 4096, doc: "Longest path of a file." },
  requestJsonBytesMax: {
    type: "number",
    default: 64 * MB,
    unit: "bytes",
    min: 65_536,
    max: 1024 * MB,
    doc: "Largest JSON body of an API call (a deployment's file list is one).",
  },
  envBytesMax: {
    type: "number",
    default: 65_536,
    unit: "bytes",
    min: 1024,
    max: 1_048_576,
    doc: "All environment variables of a deployment together.",
  },
  diskFreeBytesMin: {
    type: "number",
    default: 512 * MB,
    unit: "bytes",
    min: 0,
    max: 1_048_576 * MB,
    doc: "With less free disk, uploads and deployments are refused.",
  },

  keepProduction: {
    type: "number",
    default: 10,
    unit: "deployments",
    min: 1,
    max: 1000,
    doc: "The newest so many production deployments of a project are kept however old they are; a project may say otherwise, as of the next four.",
  },
  productionDays: {
    type: "number",
    default: 365,
    unit: "days",
    min: 1,
    max: 36_500,
    doc: "Older production deployments go, unless an alias points to them.",
  },
  previewDays: {
    type: "number",
    default: 180,
    unit: "days",
    min: 1,
    max: 36_500,
    doc: "Older previews go, unless an alias points to them.",
  },
  errorDays: {
    type: "number",
    default: 90,
    unit: "days",
    min: 1,
    max: 36_500,
    doc: "Older deployments that have failed go.",
  },
  canceledDays: {
    type: "number",
    default: 30,
    unit: "days",
    min: 1,
    max: 36_500,
    doc: "Older deployments that were canceled go.",
  },
  toolchainDays: {
    type: "number",
    default: 30,
    unit: "days",
    min: 1,
    max: 36_500,
    doc: "Package managers that no build has asked for in this time are removed from the disk; a later build fetches them again.",
  },
  npmAhead: {
    type: "boolean",
    default: true,
    doc: "Fetch npm for builds when the server starts for the first time; else the first build that installs something waits for it.",
  },
  gcGraceMs: {
    type: "number",
    default: 86_400_000,
    unit: "ms",
    min: 0,
    max: 2_592_000_000,
    doc: "A file that nothing refers to goes when that is still so after this time: longer than any upload or build takes.",
  },
  maintenanceMs: {
    type: "number",
    default: 3_600_000,
    unit: "ms",
    min: 60_000,
    max: 86_400_000,
    doc: "So often old deployments, unused files and old records are cleared away.",
  },

  // API
  apiTokenRateMax: {
    type: "number",
    default: 12_000,
    unit: "calls per minute",
    min: 1,
    max: 10_000_000,
    doc: "API calls of one token; uploads do not count.",
  },
  apiAddressRateMax: {
    type: "number",
    default: 1200,
    unit: "calls per minute",
    min: 1,
    max: 10_000_000,
    doc: "API calls without a valid token from one address.",
  },
  cronRunsMax: {
    type: "number",
    default: 20,
    unit: "runs",
    min: 1,
    max: 1000,
    doc: "Cron jobs that run at the same time; further ones wait.",
  },
  cronJobsMax: {
    type: "number",
    default: 100,
    unit: "jobs",
    min: 1,
    max: 10_000,
    doc: "Cron jobs of one project; further ones do not run.",
  },
  variablesMax: { type: "number", default: 1000, unit: "variables", min: 1, max: 100_000, doc: "Environment variables of a project." },

  // builds
  buildsMax: {
    type: "number",
    default: 0,
    unit: "builds",
    min: 0,
    max: 64,
    doc: "Builds at the same time; 0: one a core, as far as half of the memory reaches.",
  },
  buildQueueMax: {
    type: "number",
    default: 1000,
    unit: "deployments",
    min: 1,
    max: 100_000,
    doc: "Deployments that may wait for a build.",
  },
  buildTimeoutMs: { type: "number", default: 2_700_000, unit: "ms", min: 1000, max: 86_400_000, doc: "Longest build (45 minutes)." },
  configurationTimeoutMs: {
    type: "number",
    default: 30_000,
    unit: "ms",
    min: 1000,
    max: 600_000,
    doc: "Longest run of the program that configures a project (vercel.ts).",
  },
  planTimeoutMs: {
    type: "number",
    default: 60_000,
    unit: "ms",
    min: 100,
    max: 3_600_000,
    doc: "Longest time in which it is found out what there is to build in a large project.",
  },
  planMemoryMB: { type: "number", default: 512, unit: "MB", min: 64, max: 16_384, doc: "Memory of the process that does." },
  buildMemoryMB: { type: "number", default: 3008, unit: "MB", min: 512, max: 65_536, doc: "Memory of a build." },
  buildMemoryDirectory: {
    type: "string",
    default: "/dev/shm",
    doc: "File system in memory for the files of builds that only take little Functions; empty, or another kind of directory: all builds are on disk.",
  },
  buildStandby: {
    type: "number",
    default: 1,
    unit: "sandboxes",
    min: 0,
    max: 16,
    doc: "Build sandboxes that wait, booted and frozen, for the next build, while the machine has buildMemoryMB to give.",
  },
  buildOpenFilesMax: {
    type: "number",
    default: 4096,
    unit: "descriptors",
    min: 1024,
    max: 1_048_576,
    doc: "Open files of one process in a build: bundlers open many at once.",
  },
  buildDiskBytesMax: {
    type: "number",
    default: 10_240 * MB,
    unit: "bytes",
    min: 16 * MB,
    max: 1_048_576 * MB,
    doc: "Disk of one build: source, packages, output. One that takes more is ended; no file may become larger, sparse ones included.",
  },
  buildFilesMax: {
    type: "number",
    default: 1_000_000,
    unit: "files",
    min: 1000,
    max: 100_000_000,
    doc: "Files, directories and links of one build: source, packages, output. One that makes more is ended.",
  },
  buildCacheBytesMax: {
    type: "number",
    default: 1024 * MB,
    unit: "bytes",
    min: 0,
    max: 1_048_576 * MB,
    doc: "Packages and framework cache kept for the next build, for each project's production and each of its branches. A larger one is not kept.",
  },
  buildCachesBytesMax: {
    type: "number",
    default: 10_240 * MB,
    unit: "bytes",
    min: 0,
    max: 1_048_576 * MB,
    doc: "All build caches together; those that were used longest ago go.",
  },
  buildAttemptsMax: {
    type: "number",
    default: 3,
    unit: "attempts",
    min: 1,
    max: 10,
    doc: "How often a build that the platform's end cut off is begun.",
  },
  outputBytesMax: {
    type: "number",
    default: 10_240 * MB,
    unit: "bytes",
    min: MB,
    max: 102_400 * MB,
    doc: "All files of a build's output.",
  },

  // Git hosts
  githubUrls: {
    type: "string",
    default: "https://github.com",
    doc: "GitHub servers that projects may be connected to: base URLs, comma-separated. Mayfly asks no others.",
  },
  gitlabUrls: {
    type: "string",
    default: "https://gitlab.com",
    doc: "GitLab servers that projects may be connected to: base URLs, comma-separated. Mayfly asks no others.",
  },
  gitWebhookOrigin: {
    type: "string",
    default: "",
    doc: "Origin at which Git hosts reach the API, such as https://deploy.example.com; empty: the domain itself.",
  },
  gitWebhookBytesMax: {
    type: "number",
    default: 25 * MB,
    unit: "bytes",
    min: 65_536,
    max: 100 * MB,
    doc: "Largest webhook (GitHub sends at most 25 MB).",
  },
  gitDeliveriesPendingMax: {
    type: "number",
    default: 10_000,
    unit: "webhooks",
    min: 1,
    max: 1_000_000,
    doc: "Webhooks that may wait; beyond it they are refused with 503, and hosts send them again.",
  },
  gitDeliveriesAtOnce: {
    type: "number",
    default: 4,
    unit: "webhooks",
    min: 1,
    max: 64,
    doc: "Webhooks that are acted on at the same time.",
  },
  gitDeliveryAttemptsMax: {
    type: "number",
    default: 12,
    unit: "attempts",
    min: 1,
    max: 100,
    doc: "How often a webhook is tried while the repository does not answer: twelve attempts are about half an hour.",
  },
  gitReportsAtOnce: {
    type: "number",
    default: 4,
    unit: "repositories",
    min: 1,
    max: 64,
    doc: "Repositories whose host is told of states at the same time.",
  },
  gitLogDaysMax: {
    type: "number",
    default: 30,
    unit: "days",
    min: 1,
    max: 3650,
    doc: "Webhooks that were received, and what became of them, are kept for so long.",
  },
  gitHostMsMax: {
    type: "number",
    default: 20_000,
    unit: "ms",
    min: 100,
    max: 300_000,
    doc: "A Git host's API must answer within this time.",
  },
  gitFetchMsMax: { type: "number", default: 300_000, unit: "ms", min: 1000, max: 3_600_000, doc: "Longest fetch of a repository." },
  gitRepositoryBytesMax: {
    type: "number",
    default: 4096 * MB,
    unit: "bytes",
    min: MB,
    max: 1_048_576 * MB,
    doc: "Largest mirror of a repository (its last commits, packed).",
  },
  gitMirrorsBytesMax: {
    type: "number",
    default: 20_480 * MB,
    unit: "bytes",
    min: MB,
    max: 1_048_576 * MB,
    doc: "All mirrors together; the least recently used go first.",
  },

  // logs
  logLinesMax: {
    type: "number",
    default: 1000,
    unit: "lines",
    min: 10,
    max: 1_000_000,
    doc: "Lines kept for each Function and for each build; the oldest go.",
  },
  logRequestsMax: {
    type: "number",
    default: 1000,
    unit: "requests",
    min: 10,
    max: 1_000_000,
    doc: "Requests that Functions answered kept for each deployment, and as many others; the oldest go.",
  },
  logRequests: {
    type: "string",
    default: "all",
    values: ["all", "functions", "none"],
    doc: "Which requests to deployments are written down: all, those that Functions answered, or none.",
  },
  logRequestsRateMax: {
    type: "number",
    default: 1000,
    unit: "requests per second",
    min: 20,
    max: 100_000,
    doc: "Of more than that a share is written down (of those that no Function answered half as many), and how many are not.",
  },
  logRateLinesMax: {
    type: "number",
    default: 10_000,
    unit: "lines per second",
    min: 100,
    max: 1_000_000,
    doc: "An instance that writes more is made to wait.",
  },
  logLineBytesMax: { type: "number", default: 1024, unit: "bytes", min: 64, max: 65_536, doc: "Longer lines are cut into chunks." },
  logBufferLinesMax: {
    type: "number",
    default: 10_000,
    unit: "lines",
    min: 100,
    max: 1_000_000,
    doc: "Lines that may wait to be written; beyond it they are dropped and counted.",
  },

  // usage
  usageDaysMax: { type: "number", default: 90, unit: "days", min: 1, max: 3650, doc: "What Functions have used is kept for so long." },
  usageBufferRowsMax: {
    type: "number",
    default: 10_000,
    unit: "rows (Functions × minutes)",
    min: 100,
    max: 1_000_000,
    doc: "Usage that may wait to be written; beyond it records are dropped, with a warning.",
  },
} as const satisfies Record<string, Knob>;

type Knobs = typeof knobs;
export type KnobName = keyof Knobs;

/** All settings, checked. */
export type Config = {
  readonly [K in KnobName]: Knobs[K]["type"] extends "number" ? number : Knobs[K]["type"] extends "boolean" ? boolean : string;
};

/** `functionBodyBytesMax` → `MAYFLY_FUNCTION_BODY_BYTES_MAX`. */
export function knobEnv(name: string): string {
  return (
    "MAYFLY_" +
    name
      .replaceAll(/([a-z])([A-Z])/g, "$1_$2")
      .replaceAll(/([A-Z]+)([A-Z][a-z])/g, "$1_$2")
      .toUpperCase()
  );
}

/**
 * Settings from flags (they win), then the environment, then the table.
 * @throws MayflyError config_invalid, naming the setting, its value and its bounds
 */
export function loadConfig(flags: Readonly<Record<string, string | undefined>>, env: Readonly<Record<string, string | undefined>>): Config {
  const config: Record<string, number | string | boolean> = {};
  for (const [name, knob] of Object.entries<Knob>(knobs)) {
    const fromFlag = knob.flag === undefined ? undefined : flags[knob.flag];
    const text = fromFlag ?? env[knobEnv(name)];
    const label = fromFlag === undefined ? knobEnv(name) : `--${knob.flag}`;
    config[name] = text === undefined || text === "" ? knob.default : parseKnob(label, knob, text);
  }
  return config as Config;
}

function parseKnob(label: string, knob: Knob, text: string): number | string | boolean {
  if (knob.type === "boolean") {
    if (!["0", "1", "false", "true"].includes(text)) throw new MayflyError("config_invalid", `${label} is "${text}"; it may be 1 or 0.`);
    return text === "1" || text === "true";
  }
  if (knob.type === "string") {
    if (knob.values !== undefined && !knob.values.includes(text)) {
      throw new MayflyError("config_invalid", `${label} is "${text}"; it may be ${knob.values.join(", ")}.`);
    }
    return text;
  }
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= knob.min && value <= knob.max)) {
    throw new MayflyError(
      "config_invalid",
      `${label} is "${text}"; it must be a whole number from ${knob.min} to ${knob.max} (${knob.unit}).`,
    );
  }
  return value;
}
