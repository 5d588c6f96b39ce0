/** Memory of a node that holds thousands of idle connections, and whether it answers beside them. */
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Mayfly } from "../test/server.ts";
import { Sample } from "./sample.ts";
import type { Figure } from "./table.ts";

const countWanted = 9000;

export async function benchConnections(mayfly: Mayfly): Promise<Figure[]> {
  const limit = /Max open files\s+(\d+)/.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
  const count = Math.min(countWanted, Number(limit ?? 1024) - 200);
  const sockets: Socket[] = [];
  const ask = () => mayfly.fetch(`${mayfly.api}/_mayfly/health`);
  const before = new Sample();
  const beside = new Sample();
  try {
    for (let round = 0; round < 300; round++) await before.time(ask);
    await sleep(1000);
    const idleKB = residentKB(mayfly.pid);
    for (let begun = 0; begun < count; begun += 100) {
      const batch = await Promise.all(Array.from({ length: Math.min(100, count - begun) }, () => open(mayfly.port)));
      sockets.push(...batch);
    }
    await sleep(1000);
    const heldKB = residentKB(mayfly.pid);
    for (let round = 0; round < 300; round++) await beside.time(ask);
    return [
      {
        what: `${count} idle connections that have asked once: memory of each`,
        unit: "KB",
        mayfly: (heldKB - idleKB) / count,
        other: null,
        rounds: 1,
      },
      {
        what: `an answer beside them, p50`,
        unit: "ms",
        mayfly: beside.p50,
        other: { name: "without them", value: before.p50 },
        rounds: beside.count,
      },
    ];
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

/** A connection that has had one answer and is kept. */
function open(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write("GET /_mayfly/health HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    socket.once("data", () => resolve(socket)).once("error", reject);
  });
}

function residentKB(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}
