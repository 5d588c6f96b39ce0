import { NextResponse } from "next/server";

export const config = { matcher: ["/guarded/:path*", "/about"] };

export function middleware(request) {
  if (request.nextUrl.pathname.startsWith("/guarded")) return NextResponse.redirect(new URL("/about", request.url));
  const response = NextResponse.next();
  response.headers.set("x-from-middleware", "yes");
  return response;
}
