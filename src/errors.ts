/**
 * Every error that leaves Mayfly: code → HTTP status → sentence. docs/errors.md lists the same table and
 * test/tidy.test.ts holds the two together. Upper-case codes answer requests to deployments (Vercel's names where one
 * exists), lower-case ones answer API calls and are printed by the CLI.
 */

export interface ErrorRow {
  /** HTTP status. */
  readonly status: number;
  /** What happened and what to do, for the person who reads it. Details are put into the error's own message. */
  readonly sentence: string;
}

const rows = {
  // requests to deployments
  INVALID_IMAGE_OPTIMIZE_REQUEST: { status: 400, sentence: "The picture that was asked for is none that this deployment gives." },
  BAD_REQUEST: { status: 400, sentence: "The request could not be understood." },
  NOT_FOUND: { status: 404, sentence: "The page could not be found." },
  DEPLOYMENT_NOT_FOUND: { status: 404, sentence: "There is no deployment at this address." },
  DEPLOYMENT_NOT_READY: { status: 404, sentence: "This deployment is not ready." },
  METHOD_NOT_ALLOWED: { status: 405, sentence: "This method is not allowed here." },
  REQUEST_TIMEOUT: { status: 408, sentence: "The request did not arrive in time." },
  FUNCTION_PAYLOAD_TOO_LARGE: { status: 413, sentence: "The request body is larger than a Function accepts." },
  URI_TOO_LONG: { status: 414, sentence: "The address is too long." },
  RANGE_NOT_SATISFIABLE: { status: 416, sentence: "The file does not have the range that was asked for." },
  MISDIRECTED_REQUEST: { status: 421, sentence: "This connection was opened for another host." },
  FUNCTION_THROTTLED: { status: 429, sentence: "Too many requests wait for this Function. Try again soon." },
  REQUEST_HEADER_TOO_LARGE: { status: 431, sentence: "The head of the request is too large." },
  FUNCTION_INVOCATION_FAILED: { status: 500, sentence: "The Function has crashed. Its log has the reason." },
  MIDDLEWARE_INVOCATION_FAILED: { status: 500, sentence: "The middleware of this deployment has crashed. Its log has the reason." },
  ROUTE_TIMEOUT: { status: 500, sentence: "A route of this deployment took too long to match this address." },
  TRANSFER_ENCODING_UNSUPPORTED: { status: 501, sentence: "Request bodies may be chunked, but not encoded in another way." },
  FUNCTION_RESPONSE_INVALID: { status: 502, sentence: "The Function did not answer with valid HTTP." },
  NO_RESPONSE_FROM_FUNCTION: { status: 502, sentence: "The Function ended without a response." },
  MIDDLEWARE_INVOCATION_TIMEOUT: { status: 504, sentence: "The middleware of this deployment did not answer in time." },
  ROUTER_EXTERNAL_TARGET_ERROR: { status: 502, sentence: "The origin that this route leads to did not answer as it should." },
  ROUTER_EXTERNAL_TARGET_CONNECTION_ERROR: { status: 502, sentence: "The origin that this route leads to does not answer." },
  ROUTER_EXTERNAL_TARGET_HANDSHAKE_ERROR: { status: 502, sentence: "The origin that this route leads to has no valid certificate." },
  ROUTER_EXTERNAL_TARGET_TIMEOUT: { status: 504, sentence: "The origin that this route leads to did not answer in time." },
  DNS_HOSTNAME_NOT_FOUND: { status: 502, sentence: "There is no host of the name that this route leads to." },
  DNS_HOSTNAME_RESOLVE_FAILED: { status: 502, sentence: "The address of the host that this route leads to could not be found out." },
  DNS_HOSTNAME_RESOLVED_PRIVATE: { status: 404, sentence: "This route leads to a private address." },
  INTERNAL_OPTIMIZED_IMAGE_REQUEST_FAILED: {
    status: 502,
    sentence: "The picture could not be fetched from this deployment, or not be made.",
  },
  OPTIMIZED_EXTERNAL_IMAGE_REQUEST_FAILED: { status: 502, sentence: "The picture's host did not give it." },
  OPTIMIZED_EXTERNAL_IMAGE_REQUEST_INVALID: { status: 502, sentence: "What the picture's host gave is no picture." },
  OPTIMIZED_EXTERNAL_IMAGE_REQUEST_UNAUTHORIZED: { status: 502, sentence: "The picture's host gives it to nobody without leave." },
  OPTIMIZED_EXTERNAL_IMAGE_TOO_MANY_REDIRECTS: { status: 502, sentence: "The picture's host leads from one address to another." },
  IMAGE_OPTIMIZER_BUSY: { status: 503, sentence: "Too many pictures are being made. Try again soon." },
  FUNCTION_UNAVAILABLE: { status: 503, sentence: "The Function cannot be started now. Try again soon." },
  REGION_UNAVAILABLE: { status: 503, sentence: "The region of the Function does not answer as it should. Try again soon." },
  CONTROL_PLANE_UNAVAILABLE: { status: 503, sentence: "The API does not answer now. Deployed sites are not affected." },
  SHUTTING_DOWN: { status: 503, sentence: "The server is shutting down." },
  FUNCTION_INVOCATION_TIMEOUT: { status: 504, sentence: "The Function did not answer in time." },
  INFINITE_LOOP_DETECTED: { status: 508, sentence: "The routes of this deployment lead in a circle." },
  INTERNAL_ERROR: { status: 500, sentence: "Something went wrong inside Mayfly." },

  // API
  bad_request: { status: 400, sentence: "The request is not valid." },
  invalid_json: { status: 400, sentence: "The body is not valid JSON." },
  invalid_name: { status: 400, sentence: "The project name is not valid." },
  invalid_path: { status: 400, sentence: "A file's path is not allowed." },
  invalid_file: { status: 400, sentence: "A file of the request is not valid." },
  missing_files: { status: 400, sentence: "Missing files" },
  no_files: { status: 400, sentence: "There are no files to deploy." },
  too_many_files: { status: 400, sentence: "There are too many files." },
  digest_mismatch: { status: 400, sentence: "The file's bytes do not have the digest that was announced." },
  size_mismatch: { status: 400, sentence: "The file does not have the size that was announced." },
  invalid_env: { status: 400, sentence: "An environment variable is not valid." },
  ENV_CONFLICT: { status: 400, sentence: "There is a variable of that name already." },
  invalid_host: { status: 400, sentence: "That is not a host name that can be used." },
  unauthorized: { status: 401, sentence: "A token is needed for this." },
  forbidden: { status: 403, sentence: "The token is not valid, or not for this." },
  not_found: { status: 404, sentence: "Not found" },
  conflict: { status: 409, sentence: "That is not possible in the present state." },
  alias_in_use: { status: 409, sentence: "The host is in use." },
  domain_taken: { status: 409, sentence: "The domain belongs to another team." },
  payload_too_large: { status: 413, sentence: "The body is larger than allowed." },
  rate_limited: { status: 429, sentence: "Too many calls. Try again soon." },
  queue_full: { status: 503, sentence: "Too many deployments wait to be built. Try again later." },
  disk_full: { status: 507, sentence: "The server's disk is full." },
  invalid_signature: { status: 401, sentence: "The webhook is not signed with this connection's secret, or was sent before." },
  git_host_refused: { status: 400, sentence: "The Git host refuses what was asked of it." },
  git_host_unavailable: { status: 503, sentence: "The Git host does not answer now. It is asked again." },
  git_refused: { status: 400, sentence: "The repository or the commit cannot be deployed." },
  internal_error: { status: 500, sentence: "Something went wrong inside Mayfly." },
  server_closing: { status: 503, sentence: "The server is shutting down." },

  // deployments that end in ERROR (Deployment.errorCode)
  BUILD_FAILED: { status: 400, sentence: "The build failed. Its log has the reason." },
  BUILD_SKIPPED: { status: 400, sentence: "The project's ignored build step says that there is nothing to build." },
  BUILD_TIMEOUT: { status: 400, sentence: "The build took longer than it may." },
  BUILD_PLAN_TIMEOUT: { status: 400, sentence: "Finding out what there is to build took longer than it may." },
  BUILD_OUT_OF_MEMORY: { status: 400, sentence: "The build needed more memory than it may have." },
  BUILD_OUT_OF_DISK: { status: 400, sentence: "The build needed more disk than it may have." },
  BUILD_INTERRUPTED: { status: 400, sentence: "The platform ended during the build, too often to begin it again." },
  BUILD_OUTPUT_INVALID: { status: 400, sentence: "The build's output is not valid." },
  BUILD_OUTPUT_UNSUPPORTED: { status: 400, sentence: "The build's output needs something that is not supported yet." },
  BUILDER_NOT_FOUND: { status: 400, sentence: "There is no builder for this project." },
  FUNCTION_TOO_LARGE: { status: 400, sentence: "A Function's bundle is larger than allowed." },
  INSTALL_FAILED: { status: 400, sentence: "The dependencies could not be installed." },
  INVALID_VERCEL_JSON: { status: 400, sentence: "vercel.json is not valid." },

  // the CLI's own
  usage: { status: 400, sentence: "The command was not understood." },
  server_unreachable: { status: 503, sentence: "No Mayfly server answers." },
  empty_directory: { status: 400, sentence: "There is nothing to deploy in this directory." },
  unreadable_file: { status: 400, sentence: "A file cannot be read." },
  file_changed: { status: 409, sentence: "A file changed while it was uploaded." },
  not_a_directory: { status: 400, sentence: "That is not a directory." },
  deployment_failed: { status: 400, sentence: "The deployment failed." },
  canceled: { status: 499, sentence: "Canceled." },
  timeout: { status: 504, sentence: "That took too long." },

  backup_invalid: { status: 400, sentence: "The backup cannot be used." },

  // start-up
  config_invalid: { status: 500, sentence: "The configuration is not valid." },
  port_in_use: { status: 500, sentence: "The port is in use." },
  sandbox_unavailable: { status: 500, sentence: "The sandbox asked for does not work on this machine." },
  data_directory_unusable: { status: 500, sentence: "The data directory cannot be used." },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof rows;

export const errorTable: Readonly<Record<ErrorCode, ErrorRow>> = rows;

/** Whether `code` is in the table. */
export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(rows, code);
}

/** An error with a code from the table. `message` names the action and the values; without one it is the table's sentence. */
export class MayflyError extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  /** More fields for the API's `{"error":{…}}`. */
  readonly details: Readonly<Record<string, unknown>>;

  /** @param options.status in the place of the table's */
  constructor(code: ErrorCode, message?: string, options: { cause?: unknown; details?: Record<string, unknown>; status?: number } = {}) {
    super(message ?? rows[code].sentence, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "MayflyError";
    this.code = code;
    this.status = options.status ?? rows[code].status;
    this.details = options.details ?? {};
  }
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** `ENOENT` and its like, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}
