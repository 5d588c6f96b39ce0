/** The three forms of an error, and who gets which. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { errorTable, MayflyError, type ErrorCode } from "../errors.ts";
import { codeOfStatus, renderErrorPage } from "./error-page.ts";
import { ask, openTestbed, type FakeFunction } from "./testbed.ts";

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

test("every error that a visitor may meet is a page, JSON or text with status, code and id, kept by nobody", async () => {
  const retryAfterS = 7;
  const codes: readonly ErrorCode[] = [
    "FUNCTION_PAYLOAD_TOO_LARGE",
    "FUNCTION_THROTTLED",
    "FUNCTION_INVOCATION_FAILED",
    "NO_RESPONSE_FROM_FUNCTION",
    "FUNCTION_UNAVAILABLE",
    "REGION_UNAVAILABLE",
    "FUNCTION_INVOCATION_TIMEOUT",
    "INFINITE_LOOP_DETECTED",
  ];
  const functions = Object.fromEntries(
    codes.map((code): [string, FakeFunction] => [
      code,
      () => {
        throw new MayflyError(code, undefined, [429, 503].includes(errorTable[code].status) ? { details: { retryAfterS } } : {});
      },
    ]),
  );
  await using bed = await openTestbed({ a: { functions } });
  for (const [path, code] of [...codes.map((one) => [one, one] as const), ["nothing", "NOT_FOUND"] as const]) {
    const { status, sentence } = errorTable[code];
    for (const [accept, type] of [
      ["text/html,*/*;q=0.8", "text/html"],
      ["application/json", "application/json"],
      ["*/*", "text/plain"],
    ] as const) {
      const { status: given, headers, body } = await ask(bed, "a.localhost", `/${path}`, { headers: { accept } });
      assert.deepEqual([given, headers["x-vercel-error"], headers["cache-control"], headers["vary"]], [status, code, "no-store", "accept"]);
      assert.equal(headers["content-type"], `${type}; charset=utf-8`);
      assert.equal(headers["retry-after"], [429, 503].includes(status) && code !== "NOT_FOUND" ? "7" : undefined);
      assert.ok(body.includes(code) && body.includes(String(headers["x-vercel-id"])), `${code} ${type}`);
      assert.ok(body.includes(sentence.replace(/\.$/, "")), `${code} ${type}`);
      if (type === "application/json") assert.equal((JSON.parse(body) as { error: { code: string } }).error.code, code);
    }
  }
});
