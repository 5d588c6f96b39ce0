/**
 * The head of an answer that is given many times: its headers are checked once, and spelled once for the engine that can
 * use that. What differs from answer to answer (the request's id, the date, the age) is not in it.
 */
import { headerLines, statusLine } from "./http1-response.ts";
import { http2Headers } from "./http2-response.ts";

const noBytes = Buffer.alloc(0);
const beforeId = "server: Mayfly\r\nx-vercel-id: ";

export class PreparedHead {
  readonly status: number;
  /** Flat, names lower-case; without a length. */
  readonly headers: readonly string[];
  #http2: readonly string[] | null = null;
  /** As HTTP/1.1 writes them, `name: value CR LF` each. */
  readonly #lines: string;
  /** Whoever made the answer has dated it. */
  readonly #hasDate: boolean;
  /** The whole head in HTTP/1.1, and of what it was spelled. */
  #spelled = noBytes;
  #idLength = 0;
  #length = -1;
  #ageS: number | null = null;
  #dateLine = "";

  /** @throws TypeError when a header cannot be written, or says how the answer is framed */
  constructor(status: number, headers: readonly string[]) {
    const { lines, contentLength, hasDate, closes } = headerLines(headers);
    if (contentLength !== -1 || closes) throw new TypeError("A prepared head says nothing of length and connection.");
    this.status = status;
    this.headers = headers;
    this.#lines = lines;
    this.#hasDate = hasDate;
  }

  /** The headers that HTTP/2 sends. */
  get http2(): readonly string[] {
    return (this.#http2 ??= http2Headers(this.headers));
  }

  /**
   * In HTTP/1.1, empty line included. Within a second heads differ in nothing but the id.
   * @param ageS null: it has no age
   * @param length of the body, in bytes
   * @param dateLine with its line end
   * @returns bytes that hold until the next call
   */
  spell(id: string, ageS: number | null, length: number, dateLine: string): Buffer {
    if (dateLine !== this.#dateLine || ageS !== this.#ageS || length !== this.#length || id.length !== this.#idLength) {
      this.#dateLine = dateLine;
      this.#ageS = ageS;
      this.#length = length;
      this.#idLength = id.length;
      this.#spellOut(id);
    } else {
      this.#spelled.write(id, this.#idAt, "latin1");
    }
    return this.#spelled;
  }

  get #idAt(): number {
    return statusLine(this.status).length + beforeId.length;
  }

  #spellOut(id: string): void {
    const age = this.#ageS === null ? "" : `age: ${this.#ageS}\r\n`;
    const length = this.status === 304 ? "" : `content-length: ${this.#length}\r\n`;
    const date = this.#hasDate ? "" : this.#dateLine;
    const text = `${statusLine(this.status)}${beforeId}${id}\r\n${this.#lines}${age}${length}${date}\r\n`;
    if (this.#spelled.length !== text.length) this.#spelled = Buffer.allocUnsafeSlow(text.length);
    this.#spelled.write(text, "latin1");
  }
}
