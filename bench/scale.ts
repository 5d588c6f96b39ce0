/** What grows when a deployment does: routing with 1,000 routes and 100,000 static files, and 10,000 deployments in memory. */
import type { Manifest, Output, Route } from "../src/model.ts";
import { compileRoutes, type CompiledRoutes } from "../src/gateway/route.ts";
import type { Figure } from "./table.ts";
import { median } from "./wrk.ts";

const rounds = 5;
const asked = 20_000;

export async function benchScale(): Promise<Figure[]> {
  const figures: Figure[] = [];
  const small = site(10, 100);
  for (const [what, large] of [
    ["1,000 routes", site(1000, 100)],
    ["100,000 static files", site(10, 100_000)],
    ["1,000 routes and 100,000 static files", site(1000, 100_000)],
  ] as const) {
    // The first round is the compiler's.
    resolveUs(small, 100);
    resolveUs(large, 100);
    const timesMs: { readonly small: number; readonly large: number }[] = [];
    for (let round = 0; round < rounds; round++) timesMs.push({ small: resolveUs(small, 100), large: resolveUs(large, 100) });
    figures.push({
      what: `a request's routing with ${what}, against 10 and 100`,
      unit: "µs",
      mayfly: median(timesMs.map((one) => one.large)),
      other: { name: "small", value: median(timesMs.map((one) => one.small)) },
      rounds,
    });
  }
  const before = heapMB();
  const deployments = Array.from({ length: 10_000 }, () => site(10, 10));
  figures.push({ what: "memory of 10,000 compiled deployments", unit: "MB", mayfly: heapMB() - before, other: null, rounds: 1 });
  resolveEachUs(deployments);
  const us = resolveEachUs(deployments);
  figures.push({
    what: "a request's routing among 10,000 deployments, against one",
    unit: "µs",
    mayfly: us,
    other: { name: "one", value: resolveUs(deployments[0]!, 10) },
    rounds: 1,
  });
  return figures;
}

function site(routes: number, files: number): CompiledRoutes {
  const redirects = Array.from({ length: routes }, (_, n): Route => ({
    src: `^/old-${n}(?:/)?$`,
    status: 308,
    headers: { location: `/new-${n}` },
  }));
  const outputs: Record<string, Output> = {};
  for (let n = 0; n < files; n++)
    outputs[`d${n % 100}/f${n}.html`] = { kind: "static", file: { digest: "0".repeat(64), size: 1, mode: 0o100644 } };
  const manifest: Pick<Manifest, "routes" | "outputs" | "caseSensitive"> = {
    routes: [...redirects, { src: "^/(.*)\\.html/?$", status: 308, has: [{ type: "header", key: "x-none" }] }, { handle: "filesystem" }],
    outputs,
    caseSensitive: true,
  };
  return compileRoutes(manifest);
}

function resolveUs(site: CompiledRoutes, files: number): number {
  const begin = performance.now();
  for (let n = 0; n < asked; n++) ask(site, n % files);
  return ((performance.now() - begin) * 1000) / asked;
}

function resolveEachUs(sites: readonly CompiledRoutes[]): number {
  const begin = performance.now();
  for (const [n, one] of sites.entries()) ask(one, n % 10);
  return ((performance.now() - begin) * 1000) / sites.length;
}

function ask(site: CompiledRoutes, n: number): void {
  const { kind } = site.resolve({ method: "GET", host: "a", path: `/d${n % 100}/f${n}.html`, query: "", header: () => undefined });
  if (kind !== "output") throw new Error(`the site answers with ${kind}`);
}

function heapMB(): number {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed / 1_000_000;
}
