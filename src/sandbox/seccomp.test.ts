/** The numbers of the filter's program against the kernel's headers, where they are installed. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { seccompNumbers, seccompProgram } from "./seccomp.ts";

const headers = {
  x64: ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"],
  arm64: ["/usr/include/asm-generic/unistd.h"],
};

function numbersIn(paths: readonly string[]): ReadonlyMap<string, number> | null {
  for (const path of paths) {
    try {
      const lines = readFileSync(path, "utf8").matchAll(/^#define __NR(?:3264)?_(\w+)\s+(\d+)$/gm);
      return new Map([...lines].map((match) => [match[1] ?? "", Number(match[2])]));
    } catch {
      // looked for at the next place
    }
  }
  return null;
}

describe("system call filter", () => {
  for (const arch of ["x64", "arm64"] as const) {
    const known = numbersIn(headers[arch]);
    it(`numbers the calls as ${arch} does`, { skip: known === null && "the kernel's headers are not installed" }, () => {
      const own: [string, number | null][] = [
        ...seccompNumbers.denied.map((call): [string, number | null] => [call.name, call[arch]]),
        ...Object.entries(seccompNumbers.judged[arch]),
      ];
      // Headers name what the kernel of their day has: they may be silent about a newer call, and about 32-bit ones they are not.
      const wrong = own.filter(([name, number]) => known?.has(name) === true && !name.endsWith("64") && known.get(name) !== number);
      assert.deepEqual(wrong, []);
      assert.ok(own.filter(([name]) => known?.has(name) === true).length > 60);
    });

    it(`makes a program for ${arch} that always comes to an end`, () => {
      const program = seccompProgram(arch);
      const [load, jumpIfEqual, jumpIfAtLeast, jumpIfAny, give] = [0x20, 0x15, 0x35, 0x45, 0x06];
      const length = program.length / 8;
      assert.ok(length > 100 && length < 4096);
      for (let index = 0; index < length; index++) {
        const code = program.readUInt16LE(index * 8);
        assert.ok([load, jumpIfEqual, jumpIfAtLeast, jumpIfAny, give].includes(code), `instruction ${index}`);
        if (code === load || code === give) continue;
        for (const skip of [program.readUInt8(index * 8 + 2), program.readUInt8(index * 8 + 3)]) assert.ok(index + 1 + skip < length);
      }
      assert.equal(program.readUInt16LE((length - 1) * 8), give);
    });
  }
});
