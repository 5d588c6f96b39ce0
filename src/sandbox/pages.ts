/** The kernel charges a file's pages to the first guest that touches them: the platform touches them before. */
import { open } from "node:fs/promises";

const chunkBytes = 256 * 1024;

/** Reads the file through one small buffer, so that nothing of it stays in this process. */
export async function warmPages(path: string): Promise<void> {
  await using file = await open(path);
  const buffer = Buffer.allocUnsafeSlow(chunkBytes);
  while ((await file.read(buffer, 0, chunkBytes)).bytesRead > 0);
}
