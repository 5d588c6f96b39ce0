/**
 * Every noun of Mayfly as a readonly value type. What is here can be serialised; what is alive is a class elsewhere.
 * This file imports nothing.
 */

/** Lower-case hexadecimal SHA-256 of a file's bytes: the name of a blob. */
export type Digest = string;

/** Milliseconds since 1970-01-01 UTC. */
export type TimestampMs = number;

/** Where a deployment goes: `production` moves the project's production alias, `preview` has its own URL only. */
export type Target = "production" | "preview";

export interface Team {
  /** `team_…` (the official client tests for the prefix). */
  readonly id: string;
  readonly slug: string;
  readonly name: string;
}

export interface User {
  /** `usr_…` */
  readonly id: string;
  readonly username: string;
  readonly email: string;
}

/** What a project asks of its builds; `null` means "detect it". Names are those of Vercel's project resource. */
export interface ProjectSettings {
  readonly framework: string | null;
  readonly buildCommand: string | null;
  readonly installCommand: string | null;
  readonly outputDirectory: string | null;
  readonly rootDirectory: string | null;
  readonly nodeVersion: string | null;
  readonly devCommand: string | null;
  /** Run before a build: exit code 0 skips it. */
  readonly commandForIgnoringBuildStep: string | null;
  /** Directories without an index are listed. */
  readonly directoryListing: boolean;
  /** Whether pages of Next.js share Functions or have one each; null: they share. */
  readonly nextFunctions: NextFunctions | null;
}

export const nextFunctions = ["shared", "separate"] as const;
export type NextFunctions = (typeof nextFunctions)[number];

/** Of a project that decides nothing itself. */
export const noSettings: ProjectSettings = {
  framework: null,
  buildCommand: null,
  installCommand: null,
  outputDirectory: null,
  rootDirectory: null,
  nodeVersion: null,
  devCommand: null,
  commandForIgnoringBuildStep: null,
  directoryListing: false,
  nextFunctions: null,
};

/** How long deployments of a project are kept, by what became of them; null: as the server says. What an alias points to never goes. */
export interface Retention {
  /** The newest so many production deployments are kept however old they are. */
  readonly keepProduction: number | null;
  readonly productionDays: number | null;
  readonly previewDays: number | null;
  readonly errorDays: number | null;
  readonly canceledDays: number | null;
}

/** The last promote or rollback of a project, as Vercel's `lastAliasRequest`. */
export interface AliasRequest {
  readonly type: "promote" | "rollback";
  readonly jobStatus: "pending" | "in-progress" | "succeeded" | "failed" | "skipped";
  readonly fromDeploymentId: string | null;
  readonly toDeploymentId: string;
  readonly requestedAt: TimestampMs;
}

export interface Project {
  /** `prj_…` */
  readonly id: string;
  readonly teamId: string;
  /** Lower-case, a valid DNS label prefix: see `projectName` in names.ts. */
  readonly name: string;
  readonly settings: ProjectSettings;
  readonly retention: Retention;
  /** Since a rollback no new deployment takes production by itself; a promote ends it. */
  readonly productionPinned: boolean;
  readonly lastAliasRequest: AliasRequest | null;
  readonly createdAt: TimestampMs;
  readonly updatedAt: TimestampMs;
}

/** Whose environment a variable belongs to; `development` is what `env pull` gives a person's machine. */
export type EnvTarget = Target | "development";

/** A variable of a project's environment; its value is kept sealed (store/variables.ts). */
export interface Variable {
  /** `env_…` */
  readonly id: string;
  readonly projectId: string;
  readonly name: string;
  /** `plain` and `encrypted` can be read again, `sensitive` never leaves the server but into builds and Functions. */
  readonly type: "plain" | "encrypted" | "sensitive";
  readonly targets: readonly EnvTarget[];
  /** Only for previews of this Git branch; null: for all. */
  readonly branch: string | null;
  readonly comment: string;
  readonly creatorId: string;
  readonly createdAt: TimestampMs;
  readonly updatedAt: TimestampMs;
}

/** A host that a person gave to a project: it follows production, or one branch. */
export interface ProjectDomain {
  readonly host: string;
  readonly projectId: string;
  /** null: production. */
  readonly branch: string | null;
  readonly createdAt: TimestampMs;
}

