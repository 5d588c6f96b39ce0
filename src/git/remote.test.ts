/** Which addresses and names are let through. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { MayflyError } from "../errors.ts";
import { checkBranch, checkRepositoryPath, parseBaseUrls, parseRepositoryAddress } from "./remote.ts";

const hosts = { github: ["https://github.com", "https://git.example.com"], gitlab: ["https://gitlab.com", "http://10.0.0.7:8080/gitlab"] };
const isRefused = (error: unknown) => error instanceof MayflyError && error.code === "git_refused";

it("knows a repository by any address that people copy, on the hosts of the settings", () => {
  const shop = { provider: "github", baseUrl: "https://github.com", repository: "ann/shop" };
  for (const address of [
    "https://github.com/ann/shop",
    "https://github.com/ann/shop/",
    "https://github.com/ann/shop.git",
    "git@github.com:ann/shop.git",
    "ssh://git@github.com/ann/shop.git",
  ]) {
    assert.deepEqual(parseRepositoryAddress(address, hosts), shop, address);
  }
  assert.equal(parseRepositoryAddress("https://git.example.com/a/b", hosts).baseUrl, "https://git.example.com");
  assert.deepEqual(parseRepositoryAddress("https://gitlab.com/group/sub/name", hosts), {
    provider: "gitlab",
    baseUrl: "https://gitlab.com",
    repository: "group/sub/name",
  });
  assert.equal(parseRepositoryAddress("http://10.0.0.7:8080/gitlab/a/b.git", hosts).repository, "a/b");
});

it("refuses other hosts, other protocols, options, passwords and paths that lead elsewhere", () => {
  for (const address of [
    "",
    "shop",
    "--upload-pack=touch /tmp/x",
    "-oProxyCommand=x",
    "ext::sh -c id",
    "file:///etc/passwd",
    "/etc",
    "http://github.com/ann/shop",
    "https://github.com.evil.example/ann/shop",
    "https://evil.example/github.com/ann/shop",
    "https://user:password@github.com/ann/shop",
    "https://github.com/ann",
    "https://github.com/ann/shop/tree/main",
    "https://github.com/ann/%2e%2e",
    "https://github.com/ann/a%20b",
    "https://github.com/../shop",
    "http://169.254.169.254/latest/meta-data",
    "http://10.0.0.7:8080/other/a/b",
  ]) {
    assert.throws(() => parseRepositoryAddress(address, hosts), isRefused, address);
  }
  for (const path of ["a", "a/b/c", "../b", "a/..", "-a/b", "a/b;id", "a/b c", "a//b"]) {
    assert.throws(() => checkRepositoryPath(path, "github"), isRefused, path);
  }
});

it("refuses what is no branch", () => {
  for (const branch of ["main", "feature/Two", "v1.0", "ü", "a-b_c.d"]) assert.equal(checkBranch(branch), branch);
  for (const branch of [
    "",
    "-x",
    "a..b",
    "a b",
    "a\nb",
    "a:b",
    "a~1",
    "a^",
    "a?",
    "a*",
    "a[",
    "a\\b",
    "/a",
    "a/",
    "a//b",
    ".a",
    "a/.b",
    "a.lock",
    "@",
    "a@{1}",
    "a.",
  ]) {
    assert.throws(() => checkBranch(branch), isRefused, JSON.stringify(branch));
  }
});

it("refuses settings that are no base URLs", () => {
  assert.deepEqual(parseBaseUrls("X", " https://a.example/ , http://b.example:8080/git/ ,"), [
    "https://a.example",
    "http://b.example:8080/git",
  ]);
  for (const text of ["a.example", "ssh://a.example", "https://u:p@a.example", "https://a.example/?x"]) {
    assert.throws(() => parseBaseUrls("X", text), /base URL/, text);
  }
});
