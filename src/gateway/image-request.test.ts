/** Which addresses ask for pictures, and which pictures a deployment's configuration lets them have. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { isPictureAddress, parseImageRequest } from "./image-request.ts";

const images = {
  sizes: [64, 640],
  qualities: [50, 75],
  domains: ["cdn.test"],
  formats: ["image/avif", "image/webp"],
  remotePatterns: [
    { protocol: "https", hostname: "^img\\d\\.test$", pathname: "^/shop/.*$", port: "", search: "" },
    { hostname: "**.glob.test", pathname: "/a/*" },
  ],
};
const read = (query: string, more: object = {}) => parseImageRequest({ ...images, ...more }, query, "image/webp,*/*");
const urlOf = (url: string, more: object = {}) => {
  const source = read(`url=${encodeURIComponent(url)}&w=64`, more).source;
  return source.kind === "remote" ? source.url : `${source.path} ${source.query}`;
};

describe("addresses of pictures", () => {
  it("name a path of the deployment", () => {
    assert.equal(urlOf("/dot.png"), "/dot.png ");
    assert.equal(urlOf("/a.png?v=1#x"), "/a.png v=1");
    assert.deepEqual([read("url=/docs/a.png&w=640&q=50").quality, read("url=/a.png&w=64").width], [50, 64]);
  });

  it("are those of the optimiser, at a deployment that has one", () => {
    for (const path of ["/_next/image", "/_vercel/image", "/docs/_next/image"]) assert.equal(isPictureAddress(images, path), true);
    for (const path of ["/dot.png", "/_next/image/", "/_next/images"]) assert.equal(isPictureAddress(images, path), false);
    assert.equal(isPictureAddress(undefined, "/_next/image"), false);
  });

  it("name another host that the deployment allows", () => {
    assert.equal(urlOf("http://cdn.test:8080/a.png#x"), "http://cdn.test:8080/a.png");
    assert.equal(urlOf("https://img1.test/shop/a.png"), "https://img1.test/shop/a.png");
    assert.equal(urlOf("https://x.y.glob.test/a/b.png?q"), "https://x.y.glob.test/a/b.png?q");
  });

  it("have the first format that the client reads and names", () => {
    const format = (accept: string | undefined) => parseImageRequest(images, "url=/a&w=64", accept).format;
    assert.equal(format("text/html, image/webp;q=0.5, image/avif;q=0.1"), "image/avif");
    assert.equal(format("image/webp, image/avif;q=0"), "image/webp");
    assert.equal(format("*/*"), null);
    assert.equal(format(undefined), null);
  });

  const patterns = { localPatterns: [{ pathname: "^/assets/.*$", search: "" }] };
  it("keep to the paths that the deployment allows", () => {
    assert.equal(urlOf("/assets/a.png", patterns), "/assets/a.png ");
  });

  const wrong: readonly [string, object?][] = [
    [""],
    ["url=/a.png"],
    ["url=/a.png&w=63"],
    ["url=/a.png&w=64&w=640"],
    ["url=/a.png&w=64&q=0"],
    ["url=/a.png&w=64&q=80"],
    ["url=a.png&w=64"],
    ["url=//cdn.test/a.png&w=64"],
    ["url=/%5Ccdn.test/a.png&w=64"],
    ["url=/a%0Ab.png&w=64"],
    ["url=/_next/image&w=64"],
    ["url=/x/_vercel/image?url=/a&w=64"],
    [`url=/${"a".repeat(4000)}&w=64`],
    ["url=https://x.test/a.png&w=64"],
    ["url=https://cdn.test.evil.test/a.png&w=64"],
    ["url=https://cdn.test@evil.test/a.png&w=64"],
    ["url=https://me@cdn.test/a.png&w=64"],
    ["url=http://img1.test/shop/a.png&w=64"],
    ["url=https://img1.test/other/a.png&w=64"],
    ["url=https://img1.test:444/shop/a.png&w=64"],
    ["url=https://img1.test/shop/a.png?x&w=64"],
    ["url=https://glob.test.evil.test/a/b&w=64"],
    ["url=https://x.glob.test/a/b/c&w=64"],
    ["url=file:///etc/passwd&w=64"],
    ["url=data:image/png;base64,AAAA&w=64"],
    ["url=http://169.254.169.254/latest/meta-data&w=64"],
    ["url=/other/a.png&w=64", patterns],
    ["url=/assets/a.png%3Fx&w=64", patterns],
    ["url=/a.png&w=64", { localPatterns: [] }],
    ["url=https://cdn.test/a.png&w=64", { domains: "cdn.test", remotePatterns: [null, 1, { hostname: 1 }] }],
  ];
  for (const [query, more] of wrong) {
    it(`are refused: ${query.slice(0, 60) || "nothing"}`, () => {
      assert.throws(() => read(query, more), { code: "INVALID_IMAGE_OPTIMIZE_REQUEST" });
    });
  }
});