/**
 * ```
 * QUEUED ──▶ BUILDING ──▶ READY
 *    │           ├──────▶ ERROR      (failed with errorCode and errorMessage)
 *    └───────────┴──────▶ CANCELED
 * ```
 * READY, ERROR and CANCELED are final. READY is written in the same transaction as the deployment's aliases.
 */
export type DeploymentState = "QUEUED" | "BUILDING" | "READY" | "ERROR" | "CANCELED";

export interface Deployment {
  /** `dpl_…` */
  readonly id: string;
  readonly teamId: string;
  readonly projectId: string;
  /** The project's name when it was deployed. */
  readonly name: string;
  /** The immutable host without port: `<project>-<id9>.<domain>`. */
  readonly host: string;
  readonly target: Target;
  readonly state: DeploymentState;
  readonly creatorId: string;
  readonly meta: Readonly<Record<string, string>>;
  readonly createdAt: TimestampMs;
  readonly buildingAt: TimestampMs | null;
  readonly readyAt: TimestampMs | null;
  readonly errorCode: string | null;
  readonly errorMessage: string | null;
  /** Blob that holds the source: a {@link SourceTree} as JSON. */
  readonly sourceDigest: Digest;
  /** Blob that holds the {@link Manifest} as JSON; set when the state is READY. */
  readonly manifestDigest: Digest | null;
  /** null: not made from a commit by a Git host. */
  readonly git: GitSource | null;
  /** When it last became production; null: never. */
  readonly promotedAt: TimestampMs | null;
  /** How the build was asked for: see {@link DeploymentRequest}. */
  readonly request: DeploymentRequest;
  /** What the build did; set when the state is READY. */
  readonly summary: BuildSummary | null;
  /** How often a build of it was begun; a build that the platform's end cut off is begun again. */
  readonly attempts: number;
}

/** The commit that a deployment was made from. */
export interface GitSource {
  readonly provider: "github" | "gitlab";
  /** `owner/name`, `group/sub/name`. */
  readonly repository: string;
  readonly branch: string;
  /** 40 hexadecimal digits. */
  readonly commitSha: string;
  readonly commitMessage: string;
  readonly commitAuthor: string;
  /** The author's login at the host; absent: not known. */
  readonly commitAuthorLogin?: string;
  readonly pullRequest: number | null;
  /** It comes from another repository: no secrets, and no cache is written. */
  readonly fork: boolean;
}

/** A project that is deployed by pushes to a repository. */
export interface GitConnection {
  /** `git_…` */
  readonly id: string;
  readonly teamId: string;
  readonly projectId: string;
  /** Whom its deployments are ascribed to. */
  readonly creatorId: string;
  readonly provider: GitSource["provider"];
  /** Origin, and path if any, of the host: `https://github.com`. Nothing else is ever asked for the repository. */
  readonly baseUrl: string;
  /** `owner/name`, `group/sub/name`. */
  readonly repository: string;
  /** The host's number of the repository; stays when it is renamed. */
  readonly repositoryId: string;
  readonly productionBranch: string;
  /** The App that it is reached by; null: a token. */
  readonly appId: string | null;
  readonly installationId: string | null;
  /** The host's id of the webhook that was made for it; null: the App's, or one made by hand. */
  readonly webhookId: string | null;
  readonly createdAt: TimestampMs;
}

/** A GitHub App of the team's own. */
export interface GitApp {
  /** `gita_…` */
  readonly id: string;
  readonly teamId: string;
  readonly baseUrl: string;
  /** GitHub's number of it. */
  readonly appId: string;
  /** Its name in addresses. */
  readonly slug: string;
  readonly createdAt: TimestampMs;
}

/**
 * ```
 * PENDING ──▶ DONE      (what came of it is `result`)
 *    │  ▲────┐
 *    ├──┴ tried again: the host or the repository did not answer
 *    └─────▶ FAILED
 * ```
 */
export type GitDeliveryState = "PENDING" | "DONE" | "FAILED";

