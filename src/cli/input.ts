/** Standard input: a person who is asked, or a pipe that is read. Hides readline and the terminal's raw mode. */
import type { ReadStream } from "node:tty";
import { MayflyError } from "../errors.ts";
import type { Input } from "./command.ts";

/** Longest input that is read from a pipe, in bytes. */
const pipeBytesMax = 1024 * 1024;

/**
 * @param prompt where the question is written: never standard output, which has results only
 * @param interrupt called at Ctrl-C while a secret is typed: in raw mode that is a key like others
 */
export function inputOf(stdin: ReadStream | NodeJS.ReadStream, prompt: NodeJS.WritableStream, interrupt: () => void): Input {
  return {
    isTerminal: stdin.isTTY === true,

    async ask(question, { hidden = false } = {}) {
      const { createInterface } = await import("node:readline");
      const { Writable } = await import("node:stream");
      prompt.write(question);
      // What readline echoes goes nowhere when it is a secret.
      const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
      const lines = createInterface({ input: stdin, output: hidden ? silent : prompt, terminal: hidden, prompt: "" });
      try {
        return await new Promise<string | undefined>((resolve) => {
          lines.once("line", resolve);
          lines.once("close", () => resolve(undefined));
          if (hidden) lines.once("SIGINT", interrupt);
        });
      } finally {
        lines.close();
        if (hidden) prompt.write("\n");
      }
    },

    async read() {
      const chunks: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of stdin as AsyncIterable<Buffer>) {
        bytes += chunk.byteLength;
        if (bytes > pipeBytesMax) throw new MayflyError("payload_too_large", `Standard input has more than ${pipeBytesMax} bytes.`);
        chunks.push(chunk);
      }
      return Buffer.concat(chunks).toString();
    },
  };
}
