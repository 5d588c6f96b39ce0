/**
 * Entry of the control plane's process. It gets its order from the data plane over the channel that `fork` made, says
 * when it answers, and closes when the channel does: it never outlives the data plane.
 */
import { MayflyError, messageOf } from "./errors.ts";
import type { NodeFigures } from "./api/endpoint.ts";
import { openControlPlane, type ControlPlaneOrder, type ControlPlaneSign, type FiguresAnswer, type FiguresQuestion } from "./platform.ts";

const log = (line: string): void => void process.stderr.write(`${line}\n`);

// Ctrl-C reaches the whole process group; the data plane decides when to close.
process.on("SIGINT", () => {});

process.once("message", (order) => {
  start(order as ControlPlaneOrder).catch((error: unknown) => {
    const code = error instanceof MayflyError ? error.code : "internal_error";
    process.send?.({ type: "failed", code, message: messageOf(error) } satisfies ControlPlaneSign, () => process.exit(1));
  });
});

/** Longest wait for the data plane's figures: it has requests to answer. */
const figuresMsMax = 1000;
let questions = 0;

function askFigures(): Promise<NodeFigures | null> {
  const number = ++questions;
  return new Promise((resolve) => {
    const end = (figures: NodeFigures | null) => {
      process.off("message", listen);
      clearTimeout(deadline);
      resolve(figures);
    };
    const listen = (message: unknown) => {
      const answer = message as Partial<FiguresAnswer>;
      if (answer.type === "figures" && answer.number === number) end(answer.figures!);
    };
    const deadline = setTimeout(() => end(null), figuresMsMax);
    process.on("message", listen);
    process.send?.({ type: "figures", number } satisfies FiguresQuestion, (error: Error | null) => error !== null && end(null));
  });
}

async function start(order: ControlPlaneOrder): Promise<void> {
  const plane = await openControlPlane(order, log, askFigures);
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
