/** What a Git host's refusal means for whoever repeats: not at all, or not before a time. Both drivers answer through it. */
import { MayflyError } from "../errors.ts";

export interface HostFailure {
  /** HTTP status; null: there was no answer. */
  readonly status: number | null;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly message: string;
  /** ms since 1970. */
  readonly now: number;
}

/**
 * git_host_refused: asking again would not help. git_host_unavailable: it may be asked again, after `details.retryAfterMs`
 * when the host has named a time (`Retry-After`, or a rate limit that is used up and the time of its renewal).
 */
export function hostError(name: string, failure: HostFailure): MayflyError {
  const { status, headers, message, now } = failure;
  const retryAfterMs = namedPause(headers, now);
  const limited = status === 429 || (status === 403 && (retryAfterMs !== null || /rate limit|abuse/i.test(message)));
  const passing = status === null || status >= 500 || status === 408 || limited;
  const what = status === null ? `${name} does not answer: ${message}` : `${name} answers with ${status}: ${message}`;
  if (!passing) return new MayflyError("git_host_refused", what, { details: { hostStatus: status } });
  return new MayflyError("git_host_unavailable", what, { details: { hostStatus: status, retryAfterMs } });
}

/** Header names differ: `retry-after` (seconds or a date); `x-ratelimit-…` of GitHub, `ratelimit-…` of GitLab. */
function namedPause(headers: HostFailure["headers"], now: number): number | null {
  const after = headers["retry-after"];
  if (after !== undefined && after !== "") {
    const seconds = Number(after);
    const ms = Number.isNaN(seconds) ? Date.parse(after) - now : seconds * 1000;
    if (Number.isFinite(ms)) return Math.max(ms, 0);
  }
  const remaining = headers["x-ratelimit-remaining"] ?? headers["ratelimit-remaining"];
  const reset = Number(headers["x-ratelimit-reset"] ?? headers["ratelimit-reset"]);
  return remaining === "0" && Number.isFinite(reset) ? Math.max(reset * 1000 - now, 0) : null;
}
