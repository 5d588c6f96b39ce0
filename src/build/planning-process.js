/**
 * The process in which one plan is made (planner.ts). It asks for files by their path, and ends with its parent.
 * JavaScript, because the first file is read before the compile cache is on.
 */
import { enableCompileCache } from "node:module";

/** @import { PlanAnswer, PlanFile, PlanOrder } from "./planner.ts" */

enableCompileCache();
process.on("disconnect", () => process.exit());

/** @type {Map<string, PromiseWithResolvers<Buffer>>} */
const asked = new Map();

/** @param {PlanAnswer} answer */
const say = (answer) => void process.send?.(answer);

/** @param {string} path */
function readFile(path) {
  const waiting = asked.get(path) ?? Promise.withResolvers();
  if (!asked.has(path)) say({ type: "read", path });
  asked.set(path, waiting);
  return waiting.promise;
}

/** @param {PlanFile} file */
function take({ path, bytes, message }) {
  if (bytes !== null) asked.get(path)?.resolve(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  else asked.get(path)?.reject(new Error(message));
  asked.delete(path);
}

process.once("message", async (/** @type {PlanOrder} */ { treeText, ...request }) => {
  process.on("message", take);
  const [{ planBuild }, { MayflyError, messageOf }] = await Promise.all([import("./plan.ts"), import("../errors.ts")]);
  try {
    const tree = JSON.parse(treeText);
    say({ type: "planned", plan: await planBuild({ ...request, tree, readFile }) });
  } catch (error) {
    say({ type: "failed", code: error instanceof MayflyError ? error.code : null, message: messageOf(error) });
  }
});
