/** What of a response's headers HTTP/2 sends (RFC 9113 §8.2). Pure. */

/** They belong to a connection (§8.2.2), or to the handshake of HTTP/1.1; the length is the engine's to say. */
const unsent = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
  "sec-websocket-accept",
  "content-length",
]);

/** Node breaks off when it is given two of these; the first one counts. */
const singles = new Set([
  "age",
  "content-encoding",
  "content-language",
  "content-location",
  "content-range",
  "content-type",
  "date",
  "etag",
  "expires",
  "last-modified",
  "location",
  "retry-after",
  "server",
]);

/** @param headers flat, names lower-case. @returns the same, without the length */
export function http2Headers(headers: readonly string[]): string[] {
  const sent: string[] = [];
  for (let index = 0; index + 1 < headers.length; index += 2) {
    const name = headers[index]!;
    if (unsent.has(name) || (singles.has(name) && isIn(sent, name))) continue;
    sent.push(name, headers[index + 1]!);
  }
  return sent;
}

function isIn(headers: readonly string[], name: string): boolean {
  for (let index = 0; index < headers.length; index += 2) if (headers[index] === name) return true;
  return false;
}
