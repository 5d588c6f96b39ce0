/**
 * A plain connection that a server has accepted, read without allocations. Node reads an accepted socket into a buffer
 * made for each read; its own way around that, `onread`, is open only to sockets that a program makes itself. So the
 * accepted handle moves into one of those, and all of them read into one buffer. Invariant: what was read is the reader's
 * until it returns, and no longer.
 */
import { Socket, type SocketConstructorOpts } from "node:net";

/** What one read takes at most, as Node's own. */
const readBytesMax = 65_536;

/** JavaScript runs to its end before the next socket is read. */
const shared = Buffer.allocUnsafeSlow(readBytesMax);

/** What lies under a socket. Node's documentation names the member, its types do not; there is no public way to move it. */
interface Accepted {
  _handle?: { readonly useUserBuffer?: unknown } | null;
}

/**
 * @param accepted by a server with `pauseOnConnect`; of no use afterwards
 * @param read gets bytes that are the next reader's as soon as it returns
 * @returns the socket in its place; it reads once it is resumed
 */
export function adoptSocket(accepted: Socket, read: (bytes: Buffer) => void): Socket {
  const shell = accepted as unknown as Accepted;
  const handle = shell._handle;
  // A Node that does it otherwise is only slower.
  if (typeof handle?.useUserBuffer !== "function") return accepted.on("data", read);
  shell._handle = null;
  accepted.destroy();
  const onread = {
    buffer: shared,
    callback(count: number): boolean {
      read(shared.subarray(0, count));
      return true;
    },
  };
  return new Socket({ handle, allowHalfOpen: true, onread } as unknown as SocketConstructorOpts);
}
