import { revalidatePath, revalidateTag } from "next/cache";

export async function POST(request) {
  const { path, tag } = await request.json();
  if (path) revalidatePath(path);
  if (tag) revalidateTag(tag, { expire: 0 });
  return Response.json({ done: true });
}
