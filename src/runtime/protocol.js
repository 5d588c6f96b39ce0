/**
 * The guest protocol: what platform and runtime say to each other. Shared by both sides, so checked JavaScript.
 *
 * Descriptor 3 (control): one JSON object a line, UTF-8, at most `controlLineBytesMax` bytes.
 *
 *   guest → host   {type:"ready"}                                once, when the generic runtime is up and warm
 *   host  → guest  {type:"load", root, handler, …}               once: become this Function
 *   guest → host   {type:"loaded", ms} | {type:"load-failed", message}
 *   guest → host   {type:"idle", invocation}                     response sent and every waitUntil promise settled
 *   host  → guest  {type:"abort", invocation}                    the client has gone
 *
 * Descriptor 4 (requests): HTTP/1.1, the host is the client, one request at a time on one connection that stays open.
 * Each request carries `invocationHeader`, which the runtime takes away before the handler sees the request.
 *
 * Standard output and error are pipes that the host cuts into lines. Everything from the guest is hostile input:
 * the host checks types, bounds lengths, and takes an unknown or malformed message as the end of the instance.
 */

/** Longest control line, in bytes. */
export const controlLineBytesMax = 65_536;

/** Carries the invocation's id to the runtime. */
export const invocationHeader = "x-mayfly-invocation";

/** Guest path of a Function's bundle; the platform's runtime lies at `/var/runtime`. */
export const taskDirectory = "/var/task";

/**
 * What a generic runtime needs to become one Function.
 * @typedef {object} LoadMessage
 * @property {"load"} type
 * @property {string} root Directory of the bundle as the guest sees it.
 * @property {string} handler File below root; with awsHandler the file of the handler.
 * @property {boolean} helpers Add req.query, res.json and so on.
 * @property {string} awsHandler Name of an AWS Lambda handler export, or "".
 * @property {Record<string, string>} env Environment of the Function.
 *
 * @typedef {{type: "abort", invocation: string}} AbortMessage
 * @typedef {LoadMessage | AbortMessage} HostMessage
 *
 * @typedef {{type: "ready"} | {type: "loaded", ms: number} | {type: "load-failed", message: string} | {type: "idle", invocation: string}} GuestMessage
 */
