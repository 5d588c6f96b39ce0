/**
 * `fetch` as it is used towards a Git host: within a deadline, to the host's own origin only (a redirect is an error, not
 * followed with our token), and with an answer of bounded size.
 */
import { MayflyError } from "../errors.ts";

export type HostFetch = (url: string | URL, init?: RequestInit) => Promise<Response>;

export interface HostFetchOptions {
  readonly deadlineMs: number;
  readonly answerBytesMax: number;
}

export function createHostFetch({ deadlineMs, answerBytesMax }: HostFetchOptions): HostFetch {
  return async (url, init = {}) => {
    const response = await fetch(url, { ...init, redirect: "manual", signal: AbortSignal.timeout(deadlineMs) });
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    let bytes = 0;
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array<ArrayBuffer>>) {
      bytes += chunk.byteLength;
      if (bytes > answerBytesMax) throw new MayflyError("git_host_refused", `The Git host's answer has more than ${answerBytesMax} bytes.`);
      chunks.push(chunk);
    }
    const { status, statusText, headers } = response;
    // A moved repository answers with 301; what has no body must be made without one.
    const body = [204, 205, 304].includes(status) ? null : new Blob(chunks);
    return new Response(body, { status: status >= 300 && status < 400 ? 404 : status, statusText, headers });
  };
}
