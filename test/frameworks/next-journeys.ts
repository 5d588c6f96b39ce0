/** What takes more than one request to check of Next.js: regeneration, tags, streaming, actions, shells that are completed. */
import assert from "node:assert/strict";
import { request } from "undici";
import { eventually, type Mayfly } from "../server.ts";

export async function nextJourneys(server: Mayfly, url: string): Promise<readonly string[]> {
  const timeAt = async (path: string): Promise<number> => {
    const { status, text } = await server.fetch(url + path, { headers: { accept: "text/html" } });
    assert.equal(status, 200, text);
    return Number(/<time>(?:<!-- -->)?(\d+)/.exec(text)?.[1]);
  };
  const changes = async (path: string, from: number): Promise<void> => {
    await eventually(`${path} is made anew`, async () => ((await timeAt(path)) > from ? true : null));
  };
  const dataOf = async (path: string): Promise<number> => {
    const { text } = await server.fetch(url + path, { headers: { accept: "text/html" } });
    const buildId = /"buildId":"([^"]+)"/.exec(text)?.[1];
    return JSON.parse((await server.fetch(`${url}/_next/data/${buildId}${path}.json`)).text).pageProps.time;
  };
  const revalidate = async (what: object): Promise<void> => {
    const headers = { "content-type": "application/json" };
    assert.equal((await server.fetch(`${url}/api/revalidate`, { method: "POST", headers, body: JSON.stringify(what) })).status, 200);
  };
  // Made at build time, and made by the first request; both are made anew when they are older than two seconds.
  for (const path of ["/posts/first", "/posts/second"]) await changes(path, await timeAt(path));
  const about = await timeAt("/about");
  assert.equal(await timeAt("/about"), about, "what is static stays");
  await revalidate({ path: "/about" });
  await changes("/about", about);
  const tagged = await timeAt("/tagged");
  assert.equal(await timeAt("/tagged"), tagged, "what is static stays");
  await revalidate({ tag: "now" });
  await changes("/tagged", tagged);
  // The pages router: a page that the build made, and one that its first request made, with their data.
  for (const path of ["/kept", "/kept-of/me"]) {
    const kept = await timeAt(path);
    assert.equal(await timeAt(path), kept, "what is static stays");
    const data = await dataOf(path);
    assert.equal(await dataOf(path), data, "what is static stays");
    const reply = await server.fetch(`${url}/api/revalidate-page?path=${path}`);
    assert.equal(reply.status, 200, reply.text);
    await changes(path, kept);
    await eventually(`the data of ${path} is made anew`, async () => ((await dataOf(path)) > data ? true : null));
  }

  const slow = await request(`${server.api}/slow`, { headers: { host: new URL(url).host, accept: "text/html" } });
  let early = "";
  for await (const chunk of slow.body) {
    early += String(chunk);
    if (early.includes("Waiting")) break;
  }
  assert.ok(early.includes("Early part") && !early.includes("Late part"), early);

  const page = await server.fetch(`${url}/`);
  const action = /name="(\$ACTION_ID_[^"]+)"/.exec(page.text)?.[1];
  assert.ok(action !== undefined, page.text);
  const form = new FormData();
  form.set(action, "");
  form.set("name", "Ada");
  const encoded = new Response(form);
  const done = await server.fetch(`${url}/`, {
    method: "POST",
    headers: { "content-type": encoded.headers.get("content-type")!, origin: url },
    body: Buffer.from(await encoded.arrayBuffer()),
  });
  assert.deepEqual([done.status, /[^/]*$/.exec(String(done.headers["location"]))?.[0]], [303, "Ada"], done.text);
  return ["ISR by time", "revalidatePath", "revalidateTag", "res.revalidate", "streaming", "server action"];
}

