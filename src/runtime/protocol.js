/**
 * The guest protocol: what platform and runtime say to each other. Shared by both sides, so checked JavaScript.
 *
 * Descriptor 3 (control): one JSON object a line, UTF-8. A line of the guest is at most `controlLineBytesMax` bytes.
 *
 *   guest → host   {type:"ready"}                                once, when the generic runtime is up and warm
 *   host  → guest  {type:"load", root, handler, …}               once: become this Function
 *   guest → host   {type:"loaded", ms, pack?} | {type:"load-failed", message}
 *   guest → host   {type:"idle"}                                 after an upgrade: it is over and every waitUntil promise settled
 *   host  → guest  {type:"retire"}                               once, without work: emit SIGTERM, end by yourself
 *
 * Descriptor 4 (requests): HTTP/1.1, the host is the client, one request at a time on one connection that stays open.
 * After each answer the runtime writes `idleByte`: every waitUntil promise has settled, the next request may come. Mostly it
 * leaves in one piece with the answer's end. An answer that only the connection's end ends has none.
 * There is no message for a client that has gone: its request is answered all the same, to nobody. A request with
 * `Upgrade` whose answer is 101 makes the connection a pipe between client and Function; when it closes, the runtime says
 * idle and is of no further use.
 *
 * Standard output and error are pipes that the host cuts into lines. Everything from the guest is hostile input:
 * the host checks types, bounds lengths, and takes an unknown or malformed message as the end of the instance.
 */

/** Longest control line of the guest, in bytes without the newline. */
export const controlLineBytesMax = 65_536;

/** Longest message of a `load-failed`, in UTF-16 units; the runtime cuts it. */
export const loadFailureLengthMax = 2000;

/** Follows an answer when nothing of its invocation is pending. No answer begins with it. */
export const idleByte = 0;

/**
 * Of a response: tags that the edge is to forget, as `delete=a,b;invalidate=c` with each of them URL-encoded. The runtime
 * sets it, the gateway obeys it and takes it away.
 */
export const purgeHeader = "x-mayfly-purge";

/** Of a request: which tags of its deployment were revalidated, and until when; purged-tags.js reads it. */
export const purgedHeader = "x-mayfly-purged";

/** Of a request: what it is answered will be given to others. */
export const prerenderHeader = "x-mayfly-prerender";

/**
 * First header of a request with which the platform itself asks, once the Function has no work, for what V8 has compiled of the
 * module pack by now (module-pack.js), at most as many bytes as the path says. 200 with them, or 204. No invocation can have it.
 */
export const recordHeader = "x-mayfly-record";

/** Guest path of a Function's bundle. */
export const taskDirectory = "/var/task";

/** Guest path of what an earlier instance of the Function has recorded. */
export const recordDirectory = "/var/cache";

/** Guest path of this directory. */
export const runtimeDirectory = "/var/runtime";

/**
 * What a generic runtime needs to become one Function.
 * @typedef {object} LoadMessage
 * @property {"load"} type
 * @property {string} root Directory of the bundle as the guest sees it.
 * @property {string} handler File below root; with awsHandler the file of the handler.
 * @property {boolean} helpers Add req.query, res.json and so on.
 * @property {string} awsHandler Name of an AWS Lambda handler export (`index.handler`), or "".
 * @property {"function" | "middleware"} [web] The default export takes a Request and returns a Response; of a middleware it may return nothing.
 * @property {{ assets: Record<string, string> }} [edge] It runs in the Edge runtime's scope; asset's name → file below root.
 * @property {string} [record] Directory of what an earlier instance has recorded, as the guest sees it.
 * @property {Record<string, string>} env Environment of the Function.
 *
 * How a module pack was used, if there is one: with its own code cache, with the record's, or V8 rejected the latter.
 * @typedef {"plain" | "recorded" | "rejected"} PackUse
 *
 * @typedef {LoadMessage | {type: "retire"}} HostMessage
 *
 * @typedef {{type: "ready"} | {type: "loaded", ms: number, pack?: PackUse} | {type: "load-failed", message: string} | {type: "idle"}} GuestMessage
 */
