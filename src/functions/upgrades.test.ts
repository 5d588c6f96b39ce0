/** Upgrades (WebSockets): bytes both ways between client and Function, and what is left afterwards. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { PassThrough } from "node:stream";
import { describe, it } from "node:test";
import { MayflyError } from "../errors.ts";
import { openTestDrivers, Stage, textOf, until, type TestFunction } from "./testbed.ts";

const echo = {
  "index.js": `
    const server = require("node:http").createServer((req, res) => res.end("plain " + process.pid));
    process.on("SIGTERM", () => { console.log("goodbye"); process.exit(); });
    server.on("upgrade", (req, socket, head) => {
      if (req.url === "/refuse") return socket.end("HTTP/1.1 401 Unauthorized\\r\\ncontent-length: 2\\r\\n\\r\\nno");
      socket.write("HTTP/1.1 101 Switching Protocols\\r\\nconnection: Upgrade\\r\\nupgrade: " + req.headers.upgrade + "\\r\\nx-a: 1\\r\\n\\r\\nhello ");
      socket.on("data", (data) => {
        if (String(data) === "bye") socket.end("bye");
        else socket.write("<" + data + ">");
      });
      socket.on("close", () => console.log("closed"));
    });
    server.listen(3000);`,
};

for (const driver of await openTestDrivers()) {
  describe(`upgrades on ${driver.name}`, { timeout: 120_000 }, () => {
    const open = async (stage: Stage, f: TestFunction, body: PassThrough, url = "/") =>
      await stage.begin(f, { url, body, upgrade: "websocket", method: "GET" });

    it("pass bytes both ways until the Function ends them; the instance serves nobody else meanwhile and goes then", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy(echo);
      const body = new PassThrough();
      const { status, headers, body: answer } = await open(stage, f, body);
      assert.deepEqual([status, headers], [101, ["x-a", "1"]]);
      assert.equal(String((await once(answer, "data"))[0]), "hello ");
      for (const word of ["one", "two"]) {
        body.write(word);
        assert.equal(String((await once(answer, "data"))[0]), `<${word}>`);
      }
      assert.match((await stage.call(f)).text, /^plain /);
      assert.equal(stage.pools.status.instances, 2);
      body.write("bye");
      assert.equal(await textOf(answer), "bye");
      await until(() => stage.pools.status.instances === 1);
      // No word of a crash.
      const lines = await stage.log(f, (all) => all.some((line) => line.text === "goodbye"));
      assert.deepEqual(lines.map((line) => line.text).toSorted(), ["closed", "goodbye"]);
    });

    it("end when the client goes, and when the time is over", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy(echo, { maxDurationS: 5 });
      for (const end of ["end", "abort", "time"] as const) {
        const body = new PassThrough();
        const { body: answer } = await open(stage, f, body);
        await once(answer, "data");
        if (end === "end") body.end();
        else if (end === "abort") answer.destroy();
        else {
          answer.once("error", () => {});
          stage.clock.advance(5000);
        }
        await until(() => stage.pools.status.instances === 0);
        if (end === "time") assert.equal((answer.errored as MayflyError).code, "FUNCTION_INVOCATION_TIMEOUT");
      }
    });

    it("can be refused, and are plain requests to a Function that does not listen for them", async () => {
      await using stage = await Stage.open(driver);
      const refused = await open(stage, await stage.deploy(echo), new PassThrough(), "/refuse");
      assert.deepEqual([refused.status, await textOf(refused.body)], [401, "no"]);
      const deaf = await stage.deploy({ "index.js": "module.exports = (req, res) => res.end(String(process.pid));" });
      const plain = await open(stage, deaf, new PassThrough());
      const pid = await textOf(plain.body);
      assert.equal(plain.status, 200);
      await until(() => stage.pools.status.resting === 1);
      assert.equal((await stage.call(deaf)).text, pid);
    });
  });
}
