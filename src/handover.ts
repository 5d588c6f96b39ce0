/**
 * How a node gives its place to the next one without a connection lost: the listening sockets themselves go to the new
 * process, over a unix socket in the data directory, so that nothing that waits to be accepted is dropped. Both accept for
 * a moment; then the old one ends its control plane, says so, answers what it has and goes. Invariant: the next control
 * plane starts only when the last one has ended, so no build runs twice.
 */
import { createHash } from "node:crypto";
import { closeSync, rmSync } from "node:fs";
import { createServer, Socket, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import koffi from "koffi";
import type { Config } from "./config.ts";
import { MayflyError } from "./errors.ts";

/** Longest wait for the running node's answer to the first question; it has nothing to do but to give it. */
const answerSMax = 5;
/** Longest wait for the end of its control plane, beyond its drain. */
const controlEndMsMax = 15_000;

/** Listening sockets by what is spoken on them. */
export interface Listeners {
  readonly http: number | null;
  readonly https: number | null;
}

/** A node that runs already where another is to start. */
export interface Predecessor {
  /** Its listening sockets, ours as well from now on. */
  readonly listeners: Listeners;
  /**
   * Makes it end: resolves when it has no control plane any more. It answers the requests that it has.
   * @throws MayflyError port_in_use: it does not give way
   */
  takeOver(): Promise<void>;
  /** Leaves it in peace: we have not started. Without effect after {@link takeOver}. */
  release(): void;
}

/** Where nodes on this address and data directory meet; null: any port is as good as another, so none is handed over. */
export function handoverPath(config: Pick<Config, "data" | "host" | "port">): string | null {
  if (config.port === 0) return null;
  const data = resolve(config.data);
  const name = `handover-${config.host.replaceAll(/[^\w.-]/g, "_")}-${config.port}.sock`;
  const path = join(data, name);
  // A socket's path may have 107 bytes.
  if (Buffer.byteLength(path) <= 100) return path;
  return join(tmpdir(), `mayfly-${createHash("sha256").update(path).digest("hex").slice(0, 24)}.sock`);
}

/** Asks whoever listens at `path` for its sockets. null: nobody does. */
export function askPredecessor(path: string): Predecessor | null {
  const descriptor = connectUnix(path);
  if (descriptor === null) return null;
  const received = receiveDescriptors(descriptor);
  if (received === null) {
    closeSync(descriptor);
    return null;
  }
  const [http = null, https = null] = received;
  const socket = new Socket({ fd: descriptor, readable: true, writable: true });
  socket.on("error", () => {});
  let asked = false;
  return {
    listeners: { http, https },
    takeOver() {
      asked = true;
      return new Promise((done, fail) => {
        const refuse = () => fail(new MayflyError("port_in_use", "A node runs on this port and data directory, and does not give way."));
        const deadline = setTimeout(refuse, controlEndMsMax + 30_000);
        socket.once("data", () => {
          clearTimeout(deadline);
          socket.destroy();
          done();
        });
        socket.once("close", () => {
          clearTimeout(deadline);
          refuse();
        });
        socket.write("go\n");
      });
    },
    release() {
      if (asked) return;
      socket.destroy();
      for (const listener of [http, https]) if (listener !== null) closeSync(listener);
    },
  };
}

export interface Handover {
  /** Resolves when another node has taken this one's place. */
  readonly taken: Promise<void>;
  close(): void;
}

export interface HandoverParts {
  readonly listeners: () => Listeners;
  /** Takes no more connections, and ends the control plane: resolves when that is done. */
  readonly giveWay: () => Promise<void>;
}

/** Offers this node's place to the next one. */
export async function openHandover(path: string, parts: HandoverParts): Promise<Handover> {
  const { promise: taken, resolve: take } = Promise.withResolvers<void>();
  rmSync(path, { force: true });
  const server = createServer((socket) => {
    socket.on("error", () => {});
    const { http, https } = parts.listeners();
    sendDescriptors(
      descriptorOf(socket),
      [http, https].filter((listener) => listener !== null),
    );
    socket.once("data", () => {
      // Its path is the successor's from now on.
      server.close();
      const goAway = async () => {
        await parts.giveWay();
        socket.end("gone\n");
        take();
      };
      // The successor sees the connection break, and does not start its control plane.
      goAway().catch(() => socket.destroy());
    });
  });
  await new Promise<void>((done, fail) => {
    server.once("error", fail);
    // Whoever may write to the data directory may do anything to this node; nobody else may ask.
    const before = process.umask(0o177);
    server.listen(path, done);
    process.umask(before);
  });
  return { taken, close: () => void server.close() };
}

/** The descriptor of a server or socket of Node's. It has no public name, but it has not changed in ten years. */
export function descriptorOf(handle: Server | Socket): number {
  const { _handle } = handle as unknown as { readonly _handle: { readonly fd: number } | null };
  if (_handle === null || !(_handle.fd >= 0)) throw new Error("The socket has no descriptor.");
  return _handle.fd;
}

// ── unix sockets that carry descriptors (unix(7), cmsg(3)): Node has no name for them ──────────────────────────────────

const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 0o2000001;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;
/** Bytes of a control message's head on 64-bit systems: length, level, type. */
const controlHeadBytes = 16;
const descriptorsMax = 2;

let loaded: ReturnType<typeof load> | undefined;
function load() {
  const libc = koffi.load(null);
  const iovec = koffi.struct({ base: "void *", length: "size_t" });
  const message = koffi.struct({
    name: "void *",
    nameLength: "uint32_t",
    iov: koffi.pointer(iovec),
    iovLength: "size_t",
    control: "void *",
    controlLength: "size_t",
    flags: "int",
  });
  return {
    socket: libc.func("int socket(int, int, int)") as (family: number, type: number, protocol: number) => number,
    connect: libc.func("int connect(int, void *, uint32_t)") as (descriptor: number, address: Buffer, length: number) => number,
    setsockopt: libc.func("int setsockopt(int, int, int, void *, uint32_t)") as (
      descriptor: number,
      level: number,
      name: number,
      value: Buffer,
      length: number,
    ) => number,
    sendmsg: libc.func("sendmsg", "intptr_t", ["int", koffi.pointer(message), "int"]) as (fd: number, m: Message, flags: number) => number,
    recvmsg: libc.func("recvmsg", "intptr_t", ["int", koffi.inout(koffi.pointer(message)), "int"]) as (
      fd: number,
      m: Message,
      flags: number,
    ) => number,
  };
}

interface Message {
  readonly name: null;
  readonly nameLength: number;
  readonly iov: { readonly base: Buffer; readonly length: number };
  readonly iovLength: number;
  readonly control: Buffer;
  controlLength: number;
  readonly flags: number;
}

function message(data: Buffer, control: Buffer): Message {
  return {
    name: null,
    nameLength: 0,
    iov: { base: data, length: data.length },
    iovLength: 1,
    control,
    controlLength: control.length,
    flags: 0,
  };
}

/** null: nobody listens there. */
function connectUnix(path: string): number | null {
  const libc = (loaded ??= load());
  const descriptor = libc.socket(AF_UNIX, SOCK_STREAM_CLOEXEC, 0);
  if (descriptor < 0) return null;
  const seconds = Buffer.alloc(16);
  seconds.writeBigInt64LE(BigInt(answerSMax));
  libc.setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, seconds, seconds.length);
  const address = Buffer.alloc(110);
  address.writeUInt16LE(AF_UNIX);
  address.write(path, 2);
  if (libc.connect(descriptor, address, address.length) === 0) return descriptor;
  closeSync(descriptor);
  return null;
}

