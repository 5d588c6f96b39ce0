import { NextResponse } from "next/server";

/** On the Edge runtime, as before Next.js 16. */
export function middleware(request) {
  const headers = new Headers(request.headers);
  headers.set("x-asked-by", typeof EdgeRuntime);
  return NextResponse.next({ request: { headers } });
}

export const config = { matcher: "/after" };
