/** The three forms of an error, and who gets which. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { codeOfStatus, renderErrorPage } from "./error-page.ts";

const notFound = { status: 404, code: "NOT_FOUND", id: "dev1::0123456789abcdef" };

test("the form follows Accept", () => {
  const form = (accept: string | undefined) => renderErrorPage(notFound, accept).contentType.split(";")[0];
  for (const [accept, expected] of [
    [undefined, "text/plain"],
    ["", "text/plain"],
    ["*/*", "text/plain"],
    ["text/*", "text/plain"],
    ["image/avif,image/webp,*/*;q=0.8", "text/plain"],
    ["text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8", "text/html"],
    ["TEXT/HTML", "text/html"],
    ["application/json", "application/json"],
    ["application/json, text/plain, */*", "application/json"],
    ["application/problem+json", "application/json"],
    ["text/html;q=0.5, application/json", "application/json"],
    ["text/html, application/json", "text/html"],
    ["text/html;q=0, application/json;q=0.1", "application/json"],
    ["text/plain, text/html;q=0.9", "text/plain"],
    ["text/html;q=nonsense", "text/plain"],
    [",;,=;q", "text/plain"],
  ] as const) {
    assert.equal(form(accept), expected, accept);
  }
});

test("every form has code, sentence and id", () => {
  assert.equal(renderErrorPage(notFound, "*/*").body, "The page could not be found\n\nNOT_FOUND\n\ndev1::0123456789abcdef\n");
  assert.deepEqual(JSON.parse(renderErrorPage(notFound, "application/json").body), {
    error: { code: "NOT_FOUND", message: "The page could not be found.", id: "dev1::0123456789abcdef" },
  });
  const page = renderErrorPage(notFound, "text/html").body;
  for (const text of ["404", "The page could not be found.", "NOT_FOUND", "dev1::0123456789abcdef", '<html lang="en">'])
    assert(page.includes(text), text);
  assert.doesNotMatch(page, /src=|href=|url\(|@import|<script/);
});

test("nothing reaches the page unescaped", () => {
  const evil = `</style><script>alert("1")</script>&'`;
  const page = renderErrorPage({ status: 500, code: evil, message: evil, id: evil }, "text/html").body;
  assert(!page.includes("<script"));
  assert(page.includes("&lt;/style&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;"));
});

test("a status of a deployment's own has a code of the same name", () => {
  assert.deepEqual([403, 404, 410, 500, 508, 599].map(codeOfStatus), [
    "FORBIDDEN",
    "NOT_FOUND",
    "GONE",
    "INTERNAL_SERVER_ERROR",
    "INFINITE_LOOP_DETECTED",
    "UNKNOWN_STATUS",
  ]);
});
