/** Whether what a build has made speaks of the deployment that it was made for: then no other deployment may have it. */
import type { Deployment } from "../model.ts";

/** Looks in all that a build has made for the names of its deployment. */
export class Mentions {
  readonly #words: readonly Buffer[];
  found = false;

  constructor({ id, host }: Pick<Deployment, "id" | "host">) {
    this.#words = [id, host].map((word) => Buffer.from(word));
  }

  /** @param bytes all of a file, or parts of it in turn, each with the {@link overlap} last bytes of the one before */
  look(bytes: Uint8Array): void {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.found ||= this.#words.some((word) => buffer.includes(word));
  }

  get overlap(): number {
    return Math.max(...this.#words.map((word) => word.length)) - 1;
  }
}
