/**
 * What the CLI shows: results on stdout, all else on stderr. Hides colours (a terminal, unless NO_COLOR), the one live
 * line of a terminal, and escape sequences in text that others wrote, which never reach a terminal.
 */
import { stripVTControlCharacters } from "node:util";

/** A sink for text, as stdout and stderr are. */
export interface TextStream {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

export interface TerminalOptions {
  readonly stdout: TextStream;
  readonly stderr: TextStream;
  /** NO_COLOR, when set and not empty, means no colours: https://no-color.org */
  readonly env: Readonly<Record<string, string | undefined>>;
}

export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";

const codes: Readonly<Record<Style, readonly [number, number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
};

/** A live line is drawn at most so often, in ms. */
const drawEveryMs = 60;

export class Terminal {
  readonly #stdout: TextStream;
  readonly #stderr: TextStream;
  readonly #colourOut: boolean;
  readonly #colourErr: boolean;
  #live = "";
  #drawnAtMs = 0;

  constructor(options: TerminalOptions) {
    this.#stdout = options.stdout;
    this.#stderr = options.stderr;
    const allowed = (options.env["NO_COLOR"] ?? "") === "" && options.env["TERM"] !== "dumb";
    this.#colourOut = allowed && options.stdout.isTTY === true;
    this.#colourErr = allowed && options.stderr.isTTY === true;
  }

  /** Whether a person watches: stderr is a terminal. */
  get isLive(): boolean {
    return this.#stderr.isTTY === true;
  }

  /** Characters in a line of stdout; a pipe has no end. */
  get columns(): number {
    return this.#stdout.isTTY === true ? (this.#stdout.columns ?? 80) : Number.POSITIVE_INFINITY;
  }

  /** A line of the result, on stdout. */
  out(line: string): void {
    this.#erase();
    this.#stdout.write(`${printable(line, this.#colourOut)}\n`);
    this.#redraw();
  }

  /** A JSON value as one line on stdout; what would be a control character is escaped. */
  json(value: unknown): void {
    const escaped = (char: string): string => `\\u00${char.charCodeAt(0).toString(16)}`;
    this.out(JSON.stringify(value).replaceAll(/[\u007f-\u009f]/g, escaped));
  }

  /** A line for people, on stderr. */
  note(line: string): void {
    this.#erase();
    this.#stderr.write(`${printable(line, this.#colourErr)}\n`);
    this.#redraw();
  }

  /** Shows a line that the next one replaces; only on a terminal, nowhere else. */
  live(line: string): void {
    if (!this.isLive) return;
    const nowMs = performance.now();
    if (this.#live !== "" && nowMs - this.#drawnAtMs < drawEveryMs) return;
    this.#erase();
    this.#live = printable(line, false).slice(0, (this.#stderr.columns ?? 80) - 1);
    this.#drawnAtMs = nowMs;
    this.#redraw();
  }

  /** Removes the live line. */
  settle(): void {
    this.#erase();
    this.#live = "";
  }

  /** Styles text for stdout. */
  paint(style: Style, text: string): string {
    return this.#colourOut ? painted(style, text) : text;
  }

  /** Styles text for stderr. */
  paintNote(style: Style, text: string): string {
    return this.#colourErr ? painted(style, text) : text;
  }

  /**
   * Text that others wrote, as a part of a line for stdout: its colours stay where colours are shown, and end with it. What
   * is no colour no line has, whoever wrote it.
   */
  foreign(text: string): string {
    return printable(text, this.#colourOut);
  }

  /** {@link foreign} for stderr. */
  foreignNote(text: string): string {
    return printable(text, this.#colourErr);
  }

  #erase(): void {
    if (this.#live !== "") this.#stderr.write("\r\u001b[K");
  }

  #redraw(): void {
    if (this.#live !== "") this.#stderr.write(this.#live);
  }
}

function painted(style: Style, text: string): string {
  const [on, off] = codes[style];
  return `\u001b[${on}m${text}\u001b[${off}m`;
}

// oxlint-disable no-control-regex -- control characters are what this is about

/** Removes control characters and escape sequences; with `colours`, sequences that only colour stay. */
export function printable(text: string, colours: boolean): string {
  const clean = (part: string): string => stripVTControlCharacters(part).replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "");
  if (!colours) return clean(text);
  const parts = text.split(/(\u001b\[[\d;:]*m)/);
  if (parts.length === 1) return clean(text);
  return `${parts.map((part, index) => (index % 2 === 1 ? part : clean(part))).join("")}\u001b[0m`;
}

// oxlint-enable no-control-regex

/** `0 B`, `999 B`, `1.2 kB`, `34 MB`: decimal units, two digits where they matter. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = "B";
  for (const next of ["kB", "MB", "GB", "TB"]) {
    if (value < 999.5) break;
    value /= 1000;
    unit = next;
  }
  return `${unit === "B" || value >= 9.95 ? Math.round(value) : value.toFixed(1)} ${unit}`;
}

/** `12 ms`, `1.2 s`, `48 s`, `2 min 5 s`, `3 h 4 min`, `2 d 3 h`. */
export function formatDuration(ms: number): string {
  if (ms < 995) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.round(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** `1,234,567`. Without Node's own tables of the world's languages, whose loading takes longer than most commands. */
export function grouped(count: number): string {
  return String(count).replaceAll(/\B(?=(?:\d{3})+$)/g, ",");
}

/** `1 file`, `2 files`. */
export function counted(count: number, noun: string): string {
  return `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** Local time: `2026-11-22 03:56:01.123`. */
export function formatTime(timestampMs: number): string {
  const date = new Date(timestampMs);
  const pad = (value: number, digits = 2): string => String(value).padStart(digits, "0");
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
}

export interface TableOptions {
  /** Columns that are aligned to the right. */
  readonly right?: readonly number[];
  /** Characters in a line; without it, or in a pipe, there is no end. */
  readonly columns?: number;
  /** Columns that may be left out where a line is too narrow, the first to go first. */
  readonly optional?: readonly number[];
}

/** Columns aligned by the widest cell, two spaces apart. */
export function formatTable(rows: readonly (readonly string[])[], options: TableOptions = {}): string[] {
  const { right = [], columns = Number.POSITIVE_INFINITY, optional = [] } = options;
  const width = (cell: string): number => stripVTControlCharacters(cell).length;
  const widths = (rows[0] ?? []).map((_cell, column) => Math.max(...rows.map((row) => width(row[column] ?? ""))));
  const left = new Set<number>();
  const total = (): number => widths.reduce((sum, one, column) => (left.has(column) ? sum : sum + one + 2), -2);
  for (const column of optional) if (total() > columns) left.add(column);
  return rows.map((row) =>
    row
      .flatMap((cell, column) => {
        if (left.has(column)) return [];
        const space = " ".repeat((widths[column] ?? 0) - width(cell));
        return [right.includes(column) ? space + cell : cell + space];
      })
      .join("  ")
      .trimEnd(),
  );
}
