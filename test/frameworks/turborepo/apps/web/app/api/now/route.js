import { greeting } from "@starter/words";

export const dynamic = "force-dynamic";

export const GET = () => Response.json({ greeting, time: Date.now() });
