/** What the bench prints: one line a figure, beside what it must beat, as a Markdown table. */

export interface Figure {
  readonly what: string;
  readonly unit: "µs" | "ms" | "KB" | "MB" | "/s";
  readonly mayfly: number;
  /** Measured in the same run; null where there is nothing to compare with. */
  readonly other: { readonly name: string; readonly value: number } | null;
  readonly rounds: number;
}

export function tableOf(figures: readonly Figure[]): string {
  const rows = figures.map(({ what, unit, mayfly, other, rounds }) => {
    const against = other === null ? "–" : `${format(other.value)} ${unit} (${other.name})`;
    const ratio = other === null ? "–" : (mayfly / other.value).toFixed(2);
    return `| ${what} | ${format(mayfly)} ${unit} | ${against} | ${ratio} | ${rounds} |`;
  });
  return ["| what | Mayfly | against | ratio | rounds |", "|---|---|---|---|---|", ...rows].join("\n");
}

function format(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
