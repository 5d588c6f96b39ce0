/**
 * What a person or a program reads when Mayfly itself answers with an error: HTML, JSON or text, by `Accept`. Every form
 * has the code and the request id. The page needs nothing from anywhere and holds nothing unescaped.
 */
import { STATUS_CODES } from "node:http";
import { errorTable, isErrorCode, type ErrorCode } from "../errors.ts";
import { escapeHtml, renderPage } from "./html.ts";

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
  FUNCTION_THROTTLED: "Wait a few seconds, then load the page again.",
  FUNCTION_UNAVAILABLE: "Wait a few seconds, then load the page again.",
  MIDDLEWARE_INVOCATION_FAILED: "If this is your deployment, “mayfly logs” has what the middleware wrote; search it for the id below.",
  MIDDLEWARE_INVOCATION_TIMEOUT: "If this is your deployment, “mayfly logs” has what the middleware wrote; search it for the id below.",
  ROUTE_TIMEOUT: "If this is your deployment, look for a regular expression that nests repetitions, like (a+)+.",
  INFINITE_LOOP_DETECTED: "If this is your deployment, look for a rewrite that leads back to itself.",
  ROUTER_EXTERNAL_TARGET_CONNECTION_ERROR: "If this is your deployment, check that the server in “destination” is running and reachable.",
  DNS_HOSTNAME_RESOLVED_PRIVATE: "Whoever runs this Mayfly can open private networks with MAYFLY_ORIGIN_ALLOW.",
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

function html({ status, code, id }: ErrorPageContent, sentence: string): string {
  const hint = isErrorCode(code) ? hints[code] : undefined;
  const main = `<p class="status">${status}</p>
<h1>${escapeHtml(sentence)}</h1>
${hint === undefined ? "" : `<p class="hint">${escapeHtml(hint)}</p>\n`}<dl>
<div><dt>Code</dt><dd><code>${escapeHtml(code)}</code></dd></div>
<div><dt>Request</dt><dd><code>${escapeHtml(id)}</code></dd></div>
</dl>`;
  return renderPage({ title: `${status}: ${sentence.replace(/\.$/, "")}`, main, shape: "notice" });
}