/** Cache Components: shells are the edge's, what completes them is one client's; `"use cache"` and its tags. */
export async function partialJourneys(server: Mayfly, url: string): Promise<readonly string[]> {
  const htmlAt = async (path: string, cookie = ""): Promise<string> => {
    const { status, text } = await server.fetch(url + path, { headers: { accept: "text/html", cookie } });
    assert.equal(status, 200, text);
    return text;
  };
  for (const name of ["zelda", "ottilie"]) {
    const streamed = await request(`${server.api}/`, { headers: { host: new URL(url).host, cookie: `name=${name}` } });
    assert.deepEqual(
      [streamed.headers["x-vercel-cache"], streamed.headers["cache-control"]],
      ["PRERENDER", "private, no-cache, no-store, max-age=0, must-revalidate"],
    );
    let early = "";
    for await (const chunk of streamed.body) {
      // The first that comes is the shell, which nobody's name is in.
      if (early === "") assert.match(String(chunk), /^(?=.*Static shell)(?=.*Waiting)(?!.*Late part)/s);
      early += String(chunk);
    }
    assert.match(early, new RegExp(`Late part for (?:<!-- -->)?${name}.*</html>$`, "s"));
    assert.ok((await htmlAt("/blog/first", `name=${name}`)).includes(name));
    assert.ok((await htmlAt("/blog/second", `name=${name}`)).includes(name));
  }
  assert.ok(!/zelda|ottilie/.test(await htmlAt("/")), "nobody is given what is another's");

  const data = { rsc: "1", cookie: "name=zelda" };
  const flight = await server.fetch(`${url}/?_rsc=1`, { headers: data });
  assert.deepEqual([flight.status, flight.headers["content-type"]], [200, "text/x-component"], flight.text);
  assert.match(flight.text, /Late part for.*zelda/s);
  const prefetch = { ...data, "next-router-prefetch": "1", "next-router-segment-prefetch": "/_tree" };
  for (const path of ["/", "/cached", "/blog/first", "/blog/second"]) {
    const segment = await server.fetch(`${url}${path}?_rsc=1`, { headers: prefetch });
    const { status, headers } = segment;
    assert.deepEqual([status, headers["x-nextjs-postponed"], headers["x-vercel-cache"]], [200, "2", "PRERENDER"], path);
    assert.ok(!segment.text.includes("zelda"), path);
  }

  // What `"use cache"` keeps lies in each instance; the tag is revalidated in another Function's.
  const timeAt = async (path: string): Promise<number> => Number(/<time>(\d+)/.exec(await htmlAt(path))?.[1]);
  const both = async (): Promise<number[]> => [await timeAt("/cached"), await timeAt("/mine")];
  const revalidate = async (life: unknown): Promise<void> => {
    const headers = { "content-type": "application/json" };
    const reply = await server.fetch(`${url}/api/revalidate`, { method: "POST", headers, body: JSON.stringify({ tag: "now", life }) });
    assert.equal(reply.status, 200, reply.text);
  };
  let known = await both();
  assert.deepEqual(await both(), known, "kept");
  const changed = async (): Promise<void> => {
    const now = await both();
    assert.ok(now[0]! > known[0]! && now[1]! > known[1]!, `${known.join()} became ${now.join()}`);
    known = now;
  };
  await revalidate({ expire: 0 });
  await changed();
  const last = known;
  await revalidate("max");
  await eventually("both are made anew behind the clients' backs", async () =>
    (await both()).every((time, at) => time > last[at]!) ? true : null,
  );
  known = await both();
  const action = /name="(\$ACTION_ID_[^"]+)"/.exec(await htmlAt("/cached"))?.[1] ?? "";
  const form = new FormData();
  form.set(action, "");
  const encoded = new Response(form);
  const headers = { "content-type": encoded.headers.get("content-type")!, origin: url };
  const done = await server.fetch(`${url}/cached`, { method: "POST", headers, body: Buffer.from(await encoded.arrayBuffer()) });
  assert.ok(Number(/<time>(\d+)/.exec(done.text)?.[1]) > known[0]!, "who has updated it sees it at once");
  await changed();
  return ["streamed rest, one client's own", "navigation data", "segment prefetches", '"use cache", revalidateTag, updateTag'];
}

