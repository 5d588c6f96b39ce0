/** Ids, host names and paths: how they are made and what is refused. Every outside string that becomes one of these passes here. */
import { randomFillSync } from "node:crypto";
import { MayflyError } from "./errors.ts";

const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz";

/** Random bytes are fetched many at a time: a request needs an id, and asking for 16 takes as long as asking for 4096. */
const random = Buffer.alloc(4096);
let randomAt = random.length;

/** `length` random characters of [0-9a-z]; 36^length possibilities, without modulo bias. */
export function randomId(length: number): string {
  let id = "";
  while (id.length < length) {
    if (randomAt === random.length) {
      randomFillSync(random);
      randomAt = 0;
    }
    const byte = random[randomAt]!;
    // Each byte is used once: whoever reads this memory later learns nothing of ids that were given.
    random[randomAt++] = 0;
    if (byte < 252) id += alphabet[byte % 36];
  }
  return id;
}

const requestIdLength = 16;
/** Characters for request ids, of which each request takes its own: unlike tokens they are no secret. */
let requestIds = "";
let requestIdsAt = 0;

/** As `randomId(16)`, at a tenth of its cost: each request needs one. */
export function newRequestId(): string {
  if (requestIdsAt + requestIdLength > requestIds.length) {
    const chars = randomFillSync(Buffer.allocUnsafe(4096));
    let count = 0;
    for (const byte of chars) if (byte < 252) chars[count++] = alphabet.charCodeAt(byte % 36);
    requestIds = chars.toString("latin1", 0, count);
    requestIdsAt = 0;
  }
  return requestIds.slice(requestIdsAt, (requestIdsAt += requestIdLength));
}

export const newDeploymentId = (): string => `dpl_${randomId(24)}`;
export const newProjectId = (): string => `prj_${randomId(24)}`;
/** The id in an immutable host: nine characters, as on Vercel. */
export const newHostId = (): string => randomId(9);
/** A token matches `^\w+$`, which the official client demands. */
export const newToken = (): string => `mayfly_${randomId(32)}`;

/** Longest project name, so that `<project>-git-<branch>` and `<project>-<id9>` fit a DNS label of 63 characters (RFC 1035 §2.3.4). */
const projectNameLengthMax = 52;

/**
 * A project name from what a person typed: `My App!` → `my-app`.
 * @throws MayflyError invalid_name when nothing usable is left
 */
export function projectName(text: string): string {
  const name = text
    .normalize("NFKD")
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-+|-+$/g, "")
    .slice(0, projectNameLengthMax)
    .replace(/-+$/, "");
  if (name === "") throw new MayflyError("invalid_name", `Project name ${JSON.stringify(text.slice(0, 100))} has no letter or digit.`);
  return name;
}

/** Whether a name is already in the form that {@link projectName} makes. */
export function isProjectName(text: string): boolean {
  return text.length <= projectNameLengthMax && /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/.test(text);
}

/** Whether a text is a host name: lower-case labels of letters, digits and hyphens with a dot between (RFC 1123 §2.1). */
export function isHostName(text: string): boolean {
  return text.length <= 253 && /^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(text);
}

/**
 * Checks the path of a file within a tree: relative, `/`-separated, no empty, `.` or `..` part, no NUL, backslash or
 * control character, at most `bytesMax` bytes, valid Unicode.
 * @throws MayflyError invalid_path
 */
export function checkFilePath(path: string, bytesMax: number): string {
  const refuse = (why: string): never => {
    throw new MayflyError("invalid_path", `File path ${JSON.stringify(path.slice(0, 200))} ${why}.`);
  };
  if (path === "") refuse("is empty");
  if (Buffer.byteLength(path) > bytesMax) refuse(`is longer than ${bytesMax} bytes`);
  if (!path.isWellFormed()) refuse("is not valid Unicode");
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f\\]/.test(path)) refuse("has a control character or a backslash");
  if (path.startsWith("/")) refuse("is absolute");
  for (const part of path.split("/")) {
    if (part === "" || part === "." || part === "..") refuse(`has the part "${part}"`);
    if (Buffer.byteLength(part) > 255) refuse("has a part longer than 255 bytes");
  }
  return path;
}
