/** Figures of this node in Prometheus' text format. The data plane is asked when somebody scrapes, and never waits. */
import { countDeployments } from "../store/deployments.ts";
import { ofTeam, Reply, type Endpoint } from "./endpoint.ts";

type Samples = Readonly<Record<string, number>>;

export const metricEndpoints: readonly Endpoint[] = [
  ofTeam({
    method: "GET",
    path: "/metrics",
    summary: "Figures of this node for Prometheus",
    access: "read",
    async handle({ context, queue, figures }) {
      const node = await figures();
      const lines = [
        ...family("mayfly_data_plane_up", "gauge", "Whether the data plane has answered.", { "": node === null ? 0 : 1 }),
        ...family("mayfly_deployments", "gauge", "Deployments by state.", await countDeployments(context.store), "state"),
        ...family("mayfly_builds", "gauge", "Builds that run and that wait.", queue.status, "state"),
        ...family("mayfly_disk_free_bytes", "gauge", "Bytes that may still be stored.", { "": await context.blobs.freeBytes() }),
        ...family("mayfly_api_memory_bytes", "gauge", "Resident memory of the control plane.", { "": process.memoryUsage.rss() }),
      ];
      if (node !== null) {
        lines.push(
          ...family("mayfly_requests_total", "counter", "Requests by the class of their status.", node.requests, "status"),
          ...family("mayfly_request_milliseconds_total", "counter", "Time in which requests were answered.", { "": node.durationMs }),
          ...family("mayfly_function_starts_total", "counter", "Answers of Functions by how their instance began.", node.starts, "start"),
          ...family(
            "mayfly_instances",
            "gauge",
            "Instances that live, those of them that rest, and guests that stand by.",
            node.instances,
            "kind",
          ),
          ...family("mayfly_functions", "gauge", "Functions with an instance or a waiting request.", { "": node.functions }),
          ...family("mayfly_queue", "gauge", "Requests that wait for an instance.", { "": node.waiting }),
          ...family("mayfly_instances_memory_megabytes", "gauge", "Memory of all instances.", { "": node.memoryMB }),
        );
      }
      return new Reply("text/plain; version=0.0.4; charset=utf-8", `${lines.join("\n")}\n`);
    },
  }),
];

/** One metric: its samples by the value of `label`. */
function family(name: string, type: "counter" | "gauge", help: string, samples: Samples, label?: string): string[] {
  const lines = Object.entries(samples).map(([value, sample]) => `${name}${label === undefined ? "" : `{${label}="${value}"}`} ${sample}`);
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines];
}
