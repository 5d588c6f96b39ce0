/** Whether a process of this machine lives: decides what of the files that name a pid is left over. */
import { errnoOf } from "./errors.ts";

/** A pid that was given away again counts as alive: then the left-over stays until a later start. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === "EPERM";
  }
}
