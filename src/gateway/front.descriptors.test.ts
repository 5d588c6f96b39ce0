/** A node that has run out of file descriptors: who is connected is served on, who comes is turned away, and all is well once there are some again. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";

const prlimit = "/usr/bin/prlimit";
const openFilesMax = 256;

/** A front on its own, that opens files until no more can be opened, and closes them again. */
const program = `
const { openFront } = await import(${JSON.stringify(join(import.meta.dirname, "front.ts"))});
const { loadConfig } = await import(${JSON.stringify(join(import.meta.dirname, "..", "config.ts"))});
const { systemClock } = await import(${JSON.stringify(join(import.meta.dirname, "..", "clock.ts"))});
const { openSync, closeSync } = await import("node:fs");
const { createInterface } = await import("node:readline");
const parts = { config: loadConfig({ port: "0" }, {}), clock: systemClock, certificates: null };
const front = openFront(parts, (exchange) => exchange.send(200, [], "served"));
const held = [];
createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "hold") {
    try { for (;;) held.push(openSync("/dev/null")); } catch (error) { console.log(error.code); }
  } else {
    for (const descriptor of held.splice(0)) closeSync(descriptor);
    console.log("freed");
  }
}).on("close", () => process.exit());
console.log((await front.listen()).port);
`;

test(
  "without descriptors those who are connected are served, and others again as soon as there are some",
  {
    skip: existsSync(prlimit) ? false : "prlimit limits the descriptors of this test",
  },
  async () => {
    const child = spawn(prlimit, [`--nofile=${openFilesMax}:${openFilesMax}`, process.execPath, "--input-type=module", "--eval", program], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const next = async (): Promise<string> => String((await lines.next()).value);
    const tell = (line: string): Promise<string> => {
      child.stdin.write(`${line}\n`);
      return next();
    };
    try {
      const port = Number(await next());
      const kept = await open(port);
      assert.match(await ask(kept), /served$/);
      let turnedAwayCount = 0;
      for (let round = 0; round < 2; round++) {
        assert.equal(await tell("hold"), "EMFILE");
        for (let turn = 0; turn < 20; turn++) {
          const turnedAway = await open(port);
          // Node itself frees a descriptor now and then.
          const said = await ask(turnedAway);
          if (said === "") turnedAwayCount++;
          else turnedAway.destroy();
          assert.match(await ask(kept), /served$/);
        }
        assert.equal(await tell("free"), "freed");
        const welcome = await open(port);
        assert.match(await ask(welcome), /served$/);
        welcome.destroy();
      }
      kept.destroy();
    } finally {
      child.kill("SIGKILL");
    }
  },
);

function open(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => resolve(socket.off("error", reject).on("error", () => {})));
    socket.once("error", reject);
  });
}

/** One answer; empty: the connection was closed instead. */
function ask(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    const deadline = setTimeout(() => reject(new Error("There is neither an answer nor an end.")), 30_000);
    const done = (text: string): void => {
      clearTimeout(deadline);
      socket.removeAllListeners("data").removeAllListeners("close");
      resolve(text);
    };
    socket.on("data", (chunk: Buffer) => done(chunk.toString("latin1"))).on("close", () => done(""));
    socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  });
}
