/** Pools of instances in real sandboxes: re-use, bursts, limits, ends. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { PassThrough } from "node:stream";
import { describe, it } from "node:test";
import type { MayflyError } from "../errors.ts";
import type { SandboxSpec } from "../sandbox/sandbox.ts";
import { openTestDrivers, Stage, textOf, until } from "./testbed.ts";

const code = (expected: string) => (error: unknown) => {
  assert.equal((error as MayflyError).code, expected, (error as Error).stack);
  return true;
};

const counter = `
let count = 0;
module.exports = (req, res) => res.send(String(++count));`;

const never = "module.exports = () => {};";

for (const driver of await openTestDrivers()) {
  describe(`functions on ${driver.name}`, { timeout: 120_000 }, () => {
    it("answers, re-uses the instance with its state and its /tmp, and retires it when idle", async () => {
      await using stage = await Stage.open(driver, { instanceIdleMs: 60_000 });
      const f = await stage.deploy({
        "index.js": `
          const { existsSync, writeFileSync } = require("node:fs");
          const { tmpdir } = require("node:os");
          let count = 0;
          module.exports = (req, res) => {
            const file = tmpdir() + "/kept";
            const kept = existsSync(file);
            writeFileSync(file, "");
            res.json({ count: ++count, kept });
          };`,
      });
      const first = await stage.call(f);
      assert.deepEqual([first.start, JSON.parse(first.text)], ["cold", { count: 1, kept: false }]);
      const second = await stage.call(f);
      assert.equal(JSON.parse(second.text).count, 2);
      assert.equal(JSON.parse(second.text).kept, true);
      assert.notEqual(second.start, "cold");
      await restful(stage);
      stage.clock.advance(59_999);
      assert.equal(stage.pools.status.instances, 1);
      await stage.call(f);
      await restful(stage);
      stage.clock.advance(60_001);
      assert.equal(stage.pools.status.instances, 0);
      assert.equal((await stage.call(f)).start, "cold");
    });

    it("takes a guest that stands by, and refills", async () => {
      await using stage = await Stage.open(driver, { poolSize: 1 });
      await until(() => stage.pools.status.standby === 1);
      const f = await stage.deploy({ "index.js": counter });
      assert.equal((await stage.call(f)).text, "1");
      assert.equal(stage.pools.status.standby, 0);
      stage.clock.advance(100);
      await until(() => stage.pools.status.standby === 1);
    });

    it("refills only when nobody waits for a first answer, or after a second", async () => {
      let made = 0;
      const counting = {
        name: driver.name,
        can: driver.can,
        close: () => driver.close(),
        create: (spec: SandboxSpec) => (made++, driver.create(spec)),
      };
      await using stage = await Stage.open(counting, { poolSize: 1 });
      await until(() => stage.pools.status.standby === 1);
      const f = await stage.deploy(
        { "index.js": "module.exports = async (req, res) => { res.write('head'); for await (const _ of req); res.end(); };" },
        { helpers: false },
      );
      const bodies = [new PassThrough(), new PassThrough()];
      const first = await stage.begin(f, { body: bodies[0]! });
      stage.clock.advance(500);
      assert.equal(made, 1);
      stage.clock.advance(1000);
      assert.equal(made, 2);
      await until(() => stage.pools.status.standby === 1);
      const second = await stage.begin(f, { body: bodies[1]! });
      for (const body of bodies) body.end();
      await Promise.all([textOf(first.body), textOf(second.body)]);
      await until(() => stage.pools.status.resting === 2);
      stage.clock.advance(20);
      assert.equal(made, 3);
    });

    it("boots a second instance for a second request at the same time", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy(
        {
          "index.js": `
          let busy = 0;
          module.exports = async (req, res) => {
            busy++;
            const atOnce = busy;
            res.write("head");
            for await (const _ of req);
            busy--;
            res.end(String(atOnce));
          };`,
        },
        { helpers: false },
      );
      const body = [new PassThrough(), new PassThrough()];
      const responses = await Promise.all(body.map((stream) => stage.begin(f, { body: stream })));
      assert.deepEqual(
        responses.map((response) => response.start),
        ["cold", "cold"],
      );
      assert.equal(stage.pools.status.instances, 2);
      for (const stream of body) stream.end("x");
      assert.deepEqual(await Promise.all(responses.map((response) => textOf(response.body))), ["head1", "head1"]);
    });

    it("hands a freed instance to the request that waits, without freezing", async () => {
      await using stage = await Stage.open(driver, { instancesPerFunctionMax: 1 });
      const f = await stage.deploy({ "index.js": counter });
      const answers = await Promise.all([1, 2, 3, 4].map(() => stage.call(f)));
      assert.deepEqual(
        answers.map((answer) => [answer.text, answer.start]),
        [
          ["1", "cold"],
          ["2", "hot"],
          ["3", "hot"],
          ["4", "hot"],
        ],
      );
    });

    it("freezes after the response: timers make no progress until the next request", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy({
        "index.js": `
          let ticks = 0;
          setInterval(() => ticks++, 1);
          module.exports = async (req, res) => {
            const seen = ticks;
            while (ticks < seen + 5) await new Promise((resolve) => setTimeout(resolve, 1));
            res.json({ seen, left: ticks });
          };`,
      });
      const g = await stage.deploy({ "index.js": counter });
      const first = JSON.parse((await stage.call(f)).text);
      // Time passes: an instance of another Function is booted and used.
      await restful(stage);
      await stage.call(g);
      const second = await stage.call(f);
      assert.equal(second.start, "warm");
      const ticks = JSON.parse(second.text).seen - first.left;
      assert.ok(ticks < 20, `${ticks} ticks passed while it should have been frozen`);
    });

    it("waits for waitUntil before it freezes, and counts it to the duration", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy({
        "index.mjs": `
          export function GET(request, { waitUntil }) {
            const context = globalThis[Symbol.for("@vercel/request-context")].get();
            context.waitUntil(new Promise((resolve) => setTimeout(resolve, 30)).then(() => console.log("later", context.url)));
            if (request.url.endsWith("/never")) waitUntil(new Promise(() => {}));
            return new Response("now");
          }`,
      });
      assert.equal((await stage.call(f, { id: "first", url: "/a" })).text, "now");
      const lines = await stage.log(f, (all) => all.length === 1);
      assert.deepEqual([lines[0]!.text, lines[0]!.invocationId], ["later http://test.localhost/a", "first"]);
      assert.equal((await stage.call(f, { id: "second", url: "/never" })).text, "now");
      stage.clock.advance(10_000);
      assert.equal(stage.pools.status.instances, 0);
      await stage.log(f, (all) =>
        all.some((line) => line.stream === "system" && line.invocationId === "second" && /timed out/.test(line.text)),
      );
    });

    it("cuts off what takes longer than its duration, and never uses that instance again", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy(
        {
          "index.js": `
          let count = 0;
          module.exports = (req, res) => {
            count++;
            if (req.url === "/partial") res.write("part");
            else if (req.url !== "/hang") res.end(String(count));
            else console.log("hangs");
          };`,
        },
        { maxDurationS: 5 },
      );
      await stage.call(f);
      const hanging = stage.begin(f, { url: "/hang", id: "hanging" });
      await stage.log(f, (all) => all.some((line) => line.text === "hangs"));
      stage.clock.advance(5000);
      await assert.rejects(hanging, code("FUNCTION_INVOCATION_TIMEOUT"));
      await stage.log(f, (all) => all.some((line) => line.stream === "system" && line.invocationId === "hanging"));
      const after = await stage.call(f);
      assert.deepEqual([after.start, after.text], ["cold", "1"]);

      const partial = await stage.begin(f, { url: "/partial" });
      const [chunk] = (await once(partial.body, "data")) as [Buffer];
      assert.equal(chunk.toString(), "part");
      stage.clock.advance(5000);
      await assert.rejects(once(partial.body, "end"), code("FUNCTION_INVOCATION_TIMEOUT"));
    });

    it("answers a crash, an exit and a full heap by their codes, with the reason in the log", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy(
        {
          "index.js": `
          module.exports = async (req, res) => {
            switch (req.url) {
              case "/throw": throw new Error("thrown on purpose");
              case "/later": return void setTimeout(() => { throw new Error("thrown later"); }, 1);
              case "/reject": return void Promise.reject(new Error("rejected on purpose"));
              case "/exit": process.exit(0);
              case "/exit3": process.exit(3);
              case "/heap": { const kept = []; for (;;) kept.push(new Array(100_000).fill(kept.length)); }
              case "/partial": res.write("part"); setTimeout(() => process.exit(1), 20); return;
              default: res.end("fine");
            }
          };`,
        },
        { memoryMB: 128 },
      );
      const cases: [string, string, RegExp | null][] = [
        ["/throw", "FUNCTION_INVOCATION_FAILED", /Error: thrown on purpose/],
        ["/later", "FUNCTION_INVOCATION_FAILED", /Error: thrown later/],
        ["/reject", "FUNCTION_INVOCATION_FAILED", /Error: rejected on purpose/],
        ["/exit", "NO_RESPONSE_FROM_FUNCTION", null],
        ["/exit3", "FUNCTION_INVOCATION_FAILED", null],
        ["/heap", "FUNCTION_INVOCATION_FAILED", /heap out of memory/],
      ];
      for (const [url, expected, text] of cases) {
        await assert.rejects(stage.call(f, { url, id: url }), code(expected), url);
        const lines = await stage.log(f, (all) => all.some((line) => line.invocationId === url && line.stream === "system"));
        if (text !== null)
          assert.ok(
            lines.some((line) => line.invocationId === url && line.stream === "stderr" && text.test(line.text)),
            url,
          );
        assert.equal((await stage.call(f)).text, "fine");
      }
      await assert.rejects(stage.call(f, { url: "/partial" }), code("FUNCTION_INVOCATION_FAILED"));
    });

    it("delivers what was answered before the instance ended", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy({
        "index.js": `
          module.exports = (req, res) => {
            res.end("answered");
            if (req.url === "/exit") process.exit(0);
            throw new Error("after the answer");
          };`,
      });
      for (let round = 0; round < 5; round++) {
        assert.equal((await stage.call(f, { url: "/exit" })).text, "answered");
        assert.equal((await stage.call(f, { url: "/throw" })).text, "answered");
      }
      await stage.log(f, (all) => all.some((line) => /after the answer/.test(line.text)));
    });

    it("lets the first of two answers stand", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy({
        "index.js": `
          let count = 0;
          module.exports = (req, res) => {
            res.send("first " + ++count);
            res.send("second");
          };`,
      });
      assert.equal((await stage.call(f)).text, "first 1");
      assert.equal((await stage.call(f)).text, "first 2");
      await stage.log(f, (all) => all.some((line) => /ERR_HTTP_HEADERS_SENT/.test(line.text)));
    });

    it("answers every request that waited for code that cannot be loaded, without booting again and again", async () => {
      await using stage = await Stage.open(driver, { bootsMax: 2 });
      for (const source of ["module.exports = (", "throw new Error('at load');", "process.exit(0);", "module.exports = 1;"]) {
        const f = await stage.deploy({ "index.js": source });
        const failed = await Promise.allSettled([1, 2, 3, 4, 5].map((id) => stage.call(f, { id: String(id) })));
        for (const result of failed) {
          assert.equal(result.status, "rejected", source);
          code("FUNCTION_INVOCATION_FAILED")((result as PromiseRejectedResult).reason);
        }
        await stage.log(f, (all) => all.some((line) => line.stream === "system" && line.invocationId !== ""));
        assert.equal(stage.pools.status.instances, 0);
      }
    });

    it("gives up on code that does not finish loading", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy({ "index.mjs": "console.log('loading'); await new Promise((resolve) => setTimeout(resolve, 1e6));" });
      const waiting = stage.call(f);
      await stage.log(f, (all) => all.some((line) => line.text === "loading"));
      stage.clock.advance(10_000);
      await assert.rejects(waiting, code("FUNCTION_INVOCATION_TIMEOUT"));
      assert.equal(stage.pools.status.instances, 0);
    });

    it("streams a response chunk by chunk and a request body as it comes", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy({
        "index.mjs": `
          export const POST = (request) => new Response(request.body.pipeThrough(new TransformStream({
            transform(chunk, controller) { controller.enqueue(new TextEncoder().encode("<" + new TextDecoder().decode(chunk) + ">")); },
          })));`,
      });
      const body = new PassThrough();
      const response = await stage.begin(f, { body });
      for (const word of ["one", "two", "three"]) {
        body.write(word);
        const [chunk] = (await once(response.body, "data")) as [Buffer];
        assert.equal(chunk.toString(), `<${word}>`);
      }
      body.end();
      assert.equal(await textOf(response.body), "");
    });

    it("holds a Function back when nobody reads its response", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy({
        "index.js": `
          module.exports = async (req, res) => {
            const mega = Buffer.alloc(1 << 20, "x");
            for (let sent = 0; sent < 64; sent++) {
              console.log("sends");
              if (!res.write(mega)) await new Promise((resolve) => res.once("drain", resolve));
            }
            res.end();
          };`,
      });
      const response = await stage.begin(f);
      await stage.log(f, (all) => all.length > 0);
      const other = await stage.deploy({ "index.js": counter });
      await stage.call(other);
      const lines = await stage.log(f, () => true);
      assert.ok(lines.length < 10, `${lines.length} MiB are somewhere`);
      let bytes = 0;
      for await (const chunk of response.body) bytes += (chunk as Buffer).length;
      assert.equal(bytes, 64 << 20);
    });

    it("keeps the instance when a Function answers before it has read the request", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy({ "index.js": "let n = 0; module.exports = (req, res) => res.end(String(++n));" }, { helpers: false });
      for (const expected of ["1", "2", "3"]) {
        const body = new PassThrough();
        body.write(Buffer.alloc(100_000));
        const response = await stage.begin(f, { body });
        assert.equal(await textOf(response.body), expected);
        body.end(Buffer.alloc(1_000_000));
        await restful(stage);
      }
    });

    it("lets a Function finish for a client that has gone, and is ready for the next", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy({
        "index.js": `
          let count = 0;
          module.exports = async (req, res) => {
            count++;
            if (req.url === "/save") {
              console.log("begun");
              await new Promise((resolve) => setTimeout(resolve, 200));
              console.log("saved");
            }
            res.end(String(count));
          };`,
      });
      assert.equal((await stage.call(f)).text, "1");
      const client = new AbortController();
      const saving = stage.begin(f, { url: "/save", signal: client.signal });
      await stage.log(f, (all) => all.length > 0);
      client.abort();
      await assert.rejects(saving);
      await stage.log(f, (all) => all.some((line) => line.text === "saved"));
      await restful(stage);
      assert.equal((await stage.call(f)).text, "3");
    });

    it("ends what runs for a client that has gone when its time is over", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy({ "index.js": "module.exports = (req, res) => void console.log('hangs');" }, { maxDurationS: 5 });
      const client = new AbortController();
      const hanging = stage.begin(f, { signal: client.signal });
      await stage.log(f, (all) => all.length > 0);
      client.abort();
      await assert.rejects(hanging);
      assert.equal(stage.pools.status.instances, 1);
      stage.clock.advance(5000);
      assert.equal(stage.pools.status.instances, 0);
    });

    it("ascribes lines to invocations, cuts long ones, and takes what has no newline", async () => {
      await using stage = await Stage.open(driver, { logLineBytesMax: 64 });
      const f = await stage.deploy({
        "index.js": `
          console.log("loading");
          module.exports = (req, res) => {
            console.log("begin", req.url);
            console.error("é".repeat(50));
            process.stdout.write("no newline");
            res.end();
          };`,
      });
      await stage.call(f, { id: "a", url: "/a" });
      await restful(stage);
      await stage.call(f, { id: "b", url: "/b" });
      const lines = await stage.log(f, (all) => all.length === 9);
      const seen = (id: string, stream: string) =>
        lines.filter((line) => line.invocationId === id && line.stream === stream).map((line) => line.text);
      assert.deepEqual(seen("a", "stdout"), ["loading", "begin /a", "no newline"]);
      assert.deepEqual(seen("b", "stdout"), ["begin /b", "no newline"]);
      for (const id of ["a", "b"]) assert.deepEqual(seen(id, "stderr"), ["é".repeat(32), "é".repeat(18)]);
    });

    it("loses no line of a Function that ends at once, and shows its children none of our descriptors", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy({
        "index.js": `
          const { execFileSync } = require("node:child_process");
          module.exports = () => {
            console.log("descriptors", execFileSync("sh", ["-c", "for fd in 3 4; do if (: <&$fd) 2>/dev/null; then echo $fd; fi; done"]).toString());
            for (let line = 0; line < 900; line++) console.log(line, "x".repeat(1000));
            process.exit(0);
          };`,
      });
      await assert.rejects(stage.call(f), code("NO_RESPONSE_FROM_FUNCTION"));
      const lines = await stage.log(f, (all) => all.some((line) => line.stream === "system"));
      assert.equal(lines[0]!.text, "descriptors ");
      assert.equal(lines.filter((line) => line.text.endsWith("xxx")).length, 900);
    });

    it("bounds the queue by length and by time", async () => {
      await using stage = await Stage.open(driver, { instancesPerFunctionMax: 1, queueMax: 2, queueWaitMsMax: 1000 });
      const f = await stage.deploy({ "index.js": never }, { maxDurationS: 60 });
      const busy = stage.begin(f);
      busy.catch(() => {});
      await until(() => stage.pools.status.instances === 1 && stage.pools.status.waiting === 0);
      const queued = [stage.begin(f), stage.begin(f)];
      for (const one of queued) one.catch(() => {});
      await assert.rejects(stage.begin(f), code("FUNCTION_THROTTLED"));
      stage.clock.advance(1000);
      for (const one of queued) await assert.rejects(one, code("FUNCTION_UNAVAILABLE"));
    });

    it("makes room on the node at the cost of what is cheapest to lose", async () => {
      await using stage = await Stage.open(driver, { instancesMax: 2 });
      const [a, b, c] = [
        await stage.deploy({ "index.js": counter }),
        await stage.deploy({ "index.js": counter }),
        await stage.deploy({ "index.js": counter }),
      ];
      // So often that it counts for more than the time that a single boot takes by chance, however busy the machine is.
      const often = 30;
      for (const f of [a, b, ...Array.from({ length: often }, () => a)]) {
        await stage.call(f!);
        await restful(stage);
        stage.clock.advance(10);
      }
      assert.equal((await stage.call(c!)).text, "1");
      assert.equal(stage.pools.status.instances, 2);
      assert.equal((await stage.call(a!)).text, String(often + 2), "a was used often and last, so b had to go");
    });

    it("gives a Function without an instance its turn though another would take all", async () => {
      await using stage = await Stage.open(driver, { instancesMax: 2 });
      const greedy = await stage.deploy({ "index.js": counter });
      const modest = await stage.deploy({ "index.js": counter });
      const enough = new AbortController();
      const clients = Array.from({ length: 8 }, async () => {
        while (!enough.signal.aborted) await stage.call(greedy);
      });
      await until(() => stage.pools.status.instances === 2);
      assert.equal((await stage.call(modest)).text, "1");
      enough.abort();
      await Promise.all(clients);
    });

    it("gives the environment, and keeps that of deployments apart", async () => {
      await using stage = await Stage.open(driver);
      const source = { "index.js": "module.exports = (req, res) => res.json(process.env);" };
      const one = await stage.deploy(source, { env: { SECRET: "one" }, environment: { PLAIN: "p" }, memoryMB: 256 });
      const two = await stage.deploy(source, { env: { SECRET: "two" } });
      const env = JSON.parse((await stage.call(one)).text);
      const { SECRET, PLAIN, VERCEL, VERCEL_ENV, VERCEL_URL, NODE_ENV, TZ, AWS_LAMBDA_FUNCTION_MEMORY_SIZE } = env;
      assert.deepEqual(
        { SECRET, PLAIN, VERCEL, VERCEL_ENV, VERCEL_URL, NODE_ENV, TZ, AWS_LAMBDA_FUNCTION_MEMORY_SIZE },
        {
          SECRET: "one",
          PLAIN: "p",
          VERCEL: "1",
          VERCEL_ENV: "production",
          VERCEL_URL: "test-abc.localhost",
          NODE_ENV: "production",
          TZ: ":UTC",
          AWS_LAMBDA_FUNCTION_MEMORY_SIZE: "256",
        },
      );
      assert.equal(env.MAYFLY_TOKEN, undefined);
      assert.equal(JSON.parse((await stage.call(two)).text).SECRET, "two");
    });

    it("refuses what is no HTTP, and words that nobody asked for", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy({
        "index.js": `
          const { writeSync } = require("node:fs");
          module.exports = (req, res) => {
            if (req.url === "/junk") return void writeSync(4, "SSH-2.0-hello\\r\\n\\r\\n");
            if (req.url === "/control") return void writeSync(3, '{"type":"loaded","ms":1}\\n');
            if (req.url === "/two") writeSync(4, "HTTP/1.1 200 OK\\r\\ncontent-length: 1\\r\\n\\r\\n1HTTP/1.1 200 OK\\r\\ncontent-length: 1\\r\\n\\r\\n2");
            res.end("fine");
          };`,
      });
      await assert.rejects(stage.call(f, { url: "/junk" }), code("FUNCTION_RESPONSE_INVALID"));
      await assert.rejects(stage.call(f, { url: "/control" }), code("FUNCTION_RESPONSE_INVALID"));
      assert.equal((await stage.call(f, { url: "/two" })).text, "1");
      const after = await stage.call(f);
      assert.deepEqual([after.start, after.text], ["cold", "fine"]);
    });

    it("never mixes up responses, whatever clients and Functions do", async () => {
      await using stage = await Stage.open(driver, { instancesPerFunctionMax: 3 });
      const f = await stage.deploy({
        "index.js": `
          module.exports = async (req, res) => {
            const token = req.url.slice(1);
            const kind = token.charCodeAt(0) % 8;
            if (kind === 1) await new Promise((resolve) => setTimeout(resolve, 1));
            if (kind === 2) { res.write(token); await new Promise((resolve) => setImmediate(resolve)); return void res.end(token); }
            res.end(token + token);
            if (kind === 3) res.end("late");
          };`,
      });
      const total = driver.name === "process" ? 3000 : 1500;
      let next = 0;
      let answered = 0;
      const client = async (): Promise<void> => {
        while (next < total) {
          const number = next++;
          const token = `${String.fromCharCode(97 + (number % 26))}${number}`;
          const control = new AbortController();
          if (number % 40 === 7) setImmediate(() => control.abort());
          try {
            const { text } = await stage.call(f, { url: `/${token}`, signal: control.signal });
            assert.equal(text, token + token);
            answered++;
          } catch (error) {
            if (!control.signal.aborted) throw error;
          }
        }
      };
      await Promise.all(Array.from({ length: 8 }, client));
      assert.ok(answered >= total * 0.95, `${answered} of ${total} were answered`);
    });

    it("lets running invocations finish when it closes, and takes no more", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy(
        { "index.js": "module.exports = async (req, res) => { res.write('a'); for await (const _ of req); res.end('b'); };" },
        { helpers: false },
      );
      const body = new PassThrough();
      const response = await stage.begin(f, { body });
      const closing = stage.pools.close(1000);
      await assert.rejects(stage.call(f), code("SHUTTING_DOWN"));
      body.end("x");
      assert.equal(await textOf(response.body), "ab");
      await closing;
      assert.equal(stage.pools.status.instances, 0);
    });
  });
}

/** Waits until no instance is busy: what is free or busy does not count as resting. */
async function restful(stage: Stage): Promise<void> {
  await until(() => stage.pools.status.resting === stage.pools.status.instances);
}
