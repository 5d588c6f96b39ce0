/**
 * Which headers cross the gateway. Invariant: a name that the platform itself sets (`x-vercel-id`, `x-forwarded-for`,
 * `x-matched-path`, …) never comes from a client or goes out from a Function, so both sides may trust it; and nothing
 * hop-by-hop (RFC 9110 §7.6.1) passes in either direction.
 */

const hopByHop = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  // Dealt with by the gateway: the host it has parsed, and the wait for leave to send a body.
  "host",
  "expect",
  "http2-settings",
]);

/** Opens a deployment's source and build log to a person's browser (inspection.ts): no business of the deployment's code. */
export const viewCookie = "_mayfly_view";

const forwardingNames = new Set(["x-real-ip", "forwarded", "x-vercel-id", "x-vercel-forwarded-for"]);
const platformRequestNames = new Set([
  "x-matched-path",
  "x-invocation-id",
  "x-real-ip",
  "forwarded",
  "x-original-url",
  "x-rewrite-url",
  // With these Next.js takes the request's body for the state of a rendering that it has left itself.
  "next-resume",
  "x-next-resume-state-length",
]);
const platformRequestPrefixes = ["x-vercel-", "x-now-", "x-middleware-", "x-mayfly-", "x-forwarded-", "x-invoke-"];
const platformResponsePrefixes = ["x-vercel-", "x-now-", "x-middleware-", "x-mayfly-"];

/** Whether only the platform may say this to a Function, and to a deployment's routes. `name` is lower-case. */
export function isPlatformRequestHeader(name: string): boolean {
  // CGI-like servers read "x_vercel_id" as "x-vercel-id": an underscore must not smuggle a name in.
  const plain = name.includes("_") ? name.replaceAll("_", "-") : name;
  return platformRequestNames.has(plain) || (plain.startsWith("x-") && platformRequestPrefixes.some((prefix) => plain.startsWith(prefix)));
}

/** Whether only the platform may say this to a client of a deployment. */
export function isPlatformResponseHeader(name: string): boolean {
  return name === "server" || (name.startsWith("x-") && platformResponsePrefixes.some((prefix) => name.startsWith(prefix)));
}

/** Whether it frames the message, or is about this hop: not a deployment's to set. */
export function isFramingHeader(name: string): boolean {
  return hopByHop.has(name) || name === "content-length";
}

/** Where a request came from: only the gateway knows. All else of the platform's (`x-now-digest`, …) the API's clients may say. */
export function isForwardingHeader(name: string): boolean {
  return forwardingNames.has(name) || name.startsWith("x-forwarded-");
}

/** What the gateway itself puts on every response. */
export function isGatewayHeader(name: string): boolean {
  return name === "server" || name === "x-vercel-id";
}

/**
 * The headers that go on to the other side: flat (name, value, …), names lower-case, not hop-by-hop, not `refused`, and
 * cookies without the platform's own.
 */
export function passOn(raw: readonly string[], refused: (name: string) => boolean): string[] {
  const nominated = connectionOptions(raw);
  const headers: string[] = [];
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index]!.toLowerCase();
    if (hopByHop.has(name) || nominated?.has(name) === true || refused(name)) continue;
    const value = raw[index + 1]!;
    if (name === "cookie" && value.includes(viewCookie)) {
      const others = withoutViewCookie(value);
      if (others !== "") headers.push(name, others);
    } else {
      headers.push(name, value);
    }
  }
  return headers;
}

function withoutViewCookie(cookies: string): string {
  const others = cookies.split(";").filter((pair) => pair.split("=", 1)[0]!.trim() !== viewCookie);
  return others.join(";").trim();
}

/** Whether a client's header reaches a Function as it was sent, if it was. @param name lower-case */
export function isPassedOn(raw: readonly string[], name: string): boolean {
  return !hopByHop.has(name) && !isPlatformRequestHeader(name) && connectionOptions(raw)?.has(name) !== true;
}

/** Names that a `Connection` header declares hop-by-hop. `content-length` and the like stay what they are. */
function connectionOptions(raw: readonly string[]): Set<string> | null {
  let names: Set<string> | null = null;
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index]!;
    if (name.length !== 10 || name.toLowerCase() !== "connection") continue;
    for (const option of raw[index + 1]!.toLowerCase().split(",")) {
      const token = option.trim();
      if (token === "" || token === "close" || token === "keep-alive" || endToEnd.has(token)) continue;
      names ??= new Set();
      names.add(token);
    }
  }
  return names;
}

/** A client must not have these removed by naming them in `Connection`: an application may rely on them. */
const endToEnd = new Set(["authorization", "cookie", "content-length", "content-type", "host", "set-cookie", "location", "origin"]);
