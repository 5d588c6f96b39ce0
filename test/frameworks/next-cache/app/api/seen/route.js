import { headers } from "next/headers";

export async function GET() {
  return Response.json({ registered: globalThis.registered ?? null, resume: (await headers()).get("next-resume") });
}
