/** Upload of one file by its digest. The client sends up to 50 at once; the answer is exactly 200. */
import type { Readable } from "node:stream";
import { receiveFile } from "../deploy/upload.ts";
import { MayflyError } from "../errors.ts";
import { ofProjects, type Endpoint } from "./endpoint.ts";

export const fileEndpoints: readonly Endpoint[] = [
  ofProjects({
    method: "POST",
    path: "/files",
    summary: "Upload a file; its SHA-1 in `x-now-digest`, its size in `x-now-size`",
    access: "write",
    body: "stream",
    async handle({ context, identity: { team }, request }) {
      const header = (name: string) => request.headers[name]?.toString() ?? null;
      const sha1 = (header("x-now-digest") ?? header("x-vercel-digest") ?? "").toLowerCase();
      if (!/^[0-9a-f]{40}$/.test(sha1)) throw wrong("x-now-digest", "a SHA-1 in hexadecimal");
      const size = header("x-now-size") ?? header("x-vercel-size") ?? header("content-length");
      if (size !== null && !/^\d{1,15}$/.test(size)) throw wrong("x-now-size", "a number of bytes");
      await receiveFile(context, team.id, request.body as Readable, {
        sha1,
        size: size === null ? null : Number(size),
      });
      return { urls: [] };
    },
  }),
];

const wrong = (header: string, expected: string) => new MayflyError("bad_request", `The header ${header} must be ${expected}.`);
