/**
 * What a person or a program reads when Mayfly itself answers with an error: HTML, JSON or text, by `Accept`. Every form
 * has the code and the request id. The page needs nothing from anywhere and holds nothing unescaped.
 */
import { STATUS_CODES } from "node:http";
import { errorTable, isErrorCode, type ErrorCode } from "../errors.ts";

export interface ErrorPageContent {
  readonly status: number;
  /** From errors.ts, or by {@link codeOfStatus}. */
  readonly code: string;
  /** One sentence; absent: that of the table. */
  readonly message?: string;
  /** `<region>::<request id>` */
  readonly id: string;
}

export interface ErrorPage {
  readonly contentType: string;
  readonly body: string;
}

/** The code of a status that a deployment's own route asked for: 404 → NOT_FOUND, 410 → GONE. */
export function codeOfStatus(status: number): string {
  return codes[status] ?? (STATUS_CODES[status] ?? "UNKNOWN_STATUS").toUpperCase().replaceAll(/[^A-Z]+/g, "_");
}

const codes: Readonly<Record<number, ErrorCode>> = { 404: "NOT_FOUND", 508: "INFINITE_LOOP_DETECTED" };

/** What to do about it, where that is not plain. */
const hints: Partial<Record<ErrorCode, string>> = {
  DEPLOYMENT_NOT_FOUND: "Check the address. “mayfly ls” lists the deployments of a project, and their addresses.",
  NOT_FOUND: "The deployment is there, but it has nothing at this path.",
  DEPLOYMENT_NOT_READY: "“mayfly inspect” shows how far it is, “mayfly logs” what its build says.",
  FUNCTION_INVOCATION_FAILED: "If this is your deployment, “mayfly logs” has what the Function wrote; search it for the id below.",
  FUNCTION_INVOCATION_TIMEOUT: "If this is your deployment, “mayfly logs” has what the Function wrote; search it for the id below.",
  FUNCTION_PAYLOAD_TOO_LARGE: "Larger files should be sent straight to where they are stored.",
};

/** @param accept the request's Accept header */
export function renderErrorPage(content: ErrorPageContent, accept: string | undefined): ErrorPage {
  const sentence = content.message ?? (isErrorCode(content.code) ? errorTable[content.code].sentence : STATUS_CODES[content.status]) ?? "";
  switch (preferredForm(accept ?? "")) {
    case "html":
      return { contentType: "text/html; charset=utf-8", body: html(content, sentence) };
    case "json": {
      const error = { code: content.code, message: sentence, id: content.id };
      return { contentType: "application/json; charset=utf-8", body: `${JSON.stringify({ error })}\n` };
    }
    case "text":
      return { contentType: "text/plain; charset=utf-8", body: `${sentence.replace(/\.$/, "")}\n\n${content.code}\n\n${content.id}\n` };
  }
}

/** HTML and JSON must be asked for by name; a wildcard gets text. The greater weight wins, HTML when they are equal. */
function preferredForm(accept: string): "html" | "json" | "text" {
  const weights = { html: 0, json: 0, text: 0 };
  for (const range of accept.toLowerCase().split(",").slice(0, 50)) {
    const [type = "", ...parameters] = range.split(";").map((part) => part.trim());
    const weight = parameters.find((parameter) => parameter.startsWith("q="));
    const q = weight === undefined ? 1 : Number(weight.slice(2));
    if (!(q > 0)) continue;
    if (type === "text/html" || type === "application/xhtml+xml") weights.html = Math.max(weights.html, q);
    else if (type === "application/json" || /^application\/[\w.-]+\+json$/.test(type)) weights.json = Math.max(weights.json, q);
    else if (type === "text/plain") weights.text = Math.max(weights.text, q);
  }
  if (weights.html > 0 && weights.html >= weights.json && weights.html >= weights.text) return "html";
  if (weights.json > 0 && weights.json >= weights.text) return "json";
  return "text";
}

const entities: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (char) => entities[char]!);
}

function html({ status, code, id }: ErrorPageContent, sentence: string): string {
  const hint = isErrorCode(code) ? hints[code] : undefined;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<title>${status}: ${escapeHtml(sentence.replace(/\.$/, ""))}</title>
<style>${style}</style>
</head>
<body>
<main>
<p class="status">${status}</p>
<h1>${escapeHtml(sentence)}</h1>
${hint === undefined ? "" : `<p class="hint">${escapeHtml(hint)}</p>\n`}<dl>
<div><dt>Code</dt><dd><code>${escapeHtml(code)}</code></dd></div>
<div><dt>Request</dt><dd><code>${escapeHtml(id)}</code></dd></div>
</dl>
</main>
</body>
</html>
`;
}

const style = `
:root{color-scheme:light dark;--back:#fafaf9;--text:#1c1b1a;--quiet:#5f5c58;--line:#dedbd6;--mark:#9a3412}
@media(prefers-color-scheme:dark){:root{--back:#141312;--text:#edebe8;--quiet:#a8a49e;--line:#35322f;--mark:#fdba74}}
*{box-sizing:border-box;margin:0}
body{min-height:100vh;min-height:100dvh;display:grid;place-items:center;padding:2rem 1.5rem;background:var(--back);color:var(--text);font:1rem/1.6 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{width:100%;max-width:34rem}
.status{font:600 1rem/1 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;color:var(--mark);letter-spacing:.04em}
h1{margin:.75rem 0 0;font-size:clamp(1.5rem,5vw,2rem);line-height:1.25;font-weight:650;letter-spacing:-.015em;text-wrap:balance}
.hint{margin-top:.9rem;color:var(--quiet)}
dl{margin-top:2rem;padding-top:1.25rem;border-top:1px solid var(--line);font-size:.875rem}
dl div{display:flex;gap:1rem;padding:.2rem 0}
dt{flex:none;width:5rem;color:var(--quiet)}
dd{min-width:0;overflow-wrap:anywhere}
code{font:inherit;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;user-select:all}
`;
