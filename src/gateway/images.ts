/**
 * `/_vercel/image` and `/_next/image`: which file of the deployment they ask for. Pure. There is no optimiser: the file is
 * given as it is, whatever width and quality are asked for, so pages that count on one show their pictures.
 */
import { MayflyError } from "../errors.ts";
import type { Manifest } from "../model.ts";

/** The parts of an address that change. */
export interface ImageAddress {
  readonly path: string;
  readonly query: string;
}

const optimisers = /^(?:\/[^?]*)?\/(?:_vercel|_next)\/image$/;

/**
 * @param address of the request; `query` without its question mark
 * @returns null: it is no image's address
 * @throws MayflyError INVALID_IMAGE_REQUEST
 */
export function imageSource(images: Manifest["images"], address: ImageAddress): ImageAddress | null {
  if (images === undefined || !optimisers.test(address.path)) return null;
  const asked = new URLSearchParams(address.query);
  const refuse = (why: string): never => {
    throw new MayflyError("INVALID_IMAGE_REQUEST", why);
  };
  const url = asked.get("url") ?? "";
  const width = Number(asked.get("w"));
  const quality = Number(asked.get("q") ?? "75");
  const { sizes } = images;
  if (!Array.isArray(sizes) || !sizes.includes(width)) refuse(`"w" must be one of the widths that the build names.`);
  if (!Number.isInteger(quality) || quality < 1 || quality > 100) refuse('"q" must be from 1 to 100.');
  if (!url.startsWith("/") || /^\/[/\\]/.test(url))
    refuse('"url" must be a path of this deployment: pictures of other hosts are not fetched.');
  const mark = url.indexOf("?");
  const path = mark === -1 ? url : url.slice(0, mark);
  if (optimisers.test(path)) refuse('"url" must be a picture.');
  return { path, query: mark === -1 ? "" : url.slice(mark + 1) };
}
