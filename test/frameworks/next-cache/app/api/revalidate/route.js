import { revalidateTag } from "next/cache";

export async function POST(request) {
  const { tag, life } = await request.json();
  revalidateTag(tag, life);
  return Response.json({ done: true });
}
