/**
 * Functions whose builder brings a handler of its own for Node.js and not one that answers requests: what community
 * runtimes for PHP and others yield. They take a request as an event, `{ Action: "Invoke", body }`, where the body is JSON of
 * method, path, headers and base64, and return status, headers and body. A file in their bundle stands between.
 */

const bridge = "___event-bridge.cjs";
const extensions = ["js", "cjs", "mjs"];

/**
 * @param handler `launcher.launcher`: a file without its extension, and what it exports
 * @param has whether the bundle has a file
 * @returns null when the handler is a file, or none
 */
export function eventBridge(handler: string, has: (path: string) => boolean): { readonly path: string; readonly text: string } | null {
  const dot = handler.lastIndexOf(".");
  if (has(handler) || dot <= 0) return null;
  const file = extensions.map((extension) => `${handler.slice(0, dot)}.${extension}`).find(has);
  return file === undefined ? null : { path: bridge, text: textOf(file, handler.slice(dot + 1)) };
}

const textOf = (file: string, name: string): string => `"use strict";
// Where they look for what their builder has put beside them.
process.env.LAMBDA_TASK_ROOT ??= __dirname;
process.env.LD_LIBRARY_PATH ??= __dirname + ":" + __dirname + "/lib";
const loading = import(${JSON.stringify(`./${file}`)});
loading.catch(() => {});
module.exports = async (request, response) => {
  const loaded = await loading;
  const handler = loaded[${JSON.stringify(name)}] ?? loaded.default?.[${JSON.stringify(name)}];
  if (typeof handler !== "function") throw new TypeError(${JSON.stringify(`"${file}" exports no function "${name}".`)});
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { method, url: path, headers } = request;
  const asked = { method, path, host: headers.host, headers, encoding: "base64", body: Buffer.concat(chunks).toString("base64") };
  const answer = await handler({ Action: "Invoke", body: JSON.stringify(asked) }, {});
  response.statusCode = Number(answer.statusCode ?? 200);
  for (const [key, value] of Object.entries(answer.headers ?? {})) {
    if (!/^(?:connection|transfer-encoding|content-length)$/i.test(key) && value != null) response.setHeader(key, value);
  }
  response.end(Buffer.from(answer.body ?? "", answer.encoding === "base64" || answer.isBase64Encoded ? "base64" : "utf8"));
};
`;
