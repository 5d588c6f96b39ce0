import type { APIEvent } from "@solidjs/start/server";

export const POST = async ({ request }: APIEvent) => Response.json(await request.json(), { status: 201 });
