/**
 * The worker of the image optimiser: runs inside a sandbox without network and decodes what strangers have sent. It knows
 * nothing of requests: a picture and a width come in, a smaller picture goes out. Invariant: only the loaders of the web's
 * own formats are ever run, and none on a picture with more pixels than it was told.
 */
import { Socket } from "node:net";
import sharp from "sharp";
import { encodeFrame, FrameReader } from "./frames.js";

/** The host has checked what it sends; this is the most that it will. */
const sourceBytesMax = 0x7fffffff;
const messageLengthMax = 500;

sharp.cache(false);
sharp.concurrency(1);
sharp.block({ operation: ["VipsForeignLoad"] });
sharp.unblock({ operation: ["Jpeg", "Png", "Webp", "Heif", "Nsgif", "Tiff"].map((name) => `VipsForeignLoad${name}`) });

const control = new Socket({ fd: 3, readable: true, writable: true });
const frames = new FrameReader(sourceBytesMax, (head, body) => void answer(/** @type {import("./frames.js").ImageJob} */ (head), body));
control.on("data", (chunk) => frames.push(chunk));
control.on("end", () => process.exit(0));
control.write(encodeFrame({ kind: "ready" }));

/**
 * @param {import("./frames.js").ImageJob} job
 * @param {Buffer} source
 */
async function answer(job, source) {
  try {
    const made = await resize(job, source);
    control.write(made === null ? encodeFrame({ kind: "as-is" }) : encodeFrame({ kind: "made", type: made.type }, made.body));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    control.write(encodeFrame({ kind: "refused", message: message.slice(0, messageLengthMax) }));
  }
}

/**
 * @param {import("./frames.js").ImageJob} job
 * @param {Buffer} source
 * @returns {Promise<{type: string, body: Buffer} | null>} null: it moves
 */
async function resize({ width, quality, format, pixelsMax }, source) {
  // "error": a picture whose end is missing is still shown as far as it goes.
  const options = /** @type {const} */ ({ limitInputPixels: pixelsMax, failOn: "error", sequentialRead: true });
  const { format: from, pages = 1, hasAlpha } = await sharp(source, options).metadata();
  if (pages > 1 || (from === "png" && isAnimatedPng(source))) return null;
  // What it says of the camera turns it; all else that it says of itself is left out.
  const picture = sharp(source, options).autoOrient().resize({ width, withoutEnlargement: true });
  const type = format ?? (from === "png" || from === "gif" ? `image/${from}` : hasAlpha ? "image/png" : "image/jpeg");
  switch (type) {
    case "image/avif":
      // At equal numbers AVIF looks better than the others.
      return { type, body: await picture.avif({ quality: Math.max(1, Math.round(quality * 0.75)), effort: 3 }).toBuffer() };
    case "image/webp":
      return { type, body: await picture.webp({ quality }).toBuffer() };
    case "image/gif":
      return { type, body: await picture.gif().toBuffer() };
    case "image/png":
      return { type, body: await picture.png({ quality }).toBuffer() };
    default:
      return { type: "image/jpeg", body: await picture.jpeg({ quality, mozjpeg: true }).toBuffer() };
  }
}

/**
 * Whether the chunk that says so comes before the first one of the picture.
 * @param {Buffer} source
 */
function isAnimatedPng(source) {
  for (let at = 8; at + 8 <= source.length;) {
    const name = source.toString("latin1", at + 4, at + 8);
    if (name === "acTL") return true;
    if (name === "IDAT") return false;
    at += 12 + source.readUInt32BE(at);
  }
  return false;
}
