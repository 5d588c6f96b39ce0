export const runtime = "edge";

export const GET = (request) => Response.json({ edge: typeof EdgeRuntime, q: new URL(request.url).searchParams.get("q") });