function sendDescriptors(socket: number, descriptors: readonly number[]): void {
  const libc = (loaded ??= load());
  const control = Buffer.alloc(controlHeadBytes + 8 * Math.ceil(descriptors.length / 2));
  control.writeBigUInt64LE(BigInt(controlHeadBytes + 4 * descriptors.length), 0);
  control.writeInt32LE(SOL_SOCKET, 8);
  control.writeInt32LE(SCM_RIGHTS, 12);
  for (const [index, descriptor] of descriptors.entries()) control.writeInt32LE(descriptor, controlHeadBytes + 4 * index);
  libc.sendmsg(socket, message(Buffer.from("h"), control), 0);
}

/** Waits for them, at most {@link answerSMax}. null: nothing came. */
function receiveDescriptors(socket: number): number[] | null {
  const libc = (loaded ??= load());
  const control = Buffer.alloc(controlHeadBytes + 4 * descriptorsMax);
  if (libc.recvmsg(socket, message(Buffer.alloc(1), control), MSG_CMSG_CLOEXEC) !== 1) return null;
  const count = (Number(control.readBigUInt64LE(0)) - controlHeadBytes) / 4;
  if (!(count >= 1) || control.readInt32LE(12) !== SCM_RIGHTS) return null;
  return Array.from({ length: count }, (_, index) => control.readInt32LE(controlHeadBytes + 4 * index));
}
