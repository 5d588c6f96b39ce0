/**
 * The head of an answer that is given many times: its headers are checked once, and spelled once for the engine that can
 * use that. What differs from answer to answer (the request's id, the date, the age) is not in it.
 */
import { headerLines } from "./http1-response.ts";

export class PreparedHead {
  readonly status: number;
  /** Flat, names lower-case; without a length. */
  readonly headers: readonly string[];
  /** As HTTP/1.1 writes them, `name: value CR LF` each. */
  readonly lines: string;
  /** Whoever made the answer has dated it. */
  readonly hasDate: boolean;

  /** @throws TypeError when a header cannot be written, or says how the answer is framed */
  constructor(status: number, headers: readonly string[]) {
    const { lines, contentLength, hasDate, closes } = headerLines(headers);
    if (contentLength !== -1 || closes) throw new TypeError("A prepared head says nothing of length and connection.");
    this.status = status;
    this.headers = headers;
    this.lines = lines;
    this.hasDate = hasDate;
  }
}
