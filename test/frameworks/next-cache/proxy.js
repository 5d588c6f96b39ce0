import { createHash } from "node:crypto";
import { NextResponse } from "next/server";

/** On Node.js, so it may use its modules. */
export default function proxy(request) {
  if (request.nextUrl.pathname === "/moved") return NextResponse.redirect(new URL("/", request.url));
  const response = NextResponse.next();
  response.headers.set("x-from-proxy", createHash("sha1").update("proxy").digest("hex").slice(0, 8));
  return response;
}

export const config = { matcher: ["/", "/moved"] };
