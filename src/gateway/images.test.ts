import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { imageSource } from "./images.ts";

const images = { sizes: [64, 640] };

describe("addresses of images", () => {
  it("lead to the file that they name", () => {
    const source = (path: string, query: string) => imageSource(images, { path, query });
    assert.deepEqual(source("/_next/image", "url=%2Fdot.png&w=64&q=75"), { path: "/dot.png", query: "" });
    assert.deepEqual(source("/_vercel/image", "url=%2Fa.png%3Fv%3D1&w=640"), { path: "/a.png", query: "v=1" });
    assert.deepEqual(source("/docs/_next/image", "url=%2Fdocs%2Fa.png&w=640"), { path: "/docs/a.png", query: "" });
    assert.equal(source("/dot.png", "w=64"), null);
    assert.equal(imageSource(undefined, { path: "/_next/image", query: "url=%2Fdot.png&w=64" }), null);
  });

  const wrong = [
    "",
    "url=/a.png",
    "url=/a.png&w=63",
    "url=/a.png&w=64&q=0",
    "url=https://x.test/a.png&w=64",
    "url=//x.test/a.png&w=64",
    "url=/_next/image&w=64",
  ];
  for (const query of wrong) {
    it(`are refused: ${query || "nothing"}`, () => {
      assert.throws(() => imageSource(images, { path: "/_next/image", query }), { code: "INVALID_IMAGE_REQUEST" });
    });
  }
});
