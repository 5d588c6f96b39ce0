/** Which hosts lead to a deployment. Pure: the store writes them, the gateway reads them. */
import type { Deployment } from "../model.ts";
import { newHostId } from "../names.ts";

/** `<project>-<id9>.<domain>`: given at creation, never to another deployment. */
export function immutableHost(projectName: string, domain: string): string {
  return `${projectName}-${newHostId()}.${domain}`;
}

/** `<project>.<domain>` */
export function productionHost(projectName: string, domain: string): string {
  return `${projectName}.${domain}`;
}

/** Hosts that point to a deployment from the moment it is ready, besides its immutable one. */
export function aliasHostsOf(deployment: Deployment, domain: string): string[] {
  return deployment.target === "production" ? [productionHost(deployment.name, domain)] : [];
}
