import type { APIRoute } from "astro";

export const POST: APIRoute = async ({ request }) => Response.json(await request.json(), { status: 201 });
