/** What keeps a server in order, for an owner: clearing away, backups, a new key for secrets. It concerns the whole server. */
import { join, resolve } from "node:path";
import { writeBackup } from "../backup.ts";
import { rotateSecrets } from "../deploy/rotation.ts";
import { ofTeam, type Endpoint } from "./endpoint.ts";
import { boolean, object } from "./schema.ts";

export const maintenanceEndpoints: readonly Endpoint[] = [
  ofTeam({
    method: "POST",
    path: "/mayfly/gc",
    summary: "Clear away old deployments, unused files and old records; with `dryRun` say what would go",
    access: "admin",
    body: object({ dryRun: boolean }),
    handle: ({ maintenance, body }) => maintenance.run({ dryRun: body["dryRun"] === true }),
  }),
  ofTeam({
    method: "POST",
    path: "/mayfly/backup",
    summary: "Write a backup below the data directory; it holds the key of all secrets",
    access: "admin",
    async handle({ maintenance, context: { config, clock } }) {
      const data = resolve(config.data);
      const name = new Date(clock.now()).toISOString().replaceAll(/[:.]/g, "-");
      return maintenance.alone(() => writeBackup(data, join(data, "backups", name), clock.now()));
    },
  }),
  ofTeam({
    method: "POST",
    path: "/mayfly/secrets/rotate",
    summary: "Seal every secret with a new key",
    access: "admin",
    handle: ({ maintenance, context }) => maintenance.alone(() => rotateSecrets(context)),
  }),
];
