/** What a gateway has done since it started, as plain numbers that only grow: for /metrics. */

const kinds = ["broken", "1xx", "2xx", "3xx", "4xx", "5xx"];

export class GatewayFigures {
  /** By status: `2xx` …; `broken`: no head was sent. */
  readonly requests: Record<string, number> = {};
  /** Answers of Functions by start: `cold`, `warm`, `hot`. */
  readonly starts: Record<string, number> = {};
  /** From request to the end of the answer, added up. */
  durationMs = 0;

  count(status: number, start: string | null, durationMs: number): void {
    const kind = kinds[Math.floor(status / 100)] ?? `${Math.floor(status / 100)}xx`;
    this.requests[kind] = (this.requests[kind] ?? 0) + 1;
    if (start !== null) this.starts[start] = (this.starts[start] ?? 0) + 1;
    this.durationMs += durationMs;
  }
}