/** Draft mode, uploads to actions, what is done after the answer, data by tag, streams, intercepted routes, skew protection. */
export async function richJourneys(server: Mayfly, url: string): Promise<readonly string[]> {
  const get = async (path: string, headers: Record<string, string> = {}): Promise<string> => {
    const { status, text } = await server.fetch(url + path, { headers: { accept: "text/html", ...headers } });
    assert.equal(status, 200, text);
    return text;
  };
  const timeOf = (text: string): number => Number(/<time>(?:<!-- -->)?(\d+)/.exec(text)?.[1]);
  assert.match(await get("/draft"), /draft (?:<!-- -->)?off/);
  const enabled = await server.fetch(`${url}/api/draft`);
  const cookie = String(enabled.headers["set-cookie"]).split(";", 1)[0]!;
  assert.match(await get("/draft", { cookie }), /draft (?:<!-- -->)?on/);
  assert.match(await get("/draft"), /draft (?:<!-- -->)?off/, "a draft is kept for nobody");

  const page = await get("/upload");
  const form = new FormData();
  for (const [, name, value] of page.matchAll(/name="(\$ACTION[^"]+)"(?: value="([^"]*)")?/g))
    form.set(name!, (value ?? "").replaceAll("&quot;", '"'));
  const bytes = new Uint8Array(300_000).fill(7);
  form.set("file", new File([bytes], "dot.bin"));
  const encoded = new Response(form);
  const headers = { "content-type": encoded.headers.get("content-type")!, origin: url };
  const uploaded = await server.fetch(`${url}/upload`, { method: "POST", headers, body: Buffer.from(await encoded.arrayBuffer()) });
  assert.match(uploaded.text, /dot\.bin has 300000 bytes, the last 7/);

  await eventually("what is to be done after the answer is done", async () => (/<p>[1-9]/.test(await get("/after")) ? true : null));

  const kept = timeOf(await get("/unstable"));
  assert.equal(timeOf(await get("/unstable")), kept, "unstable_cache keeps it");
  const json = { "content-type": "application/json" };
  await server.fetch(`${url}/api/forget`, { method: "POST", headers: json, body: JSON.stringify({ tag: "unstable" }) });
  assert.ok(timeOf(await get("/unstable")) > kept, "and forgets it by its tag");

  const first = await get("/api/kept");
  assert.equal(await get("/api/kept"), first);
  await server.fetch(`${url}/api/forget`, { method: "POST", headers: json, body: JSON.stringify({ path: "/api/kept" }) });
  assert.notEqual(await get("/api/kept"), first);

  const streamed = await request(`${server.api}/api/stream`, { headers: { host: new URL(url).host } });
  let early = "";
  for await (const chunk of streamed.body) {
    if (early === "") assert.equal(String(chunk), "data: one\n\n");
    early += String(chunk);
  }
  assert.match(early, /three/);

  await eventually("a page that was not known takes the place of its fallback", async () =>
    (await get("/fallback/new")).includes("Fallback new") ? true : null,
  );
  const tree = encodeURIComponent(JSON.stringify(["", { children: ["feed", { children: ["__PAGE__", {}], modal: ["__DEFAULT__", {}] }] }]));
  const flight = { rsc: "1", "next-url": "/feed", "next-router-state-tree": tree };
  assert.match(await get("/feed/1?_rsc=1", flight), /Modal of/);

  assert.match(page, /\?dpl=rich-1"/, "assets name their deployment");
  return [
    "draftMode",
    "upload to a server action",
    "after()",
    "unstable_cache",
    "static route handler",
    "streaming route handler",
    "intercepting routes",
    "deploymentId",
  ];
}

/** The root leads to the language that a browser asks for. */
export async function localeJourneys(server: Mayfly, url: string): Promise<readonly string[]> {
  const german = await server.fetch(`${url}/`, { headers: { "accept-language": "de-DE,de;q=0.9,en;q=0.5" } });
  assert.deepEqual([german.status, String(german.headers["location"]).replace(url, "")], [307, "/de"], german.text);
  const chosen = await server.fetch(`${url}/`, { headers: { "accept-language": "de", cookie: "NEXT_LOCALE=en" } });
  assert.equal(chosen.status, 200);
  return ["locale of Accept-Language and cookie"];
}