/** One webhook as it was received for one connection. */
export interface GitDelivery {
  /** `gitd_…` */
  readonly id: string;
  readonly connectionId: string;
  /** The host's id of it. */
  readonly hostDeliveryId: string;
  /** The host's word for what happened. */
  readonly event: string;
  readonly state: GitDeliveryState;
  /** What came of it, for people. */
  readonly result: string | null;
  readonly deploymentId: string | null;
  readonly attempts: number;
  readonly receivedAt: TimestampMs;
  readonly finishedAt: TimestampMs | null;
}

/** How one entrypoint of a build came out. */
export interface EntrypointReport {
  /** `api/date.ts`; `package.json` for the project's own build. */
  readonly entrypoint: string;
  /** `node`, `script`, or the package of a Vercel builder. */
  readonly builder: string;
  /** Taken from an earlier build. */
  readonly reused: boolean;
  /** What building it took; 0 when it was re-used. */
  readonly ms: number;
  /** Of its Function's bundle; null when it made another number of Functions than one. */
  readonly bytes: number | null;
}

/** How much of a build was done anew. */
export interface BuildSummary {
  readonly functions: number;
  /** Functions built by this build. */
  readonly built: number;
  /** Functions taken from an earlier build. */
  readonly cached: number;
  /** From the build's begin to the end of the store step. */
  readonly ms: number;
  /** Blob that holds a list of {@link EntrypointReport} as JSON. Absent: there are none. */
  readonly reportDigest?: Digest;
}

/** What of a create call the build needs later; stored with the deployment. */
export interface DeploymentRequest {
  /** Project settings at the time of the call. */
  readonly settings: ProjectSettings;
  /** The source is a `.vercel/output` tree (Build Output API v3) made by the client. */
  readonly prebuilt: boolean;
  /** Use no cache. */
  readonly force: boolean;
  /** Environment of the Functions and of the build: sealed values (store/seal.ts), never plain. */
  readonly env: Readonly<Record<string, Sealed>>;
  readonly buildEnv: Readonly<Record<string, Sealed>>;
  /** Variables of the platform (`VERCEL_GIT_COMMIT_SHA`, …) for builds and Functions: no secrets. */
  readonly systemEnv?: Readonly<Record<string, string>>;
  /** Names of `env` and `buildEnv` that came with the call itself, not from the project: a redeploy takes them over. */
  readonly givenEnv?: readonly string[];
  readonly givenBuildEnv?: readonly string[];
  /** Names of sensitive variables: their values are never shown. */
  readonly sensitive?: readonly string[];
  /** false: it becomes production only by a promote. Absent: true. */
  readonly autoAssign?: boolean;
  /** The deployment that this one does again. */
  readonly originId?: string;
}

/** An encrypted string, bound to its place: `v1.<key id>.<nonce>.<ciphertext and tag>`, base64url. */
export type Sealed = string & { readonly __sealed?: never };

/** A stored file. A symlink (`mode` 0o120777) is a blob that holds its target. */
export interface FileRef {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  /** `st_mode` as a number: 0o100644, 0o100755 or 0o120777. */
  readonly mode: number;
}

/** A directory as data: POSIX path relative to its root (no leading slash, no `..`) → file. */
export type FileTree = Readonly<Record<string, FileRef>>;

/** A directory of which a bundle has all, and which is kept once for all bundles that have it. */
export interface DirectoryRef {
  /** Blob that holds its {@link FileTree} as JSON. */
  readonly treeDigest: Digest;
  /** Bytes of all its files. */
  readonly size: number;
  readonly mode: 0o040000;
}

/** The files of a Function; blobs/bundle.ts reads them. Nothing else lies below the path of a directory. */
export type Bundle = Readonly<Record<string, FileRef | DirectoryRef>>;

/** What a person uploaded. */
export type SourceTree = FileTree;

/** An alias is the only mutable thing in serving: host (lower case, no port) → deployment. */
export interface Alias {
  readonly host: string;
  readonly deploymentId: string;
  readonly projectId: string;
  readonly createdAt: TimestampMs;
  /** Deployments made before it do not take this alias by themselves: an older build that ends later changes nothing. */
  readonly since: TimestampMs;
}

// ── what is served ────────────────────────────────────────────────────────────────────────────────────────────────────

/** One route of the Build Output API v3 (`config.json`, key `routes`): see vercel.com/docs/build-output-api. */
export type Route = RouteRule | RouteHandle;

export interface RouteHandle {
  readonly handle: "filesystem" | "rewrite" | "resource" | "miss" | "hit" | "error";
}

