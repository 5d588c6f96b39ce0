/**
 * Entry of the control plane's process. It gets its order from the data plane over the channel that `fork` made, says
 * when it answers, and closes when the channel does: it never outlives the data plane.
 */
import { MayflyError, messageOf } from "./errors.ts";
import { openControlPlane, type ControlPlaneOrder, type ControlPlaneSign } from "./platform.ts";

const log = (line: string): void => void process.stderr.write(`${line}\n`);

// Ctrl-C reaches the whole process group; the data plane decides when to close.
process.on("SIGINT", () => {});

process.once("message", (order) => {
  start(order as ControlPlaneOrder).catch((error: unknown) => {
    const code = error instanceof MayflyError ? error.code : "internal_error";
    process.send?.({ type: "failed", code, message: messageOf(error) } satisfies ControlPlaneSign, () => process.exit(1));
  });
});

async function start(order: ControlPlaneOrder): Promise<void> {
  const plane = await openControlPlane(order, log);
  const close = () => {
    plane.close().then(
      () => process.exit(0),
      (error: unknown) => {
        log(messageOf(error));
        process.exit(1);
      },
    );
  };
  if (!process.connected) return close();
  process.once("disconnect", close);
  process.once("SIGTERM", close);
  process.send?.({ type: "ready", socketPath: plane.socketPath, newToken: plane.newToken } satisfies ControlPlaneSign);
}
