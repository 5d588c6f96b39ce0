/** Routes to other origins: a proxy that streams, and addresses that it must not reach. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { createServer as createTcpServer, isIP, type AddressInfo } from "node:net";
import { networkInterfaces } from "node:os";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import type { MayflyError } from "../errors.ts";
import { AddressGuard, type Machine } from "./origin.ts";
import { ask, open, openTestbed } from "./testbed.ts";

const allow = { MAYFLY_ORIGIN_ALLOW: "127.0.0.0/8", MAYFLY_ORIGIN_CONNECT_MS_MAX: "2000", MAYFLY_ORIGIN_ANSWER_MS_MAX: "500" };

async function openOrigin(listener: RequestListener) {
  const server = createServer(listener).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    [Symbol.dispose]() {
      server.close();
      server.closeAllConnections();
    },
  };
}

const to = (dest: string) => ({ routes: [{ src: "^/p/(.*)$", dest, headers: { "x-route": "1" } }] });

test("method, path, query, body and headers go through; the platform's own are the platform's", async () => {
  using origin = await openOrigin(async (request, response) => {
    const body = await text(request);
    response
      .setHeader("x-vercel-id", "forged")
      .setHeader("connection", "x-hop")
      .setHeader("x-hop", "1")
      .setHeader("set-cookie", ["a=1", "b=2"]);
    response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.headers, body }));
  });
  await using bed = await openTestbed({ a: to(`${origin.url}/base/$1?own=1`) }, allow);
  const response = await ask(bed, "a.localhost:81", "/p/x%20y?q=1", {
    method: "PUT",
    body: "body",
    headers: {
      "x-own": "1",
      "x-forwarded-for": "6.6.6.6",
      "x-vercel-id": "forged",
      connection: "x-private",
      "x-private": "1",
      authorization: "Bearer x",
    },
  });
  const got = JSON.parse(response.body);
  assert.deepEqual([got.method, got.url, got.body], ["PUT", "/base/x%20y?own=1&q=1", "body"]);
  assert.equal(got.headers.host, `127.0.0.1:${origin.port}`);
  assert.equal(got.headers["x-forwarded-host"], "a.localhost:81");
  assert.equal(got.headers["x-forwarded-for"], "127.0.0.1");
  assert.equal(got.headers["cdn-loop"], "mayfly");
  assert.deepEqual([got.headers["x-own"], got.headers.authorization, got.headers["x-private"]], ["1", "Bearer x", undefined]);
  assert.match(got.headers["x-vercel-id"], /^dev1::/);
  assert.match(String(response.headers["x-vercel-id"]), /^dev1::/);
  assert.deepEqual([response.headers["x-hop"], response.headers["x-route"]], [undefined, "1"]);
  assert.deepEqual(response.headers["set-cookie"], ["a=1", "b=2"]);
  assert.equal((await ask(bed, "a.localhost", "/p/x", { method: "HEAD" })).body, "");
});

test("streams both ways, and a break is seen", async () => {
  using origin = await openOrigin((request, response) => {
    if (request.url === "/break") {
      response.writeHead(200, { "content-length": "100" }).write("part");
      setTimeout(() => response.destroy(), 20);
    } else request.pipe(response);
  });
  await using bed = await openTestbed({ a: to(`${origin.url}/$1`) }, allow);
  const body = Buffer.alloc(3_000_000, "x");
  assert.equal((await ask(bed, "a.localhost", "/p/echo", { method: "POST", body })).body.length, body.length);
  const broken = await open(bed, "a.localhost", "/p/break");
  await assert.rejects(text(broken), /aborted/);
});

describe("what fails has a code", () => {
  const cases: readonly (readonly [string, () => Promise<{ readonly url: string } & Disposable>, number, string])[] = [
    [
      "nobody listens",
      async () => {
        const origin = await openOrigin(() => {});
        origin[Symbol.dispose]();
        return { url: origin.url, [Symbol.dispose]() {} };
      },
      502,
      "ROUTER_EXTERNAL_TARGET_CONNECTION_ERROR",
    ],
    ["never answers", () => openOrigin(() => {}), 504, "ROUTER_EXTERNAL_TARGET_TIMEOUT"],
    ["no HTTP", () => openTcp("nonsense\r\n\r\n"), 502, "ROUTER_EXTERNAL_TARGET_ERROR"],
    [
      "an endless head",
      () => openTcp(`HTTP/1.1 200 OK\r\n${`x: ${"y".repeat(1000)}\r\n`.repeat(100)}`),
      502,
      "ROUTER_EXTERNAL_TARGET_ERROR",
    ],
    ["no TLS", async () => ({ ...(await openTcp("nonsense")), url: "https://127.0.0.1:1234" }), 502, "ROUTER_EXTERNAL_TARGET_"],
    ["no host of this name", async () => ({ url: "http://nowhere.invalid", [Symbol.dispose]() {} }), 502, "DNS_HOSTNAME_"],
    ["another protocol", async () => ({ url: "ftp://127.0.0.1", [Symbol.dispose]() {} }), 502, "ROUTER_EXTERNAL_TARGET_ERROR"],
    ["a mail server's port", async () => ({ url: "http://127.0.0.1:25", [Symbol.dispose]() {} }), 502, "ROUTER_EXTERNAL_TARGET_ERROR"],
  ];
  for (const [name, make, status, code] of cases) {
    test(name, async () => {
      using origin = await make();
      await using bed = await openTestbed({ a: to(`${origin.url}/$1`) }, allow);
      const response = await ask(bed, "a.localhost", "/p/x");
      assert.equal(response.status, status);
      assert(String(response.headers["x-vercel-error"]).startsWith(code), String(response.headers["x-vercel-error"]));
    });
  }

  async function openTcp(bytes: string) {
    const server = createTcpServer((socket) => socket.on("error", () => {}).end(bytes)).listen(0, "127.0.0.1");
    await once(server, "listening");
    return {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      [Symbol.dispose]() {
        server.close();
      },
    };
  }
});

test("a circle of proxies ends", async () => {
  await using bed = await openTestbed(
    { a: { routes: [{ src: "^/(.*)$", dest: "http://127.0.0.1:$port/$1", has: [{ type: "query", key: "port" }] }] }, "127": {} },
    allow,
  );
  const response = await ask(bed, "a.localhost", "/x", { headers: { "cdn-loop": "mayfly, other, mayfly;v=1, mayfly, mayfly, mayfly" } });
  assert.equal(response.status, 404);
  const looped = await ask(bed, "a.localhost", `/x?port=${bed.port}`, {
    headers: { "cdn-loop": "mayfly, other, mayfly;v=1, mayfly, mayfly, mayfly" },
  });
  assert.deepEqual([looped.status, looped.headers["x-vercel-error"]], [508, "INFINITE_LOOP_DETECTED"]);
});

test("no deployment hides that it is one", async () => {
  using origin = await openOrigin((request, response) => response.end(request.headers["cdn-loop"]));
  for (const [op, args] of [
    ["delete", {}],
    ["set", { args: "other" }],
  ] as const) {
    const transforms = [{ type: "request.headers" as const, op, target: { key: "cdn-loop" }, ...args }];
    await using bed = await openTestbed({ a: { routes: [{ src: "^/(.*)$", dest: `${origin.url}/$1`, transforms }] } }, allow);
    assert.equal((await ask(bed, "a.localhost", "/x", { headers: { "cdn-loop": "mayfly, mayfly" } })).body, "mayfly, mayfly, mayfly", op);
  }
});

describe("addresses that no route may reach", () => {
  const guard = new AddressGuard("");
  for (const address of [
    "127.0.0.1",
    "127.255.0.9",
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "169.254.169.254",
    "172.31.255.255",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "fe80::1",
    "fd00:ec2::254",
    "ff02::1",
  ]) {
    test(address, () => assert.equal(guard.allows(address), false));
  }

  test("this machine by any of its addresses; public ones are open", () => {
    for (const own of Object.values(networkInterfaces()).flat()) assert.equal(guard.allows(own!.address), false, own!.address);
    for (const address of ["1.1.1.1", "93.184.216.34", "2606:4700::1111"]) assert.equal(guard.allows(address), true, address);
    assert.equal(new AddressGuard("10.1.0.0/16, fd00::/8").allows("10.1.2.3"), true);
    assert.equal(new AddressGuard("10.1.0.0/16").allows("10.2.0.1"), false);
    assert.throws(() => new AddressGuard("nonsense"), /no network/);
  });

  /** Of a machine on the open network, whose name service says `found` of every name. */
  const guardOf = (...found: readonly string[]): AddressGuard => {
    const answers = found.map((address) => ({ address, family: isIP(address) }));
    const lookup = ((_name: string, _options: object, say: (error: null, all: typeof answers) => void) =>
      say(null, answers)) as Machine["lookup"];
    return new AddressGuard("", { addresses: () => ["127.0.0.1", "93.184.216.34", "2606:4700::1111"], lookup });
  };

  test("this machine by a public address", () => {
    for (const address of ["93.184.216.34", "2606:4700::1111"]) assert.equal(guardOf().allows(address), false, address);
    assert.equal(guardOf().allows("93.184.216.35"), true);
  });

  test("a name that has a private one among its public ones, wherever it stands", async () => {
    const ask = (guard: AddressGuard, all: boolean) =>
      new Promise((resolve) =>
        guard.lookup("name.test", { all }, (error, address) => resolve(error === null ? address : (error as MayflyError).code)),
      );
    const refused = "DNS_HOSTNAME_RESOLVED_PRIVATE";
    for (const all of [true, false]) {
      for (const inside of ["10.0.0.1", "::1", "93.184.216.34"]) {
        for (const found of [[inside], [inside, "1.1.1.1"], ["1.1.1.1", inside], ["1.1.1.1", inside, "1.0.0.1"]]) {
          assert.equal(await ask(guardOf(...found), all), refused, found.join());
        }
      }
      assert.equal(await ask(guardOf(), all), refused);
    }
    assert.equal(await ask(guardOf("1.1.1.1", "1.0.0.1"), false), "1.1.1.1");
    assert.deepEqual(await ask(guardOf("1.1.1.1"), true), [{ address: "1.1.1.1", family: 4 }]);
  });

  test("however it is written, in a route or in the name service", async () => {
    let reached = false;
    using origin = await openOrigin((_request, response) => {
      reached = true;
      response.end("secret");
    });
    for (const host of [
      "127.0.0.1",
      "localhost",
      "[::ffff:127.0.0.1]",
      "2130706433",
      "0x7f.1",
      "017700000001",
      "127.1",
      "[::1]",
      "user@127.0.0.1",
    ]) {
      await using bed = await openTestbed({ a: to(`http://${host}:${origin.port}/$1`) });
      const response = await ask(bed, "a.localhost", "/p/x");
      assert.deepEqual([response.status, response.headers["x-vercel-error"]], [404, "DNS_HOSTNAME_RESOLVED_PRIVATE"], host);
    }
    assert.equal(reached, false);
  });
});
