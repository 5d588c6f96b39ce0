/** A restart under load: a second `mayfly start` takes the first one's place, and nobody who asks notices. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { it } from "node:test";
import { Agent, request } from "undici";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import { eventually } from "../server.ts";

const apiPath = "/v2/user";

it("a second start takes over under constant load: no request fails, and one control plane follows the other", async () => {
  const port = await freePort();
  const flags = ["--port", String(port)];
  const first = await startMayfly({ flags });
  const url = await first.deploy(
    projectDirectory({
      "index.html": "static",
      "api/slow.js": "module.exports = async (req, res) => { await new Promise((r) => setTimeout(r, 50)); res.end('slow'); };",
    }),
  );
  const { host } = new URL(url);
  const token = /kept in its home directory\): (\w+)/.exec(first.output)?.[1];

  const stopped = new AbortController();
  const failures: string[] = [];
  let answers = 0;
  const load = async (path: string, expected: string, dispatcher: () => Agent) => {
    while (!stopped.signal.aborted) {
      const agent = dispatcher();
      try {
        const headers = path === apiPath ? { authorization: `Bearer ${token}` } : { host };
        const response = await request(`${first.api}${path}`, { headers, dispatcher: agent });
        const text = await response.body.text();
        // A call of the API that came in by the node that goes may be told to come again; sites are never.
        if (path === apiPath && response.statusCode === 503 && response.headers["retry-after"] !== undefined) continue;
        if (response.statusCode !== 200 || !text.includes(expected)) failures.push(`${path}: ${response.statusCode} ${text}`);
        answers++;
      } catch (error) {
        failures.push(`${path}: ${String(error)}`);
      } finally {
        if (agent !== kept) await agent.close();
      }
    }
  };
  const kept = new Agent({ connections: 4, pipelining: 1 });
  const fresh = () => new Agent({ connections: 1 });
  const loads = [
    load("/", "static", () => kept),
    load("/", "static", fresh),
    load("/api/slow", "slow", () => kept),
    load("/api/slow", "slow", fresh),
  ];
  await eventually("load", () => (answers > 20 ? true : null));

  // The API's callers wait for a moment at worst.
  const calls = load(apiPath, "username", fresh);
  const ended = once(first.process, "exit");
  const second = await startMayfly({ home: first.home, flags });
  assert.deepEqual(await ended, [0, null]);
  const before = answers;
  await eventually("load on the second", () => (answers > before + 20 ? true : null));
  stopped.abort();
  await Promise.all([...loads, calls]);
  await kept.close();
  assert.deepEqual(failures, []);
  assert.match(second.output, /takes its place/);

  // The second one has a control plane of its own, and can be succeeded as well.
  const again = await second.deploy(projectDirectory({ "index.html": "again" }));
  assert.equal((await second.fetch(again)).text, "again");
  assert.equal((await second.fetch(url)).text, "static");
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  // Nobody has taken it meanwhile.
  const socket = connect(port, "127.0.0.1");
  await once(socket, "error");
  return port;
}
