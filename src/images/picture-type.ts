/** What a picture is, by its first bytes: what its sender says of it counts only where they say nothing. Pure. */

/** Decoded and made anew. */
const decoded = new Set(["image/avif", "image/webp", "image/jpeg", "image/png", "image/gif", "image/tiff"]);
/** Shown by browsers, but nothing would be won by making them anew. */
const asTheyAre = new Set(["image/x-icon", "image/vnd.microsoft.icon", "image/bmp", "image/icns", "image/heic", "image/jxl"]);

/**
 * @param said content type of the sender
 * @returns null: it is no picture that can be given
 */
export function pictureType(bytes: Buffer, said: string): string | null {
  const found = typeOf(bytes);
  if (found !== null) return found;
  const type = said.split(";", 1)[0]!.trim().toLowerCase();
  return asTheyAre.has(type) ? type : null;
}

/** Whether a worker can make another picture of it. */
export function isDecoded(type: string): boolean {
  return decoded.has(type);
}

function typeOf(bytes: Buffer): string | null {
  const text = bytes.toString("latin1", 0, 12);
  if (text.startsWith("\u00ff\u00d8\u00ff")) return "image/jpeg";
  if (text.startsWith("\u0089PNG\r\n\u001a\n")) return "image/png";
  if (text.startsWith("GIF8")) return "image/gif";
  if (text.startsWith("RIFF") && text.startsWith("WEBP", 8)) return "image/webp";
  if (text.startsWith("II*\0") || text.startsWith("MM\0*")) return "image/tiff";
  if (text.startsWith("\0\0\u0001\0")) return "image/x-icon";
  if (text.startsWith("BM")) return "image/bmp";
  if (text.startsWith("icns")) return "image/icns";
  if (text.startsWith("ftyp", 4)) {
    const brand = text.slice(8);
    return brand === "avif" || brand === "avis" ? "image/avif" : ["heic", "heix", "mif1", "msf1"].includes(brand) ? "image/heic" : null;
  }
  if (text.startsWith("\u00ff\u000a") || text.startsWith("\0\0\0\u000cJXL ")) return "image/jxl";
  const start = bytes
    .toString("utf8", 0, 1024)
    .replace(/^\uFEFF/, "")
    .trimStart();
  return /^(?:<\?xml|<!--|<!DOCTYPE svg)?[^<]*(?:<[!?][^>]*>[^<]*)*<svg[\s>]/i.test(start) ? "image/svg+xml" : null;
}
