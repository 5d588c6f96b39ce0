/**
 * The address of a project that has a development server of its own: what routing gives to a Function goes to the
 * gateway, everything else, WebSockets too, to that server, byte for byte.
 */
import { createServer, request as connect, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect as connectSocket, type AddressInfo } from "node:net";
import { pipeline, type Duplex } from "node:stream";
import { errnoOf, MayflyError, messageOf } from "../errors.ts";
import type { LocalAddress } from "./dev-server.ts";

export interface DevFrontOptions {
  readonly port: number;
  readonly host: string;
  /** Who answers this request. @throws MayflyError what is wrong, for the page */
  choose(request: IncomingMessage): Promise<LocalAddress>;
  /** The page for what went wrong. */
  page(error: unknown, accept: string | undefined): { readonly status: number; readonly contentType: string; readonly body: string };
}

export interface DevFront extends AsyncDisposable {
  readonly port: number;
}

/** @throws MayflyError port_in_use */
export async function openDevFront(options: DevFrontOptions): Promise<DevFront> {
  const server = createServer((request, response) => {
    void answer(options, request, response);
  });
  server.on("upgrade", (request, socket, head) => void upgrade(options, request, socket, head));
  await listen(server, options);
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function listen(server: Server, { port, host }: DevFrontOptions): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, host, resolve);
    });
  } catch (error) {
    if (errnoOf(error) === "EADDRINUSE") throw new MayflyError("port_in_use", `Port ${port} is in use.`, { cause: error });
    throw error;
  }
}

async function answer(options: DevFrontOptions, incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    const address = await options.choose(incoming);
    await new Promise<void>((resolve, reject) => {
      const { method, url, rawHeaders } = incoming;
      const outgoing = connect({ ...address, method, path: url, headers: rawHeaders, agent: false });
      outgoing.once("error", reject);
      outgoing.once("response", (upstream) => {
        response.writeHead(upstream.statusCode ?? 502, upstream.rawHeaders);
        pipeline(upstream, response, () => resolve());
      });
      pipeline(incoming, outgoing, () => undefined);
    });
  } catch (error) {
    if (response.headersSent) {
      response.destroy();
      return;
    }
    const page = options.page(error, incoming.headers.accept);
    response.writeHead(page.status, { "content-type": page.contentType, "cache-control": "no-store" });
    response.end(page.body);
  }
}

async function upgrade(options: DevFrontOptions, request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
  socket.on("error", () => socket.destroy());
  try {
    const upstream = connectSocket(await options.choose(request));
    upstream.once("connect", () => {
      const lines = [`${request.method} ${request.url} HTTP/1.1`];
      for (let index = 0; index < request.rawHeaders.length; index += 2)
        lines.push(`${request.rawHeaders[index]}: ${request.rawHeaders[index + 1]}`);
      upstream.write(`${lines.join("\r\n")}\r\n\r\n`);
      if (head.length > 0) upstream.write(head);
      pipeline(socket, upstream, () => upstream.destroy());
      pipeline(upstream, socket, () => socket.destroy());
    });
    upstream.once("error", () => socket.destroy());
  } catch (error) {
    socket.end(`HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-type: text/plain\r\n\r\n${messageOf(error)}\n`);
  }
}
