/**
 * A build's output as log lines: cut at line ends and at the longest length, secrets masked, and no more bytes in all than
 * a build may log. What the platform knows of (values of `--env` and `--build-env`) is masked as it is, in base64 (also as a
 * part of what was encoded), in hexadecimal, URL-encoded and in JSON; this guards against accidents, not against a build that wants to tell.
 */
import type { Readable } from "node:stream";
import { StringDecoder } from "node:string_decoder";

/** Shorter values are words that logs are full of. */
const secretCharsMin = 6;
/** Beyond it a build's output is read and thrown away. */
const logBytesMax = 32 * 1024 * 1024;
/** A line without end is given out in pieces of this many characters. */
const pendingCharsMax = 65_536;
const mask = "••••••";
/** At least so many are remembered for {@link LogLines.last}. */
const lastLines = 100;

export class LogLines {
  readonly #log: (line: string, stream: "stdout" | "stderr" | "system") => void;
  readonly #lineBytesMax: number;
  readonly #secrets: RegExp | null;
  readonly #overlap: number;
  readonly #last: string[] = [];
  #bytes = 0;

  constructor(options: {
    readonly log: (line: string, stream: "stdout" | "stderr" | "system") => void;
    readonly lineBytesMax: number;
    readonly secrets: readonly string[];
  }) {
    this.#log = options.log;
    this.#lineBytesMax = options.lineBytesMax;
    const forms = secretForms(options.secrets);
    this.#secrets = forms.length === 0 ? null : new RegExp(forms.map(RegExp.escape).join("|"), "g");
    this.#overlap = forms.reduce((longest, form) => Math.max(longest, form.length), 1);
  }

  /** The newest lines. */
  get last(): readonly string[] {
    return this.#last;
  }

  /** Text with known secrets masked. */
  mask(text: string): string {
    return this.#secrets === null ? text : text.replaceAll(this.#secrets, mask);
  }

  /** What the platform itself says. */
  system(text: string): void {
    for (const line of text.split("\n")) this.#emit(line, "system");
  }

  /** Takes all that the stream gives; resolves when it has ended. */
  async follow(stream: Readable, name: "stdout" | "stderr"): Promise<void> {
    const decoder = new StringDecoder("utf8");
    let pending = "";
    const take = (text: string): void => {
      if (this.#bytes > logBytesMax) return;
      pending += text;
      const lines = pending.split("\n");
      pending = lines.pop()!;
      for (const line of lines) this.#emit(line, name);
      if (pending.length > pendingCharsMax) {
        // What is kept back may be the start of a secret.
        const masked = this.mask(pending);
        const keep = Math.min(this.#overlap, masked.length);
        this.#emit(masked.slice(0, masked.length - keep), name);
        pending = masked.slice(masked.length - keep);
      }
    };
    stream.on("data", (chunk: Buffer) => take(decoder.write(chunk)));
    const { promise, resolve } = Promise.withResolvers<void>();
    stream.once("close", resolve);
    stream.once("error", () => resolve());
    stream.once("end", resolve);
    await promise;
    take(decoder.end());
    if (pending !== "") this.#emit(pending, name);
  }

  #emit(line: string, stream: "stdout" | "stderr" | "system"): void {
    if (this.#bytes > logBytesMax) return;
    // A carriage return starts the line anew: progress bars would otherwise pile up.
    const text = this.mask(line.replace(/\r$/, ""));
    const last = text.slice(text.lastIndexOf("\r") + 1);
    if (this.#last.push(last) > 2 * lastLines) this.#last.splice(0, lastLines);
    for (const piece of cut(last, this.#lineBytesMax)) {
      this.#bytes += Buffer.byteLength(piece) + 1;
      this.#log(piece, stream);
      if (this.#bytes > logBytesMax) {
        this.#log(`The build wrote more than ${logBytesMax / 1024 / 1024} MB; the rest of its output is dropped.`, "system");
        return;
      }
    }
  }
}

/** Every form of each secret, longest first so that a part never masks before the whole. */
function secretForms(secrets: readonly string[]): string[] {
  const forms = new Set<string>();
  for (const secret of secrets) {
    if (secret.length < secretCharsMin) continue;
    const bytes = Buffer.from(secret);
    const json = JSON.stringify(secret).slice(1, -1);
    const parts = [
      secret,
      ...secret.split("\n"),
      json,
      asciiOf(json),
      JSON.stringify(json).slice(1, -1),
      bytes.toString("hex"),
      ...base64Forms(bytes),
    ];
    if (secret.isWellFormed()) {
      const encoded = [encodeURIComponent(secret), new URLSearchParams([["", secret]]).toString().slice(1)];
      parts.push(...encoded, ...encoded.map((form) => form.replaceAll(/%../g, (escape) => escape.toLowerCase())));
    }
    for (const part of parts) if (part.trim().length >= secretCharsMin) forms.add(part.trim());
  }
  return [...forms].sort((a, b) => b.length - a.length);
}

/** JSON as writers that keep to ASCII have it: `\u00e9`. */
function asciiOf(json: string): string {
  return json.replaceAll(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Alone, and what of it is in any text of which it is a part (`user:password`): which characters depends on what is before. */
function base64Forms(bytes: Buffer): string[] {
  const whole = bytes.toString("base64");
  // The command of that name breaks lines.
  const forms = [whole, whole.replace(/=+$/, ""), ...(whole.match(/.{1,76}/g) ?? [])];
  for (const before of [0, 1, 2]) {
    const text = Buffer.concat([Buffer.alloc(before), bytes])
      .toString("base64")
      .replace(/=+$/, "");
    // Characters that have bits of a neighbour say little of the secret.
    const isShared = (before + bytes.length) % 3 !== 0;
    forms.push(text.slice(Math.ceil((before * 4) / 3), isShared ? -1 : undefined));
  }
  return forms.flatMap((form) => [form, form.replaceAll("+", "-").replaceAll("/", "_")]);
}

/** Pieces of at most `bytesMax` bytes of UTF-8, at character ends; one empty piece for an empty line. */
function cut(text: string, bytesMax: number): string[] {
  if (text.length * 3 <= bytesMax || Buffer.byteLength(text) <= bytesMax) return [text];
  const pieces: string[] = [];
  let piece = "";
  let bytes = 0;
  for (const character of text) {
    const size = Buffer.byteLength(character);
    if (bytes + size > bytesMax) {
      pieces.push(piece);
      piece = "";
      bytes = 0;
    }
    piece += character;
    bytes += size;
  }
  pieces.push(piece);
  return pieces;
}
