/**
 * How paths, parameters and header values are spelled. Pure. Invariant: every path that means the same has one canonical
 * spelling, so no percent-encoding slips past a rule or makes a second copy in a cache.
 */

const plainPath = /^[\w\-.~!$&'()*+,;=:@[\]/]*$/;

/**
 * One spelling for every path that means the same: each segment decoded, then what may stand literally in a path is
 * literal and all else is percent-encoded. An encoded slash stays encoded, so it never becomes a separator. Invalid
 * percent-encoding is taken literally.
 */
export function canonicalPath(path: string): string {
  if (plainPath.test(path)) return path;
  return path
    .split("/")
    .map((segment) => {
      try {
        return encodeSegment(decodeURIComponent(segment));
      } catch {
        return encodePathText(segment.toWellFormed());
      }
    })
    .join("/");
}

/** A decoded segment in canonical spelling. */
export function encodeSegment(text: string): string {
  return text.toWellFormed().replaceAll(/[^\w\-.~!$&'()*+,;=:@[\]]+/g, (chars) => encodeURIComponent(chars));
}

/** Text that may hold percent-encoding already, made fit for a path. */
export function encodePathText(text: string): string {
  return text
    .toWellFormed()
    .replaceAll(/[^\w\-.~!$&'()*+,;=:@[\]/%]+/g, (chars) => encodeURIComponent(chars))
    .replaceAll(/%(?![0-9A-Fa-f]{2})/g, "%25");
}

/** The same path with percent-encoding undone, for patterns that are written in plain Unicode. */
export function readablePath(path: string): string {
  try {
    return decodeURI(path);
  } catch {
    return path;
  }
}

export function decodeLoosely(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text.toWellFormed();
  }
}

export function decodeParameter(text: string): string {
  return decodeLoosely(text.replaceAll("+", " "));
}

/** `a=1` → `?a=1`; nothing stays nothing. */
export function question(query: string): string {
  return query === "" ? "" : `?${query}`;
}

/** Names as they were sent, values decoded; of several the first counts. */
export function parseCookies(header: string): ReadonlyMap<string, string> {
  const cookies = new Map<string, string>();
  for (const pair of header.split(";")) {
    const equals = pair.indexOf("=");
    if (equals === -1) continue;
    const name = pair.slice(0, equals).trim();
    if (!cookies.has(name)) cookies.set(name, decodeLoosely(pair.slice(equals + 1).trim()));
  }
  return cookies;
}
