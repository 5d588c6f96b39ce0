/**
 * kill -9 at random moments while deployments are made, as often as 12 s allow and at most 100 times (`npm run test:kills`:
 * 100 times): what was acknowledged is there, nothing half-made is seen.
 */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { request } from "undici";
import { startMayfly } from "../mayfly.ts";
import { childrenOf } from "../memory.ts";
import { eventually } from "../server.ts";

const killsMax = 100;
const killsMin = 2;
const killingMs = Number(process.env["KILLING_MS"] ?? 12_000);
const filesEach = 5;

interface Made {
  readonly id: string;
  readonly url: string;
  readonly texts: readonly string[];
}

it(
  "loses nothing acknowledged and shows nothing half-made, whenever the control plane is killed",
  { timeout: killingMs + 200_000 },
  async (test) => {
    const mayfly = await startMayfly({ flags: ["--sandbox", "process"] });
    const token = Object.values(
      JSON.parse(readFileSync(join(mayfly.home, "config", "mayfly", "credentials.json"), "utf8")) as Record<string, string>,
    )[0]!;
    /** null: nobody answered, or the answer broke off. */
    const call = async (path: string, body?: string | Buffer, headers: Record<string, string> = {}) => {
      try {
        const response = await request(mayfly.api + path, {
          method: body === undefined ? "GET" : "POST",
          headers: { authorization: `Bearer ${token}`, ...headers },
          ...(body === undefined ? {} : { body }),
        });
        const text = await response.body.text();
        return { status: response.statusCode, json: JSON.parse(text) as Record<string, string> & { error?: { code: string } } };
      } catch {
        return null;
      }
    };

    const made: Made[] = [];
    const variables: string[] = [];
    const over = new AbortController();
    assert.equal((await call("/v1/projects", JSON.stringify({ name: "kept" })))?.status, 200);

    /** Makes deployments and variables without end, and notes what was acknowledged. */
    const work = async (worker: number): Promise<void> => {
      for (let round = 0; !over.signal.aborted; round++) {
        const texts = Array.from({ length: filesEach }, () => randomBytes(20 + round).toString("hex"));
        const files = texts.map((text, index) => ({
          file: `f${index}.txt`,
          sha: createHash("sha1").update(text).digest("hex"),
          size: text.length,
        }));
        for (const [index, text] of texts.entries()) {
          const headers = { "x-now-digest": files[index]!.sha, "content-type": "application/octet-stream" };
          while (!over.signal.aborted && (await call("/v2/files", text, headers))?.status !== 200) await pause(50);
        }
        if (over.signal.aborted) return;
        const body = JSON.stringify({ name: `worker-${worker}`, target: "production", files });
        const answer = await call("/v13/deployments", body, { "idempotency-key": `${worker}-${round}` });
        if (answer?.status === 200) made.push({ id: answer.json["id"]!, url: answer.json["url"]!, texts });
        // What was acknowledged is never asked for again.
        else assert.notEqual(answer?.json.error?.code, "missing_files", "an acknowledged upload is gone");
        const key = `V_${worker}_${round}`;
        if ((await call("/v10/projects/kept/env", JSON.stringify({ key, value: "v" })))?.status === 201) variables.push(key);
        await pause(30);
      }
    };
    const workers = [0, 1, 2].map(work);

    const deadline = Date.now() + killingMs;
    let kills = 0;
    while (kills < killsMax && Date.now() < deadline) {
      await eventually("the API answers", async () => ((await call("/v2/user"))?.status === 200 ? true : null));
      await pause(Math.random() * 400);
      const [controlPlane] = childrenOf(mayfly.pid);
      if (controlPlane === undefined) continue;
      process.kill(controlPlane, "SIGKILL");
      kills++;
    }
    over.abort();
    await Promise.all(workers);
    test.diagnostic(`${kills} kills, ${made.length} deployments and ${variables.length} variables acknowledged`);
    assert.ok(kills >= killsMin && made.length > 0);

    await eventually("the API answers", async () => ((await call("/v2/user"))?.status === 200 ? true : null));
    let ready = 0;
    for (const { id, url, texts } of made) {
      const state = await eventually(`${id} is final`, async () => {
        const answer = await call(`/v13/deployments/${id}`);
        assert.notEqual(answer?.status, 404, `${id} is gone`);
        const { readyState } = answer?.json ?? {};
        return readyState === "READY" || readyState === "ERROR" ? readyState : null;
      });
      if (state === "READY") ready++;
      for (const [index, text] of texts.entries()) {
        const reply = await mayfly.fetch(`http://${url}:${mayfly.port}/f${index}.txt`);
        if (state === "READY") assert.deepEqual([reply.status, reply.text], [200, text]);
        else assert.equal(reply.status, 404);
      }
    }
    assert.ok(ready > 0);
    for (const worker of [0, 1, 2]) {
      const mine = await mayfly.fetch(`http://worker-${worker}.localhost:${mayfly.port}/f0.txt`);
      if (mine.status === 200) assert.ok(made.length > 0 && /^[0-9a-f]+$/.test(mine.text), "production is a whole deployment");
      else assert.equal(mine.status, 404);
    }
    const listed = (await call("/v10/projects/kept/env"))!.json["envs"] as unknown as { key: string }[];
    const known = new Set(listed.map(({ key }) => key));
    assert.deepEqual(
      variables.filter((key) => !known.has(key)),
      [],
    );
    assert.deepEqual(readdirSync(join(mayfly.data, "blobs", "incoming")), [], "no half file is left");
  },
);

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
