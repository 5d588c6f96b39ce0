/**
 * Entry of the control plane's process. It gets its order from the data plane over the channel that `fork` made, says
 * when it answers, and closes when the channel does: it never outlives the data plane. JavaScript, because the first file is
 * read before the cache is on: without it each start takes the types out of every file, and keeps what that needs in memory.
 */
import { enableCompileCache } from "node:module";

/** @import { NodeFigures } from "./api/endpoint.ts" */
/** @import { ControlPlaneOrder, ControlPlaneSign, FiguresAnswer, FiguresQuestion } from "./control-plane-process.ts" */

enableCompileCache();

/** Longest wait for the data plane's figures: it has requests to answer. */
const figuresMsMax = 1000;
let questions = 0;

/** @param {string} line */
const log = (line) => void process.stderr.write(`${line}\n`);

/** @param {ControlPlaneSign} sign */
const say = (sign, sent = () => {}) => process.send?.(sign, sent);

// Ctrl-C reaches the whole process group; the data plane decides when to close.
process.on("SIGINT", () => {});

process.once("message", (order) => {
  start(/** @type {ControlPlaneOrder} */ (order)).catch(async (error) => {
    const { MayflyError, messageOf } = await import("./errors.ts");
    const code = error instanceof MayflyError ? error.code : "internal_error";
    say({ type: "failed", code, message: messageOf(error) }, () => process.exit(1));
  });
});

/** @returns {Promise<NodeFigures | null>} */
function askFigures() {
  const number = ++questions;
  return new Promise((resolve) => {
    const end = (/** @type {NodeFigures | null} */ figures) => {
      process.off("message", listen);
      clearTimeout(deadline);
      resolve(figures);
    };
    const listen = (/** @type {Partial<FiguresAnswer>} */ answer) => {
      if (answer.type === "figures" && answer.number === number) end(answer.figures ?? null);
    };
    const deadline = setTimeout(() => end(null), figuresMsMax);
    process.on("message", listen);
    /** @type {FiguresQuestion} */
    const question = { type: "figures", number };
    process.send?.(question, (/** @type {Error | null} */ error) => error !== null && end(null));
  });
}

/** @param {ControlPlaneOrder} order */
async function start(order) {
  const { openControlPlane } = await import("./control-plane.ts");
  const plane = await openControlPlane(order, log, askFigures);
  const close = () => {
    plane.close().then(
      () => process.exit(0),
      (error) => {
        log(String(error));
        process.exit(1);
      },
    );
  };
  if (!process.connected) return close();
  process.once("disconnect", close);
  process.once("SIGTERM", close);
  say({ type: "ready", socketPath: plane.socketPath, newToken: plane.newToken });
}