export interface RouteRule {
  readonly src: string;
  readonly dest?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly methods?: readonly string[];
  readonly continue?: boolean;
  readonly check?: boolean;
  readonly override?: boolean;
  readonly important?: boolean;
  readonly caseSensitive?: boolean;
  readonly status?: number;
  readonly has?: readonly RouteCondition[];
  readonly missing?: readonly RouteCondition[];
  readonly locale?: { readonly redirect?: Readonly<Record<string, string>>; readonly cookie?: string };
  readonly middlewarePath?: string;
  readonly middlewareRawSrc?: readonly string[];
  readonly transforms?: readonly RouteTransform[];
}

/** Changes request or response as it passes: see "transforms" of the Build Output API. */
export interface RouteTransform {
  readonly type: "request.headers" | "request.query" | "request.path" | "response.headers";
  readonly op: "append" | "set" | "delete";
  readonly target?: { readonly key: string | Readonly<Record<string, unknown>> };
  readonly args?: string | readonly string[];
  /** Names of environment variables that `args` may name as `$NAME`. */
  readonly env?: readonly string[];
}

export interface RouteCondition {
  readonly type: "host" | "header" | "cookie" | "query";
  readonly key?: string;
  readonly value?: string | Readonly<Record<string, unknown>>;
}

/** What answers at an output path. */
export type Output = StaticOutput | FunctionOutput | PrerenderOutput | MiddlewareOutput;

export interface StaticOutput {
  readonly kind: "static";
  readonly file: FileRef;
  /** From `overrides` of the Build Output API; else by the path's extension. */
  readonly contentType?: string;
}

export interface FunctionOutput {
  readonly kind: "function";
  /** Key of {@link Manifest.functions}; several paths may share one Function. */
  readonly functionId: string;
}

/** A Function's answer that the edge keeps: made at build time (`fallback`), or by the first request. */
export interface PrerenderOutput {
  readonly kind: "prerender";
  readonly functionId: string;
  readonly prerender: Prerender;
}

/** How an answer is kept: `*.prerender-config.json` of the Build Output API. */
export interface Prerender {
  /** Seconds until it is stale and made anew in the background; `false`: only on demand. */
  readonly expirationS: number | false;
  /** Seconds until a stale answer is no longer given. */
  readonly staleExpirationS?: number;
  /** Prerenders of one deployment with an equal group are made anew together. */
  readonly group?: number;
  /** Whoever shows it (`x-prerender-revalidate`, cookie `__prerender_bypass`) passes the kept answer by. */
  readonly bypassToken: string | null;
  /** Requests that meet one of these pass it by too. */
  readonly bypassFor: readonly RouteCondition[];
  /** Query parameters that tell answers apart; null: all of them. */
  readonly allowQuery: readonly string[] | null;
  /** Request headers that the Function may see while it makes an answer to keep; null: all of them. */
  readonly allowHeader: readonly string[] | null;
  /** The Function sees the request's query. */
  readonly passQuery: boolean;
  /** The answer made at build time; null: there is none, the first request waits. */
  readonly fallback: FileRef | null;
  readonly initialStatus: number;
  readonly initialHeaders: Readonly<Record<string, string>>;
  /** What is kept may be the beginning of an answer only; who completes it for each request. Absent: it is always whole. */
  readonly chain?: PrerenderChain;
}

/** The Function that completes what is kept: it is asked with POST, the state in which the answer was left as its body. */
export interface PrerenderChain {
  /** A Function or prerender of the same deployment. */
  readonly outputPath: string;
  /** Of the request, over those of the client; names lower-case. */
  readonly headers: Readonly<Record<string, string>>;
}

/** Routing middleware: run by a route's `middlewarePath`, never answers at its own path. */
export interface MiddlewareOutput {
  readonly kind: "middleware";
  readonly functionId: string;
}

