/**
 * The pages that Mayfly itself shows people: one shell, dark and light, readable on a phone and without anything from
 * elsewhere. Invariant: no text gets into a page but through {@link escapeHtml}, and no page may run a script.
 */
import { createHash } from "node:crypto";

const entities: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

export function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (char) => entities[char]!);
}

export interface Page {
  /** Plain text. */
  readonly title: string;
  /** HTML of the page's `<main>`. */
  readonly main: string;
  /** `notice`: a few words in the middle; `wide`: as much as there is. */
  readonly shape: "notice" | "wide";
}

export function renderPage({ title, main, shape }: Page): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body class="${shape}">
<main>
${main}
</main>
</body>
</html>
`;
}

const style = `
:root{color-scheme:light dark;--back:#fafaf9;--text:#1c1b1a;--quiet:#5f5c58;--line:#dedbd6;--mark:#9a3412;--panel:#f1efec}
@media(prefers-color-scheme:dark){:root{--back:#141312;--text:#edebe8;--quiet:#a8a49e;--line:#35322f;--mark:#fdba74;--panel:#1e1c1a}}
*{box-sizing:border-box;margin:0}
body{min-height:100vh;min-height:100dvh;padding:2rem 1.5rem;background:var(--back);color:var(--text);font:1rem/1.6 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.notice{display:grid;place-items:center}
main{width:100%;max-width:34rem}
.wide main{max-width:64rem;margin:0 auto}
.status{font:600 1rem/1 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;color:var(--mark);letter-spacing:.04em}
h1{margin:.75rem 0 0;font-size:clamp(1.5rem,5vw,2rem);line-height:1.25;font-weight:650;letter-spacing:-.015em;text-wrap:balance;overflow-wrap:anywhere}
.hint{margin-top:.9rem;color:var(--quiet)}
dl{margin-top:2rem;padding-top:1.25rem;border-top:1px solid var(--line);font-size:.875rem}
dl div{display:flex;gap:1rem;padding:.2rem 0}
dt{flex:none;width:5rem;color:var(--quiet)}
dd{min-width:0;overflow-wrap:anywhere}
@media(max-width:26rem){dl div{display:block;padding:.35rem 0}}
code,pre,.files{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
dd code{font-size:inherit;user-select:all}
a{color:inherit;text-decoration-color:var(--mark);text-underline-offset:.2em}
a:hover{color:var(--mark)}
:focus-visible{outline:2px solid var(--mark);outline-offset:2px}
.files{margin-top:1.5rem;padding:0;list-style:none;border-top:1px solid var(--line);font-size:.9rem}
.files li{border-bottom:1px solid var(--line)}
.files a{display:flex;gap:1rem;margin:0 -.5rem;padding:.5rem;text-decoration:none;border-radius:.25rem}
.files a:hover{background:var(--panel);text-decoration:none}
.files a:hover .name{text-decoration:underline}
nav{margin-top:.9rem;color:var(--quiet)}
.files .name{flex:1;min-width:0;overflow-wrap:anywhere}
.files .size{color:var(--quiet);white-space:nowrap}
.lambda{color:var(--mark);font-weight:600}
pre{margin-top:1.5rem;padding:1rem;overflow-x:auto;background:var(--panel);border:1px solid var(--line);border-radius:.5rem;font-size:.8125rem;line-height:1.55;tab-size:2}
pre.log{white-space:pre-wrap;overflow-wrap:anywhere}
.time{color:var(--quiet)}
.error{color:var(--mark);font-weight:600}
form{margin-top:1.5rem;display:grid;gap:.5rem}
input,button{font:inherit;padding:.6rem .8rem;border:1px solid var(--line);border-radius:.4rem;background:var(--panel);color:inherit;width:100%}
input{border-color:var(--quiet)}
button{background:var(--text);color:var(--back);border-color:var(--text);font-weight:600;cursor:pointer;margin-top:.5rem}
button:hover{background:var(--mark);border-color:var(--mark)}
`;

/** No script, nothing from elsewhere, no frame; forms go where they came from. */
export const contentSecurityPolicy = [
  "default-src 'none'",
  `style-src 'sha256-${createHash("sha256").update(style).digest("base64")}'`,
  "form-action 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
].join("; ");

/** Flat; for pages that show what only some people may see. */
export const privatePageHeaders: readonly string[] = [
  "content-type",
  "text/html; charset=utf-8",
  "cache-control",
  "private, no-store",
  "content-security-policy",
  contentSecurityPolicy,
  "x-content-type-options",
  "nosniff",
  "referrer-policy",
  "no-referrer",
];