/** One λ: code and how to run it. */
export interface FunctionSpec {
  /** Digest of bundle and settings: equal Functions of different deployments have equal ids. */
  readonly id: string;
  /** The output path it was built at, without leading slash: `api/date`. For logs and people. */
  readonly name: string;
  /** Blob that holds its {@link Bundle} as JSON. */
  readonly bundleDigest: Digest;
  /** Bytes of all files of the bundle. */
  readonly bundleSize: number;
  /** File in the bundle, and for `awsHandler` the export's name. */
  readonly handler: string;
  /** `nodejs24.x`, …; `edge`: `handler` is a module for the Web-standard runtime. */
  readonly runtime: string;
  /** `req.query`, `res.json` and so on are added to (req, res) handlers. */
  readonly helpers: boolean;
  /** Name of an AWS Lambda handler (`index.handler`), else empty. */
  readonly awsHandler: string;
  /** The default export takes a Request and returns a Response; a middleware that returns nothing lets the request pass. */
  readonly web?: "function" | "middleware";
  /** Of an Edge Function: name that its code fetches (`blob:<name>`) → file in the bundle. */
  readonly assets?: Readonly<Record<string, string>>;
  readonly memoryMB: number;
  readonly maxDurationS: number;
  readonly regions: readonly string[];
  /** From the build; not secret. */
  readonly environment: Readonly<Record<string, string>>;
}

/** An immutable deployment, all that the data plane needs of it. Stored as one blob. */
export interface Manifest {
  readonly version: 1;
  readonly deploymentId: string;
  readonly projectId: string;
  readonly teamId: string;
  /** The project's name. */
  readonly name: string;
  readonly host: string;
  readonly target: Target;
  readonly createdAt: TimestampMs;
  readonly routes: readonly Route[];
  /** All route patterns match case-sensitively (vercel.json has cleanUrls, headers, redirects, rewrites or trailingSlash). */
  readonly caseSensitive: boolean;
  /** Output path without leading slash (`index.html`, `api/date`) → what answers. */
  readonly outputs: Readonly<Record<string, Output>>;
  readonly functions: Readonly<Record<string, FunctionSpec>>;
  /** Environment of every Function of this deployment, sealed. */
  readonly env: Readonly<Record<string, Sealed>>;
  /** {@link DeploymentRequest.systemEnv} */
  readonly systemEnv?: Readonly<Record<string, string>>;
  /** Host suffix → what `$wildcard` stands for in routes. Absent: none. */
  readonly wildcard?: readonly { readonly domain: string; readonly value: string }[];
  /** Configuration of `/_vercel/image`, as the build wrote it. Absent: there is no image optimiser. */
  readonly images?: Readonly<Record<string, unknown>>;
  /** UTC schedules in cron syntax; they run on the production deployment only. */
  readonly crons?: readonly { readonly path: string; readonly schedule: string }[];
  /** Directories without an index are listed. */
  readonly directoryListing?: boolean;
}

// ── what is captured ──────────────────────────────────────────────────────────────────────────────────────────────────

/** One captured line: of a build, or of a Function's invocation. At most `logLineBytesMax` of UTF-8. */
export interface LogLine {
  readonly deploymentId: string;
  readonly source: "build" | "function";
  /** {@link FunctionSpec.name}; empty for a build. */
  readonly functionName: string;
  /** The invocation it was written in (the request id that the client saw); empty for a build and between invocations. */
  readonly invocationId: string;
  readonly stream: "stdout" | "stderr" | "system";
  readonly timestampMs: TimestampMs;
  readonly text: string;
}

/** One request to a deployment, answered or not. */
export interface LoggedRequest {
  readonly deploymentId: string;
  /** {@link LogLine.invocationId} of its lines. */
  readonly requestId: string;
  /** {@link FunctionSpec.name} of what answered or, with `cache`, has made the answer; empty: no Function. */
  readonly functionName: string;
  readonly answeredBy: AnsweredBy;
  /** `x-vercel-cache` of the answer; empty: it had none. */
  readonly cache: string;
  /** When it was answered. */
  readonly timestampMs: TimestampMs;
  readonly method: string;
  /** Without query: that may hold what nobody should read. */
  readonly path: string;
  readonly host: string;
  readonly status: number;
  readonly durationMs: number;
}

/** `cache`: what a Function had answered before; `error`: the platform's own page. */
export type AnsweredBy = "function" | "cache" | "static" | "image" | "redirect" | "external" | "middleware" | "error";

/** A stored line with its place in the order. */
export interface StoredLogLine extends LogLine {
  /** Grows within a deployment; a reader continues after the last it saw. */
  readonly serial: number;
}
