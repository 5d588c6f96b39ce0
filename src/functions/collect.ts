/** An invocation whose whole response is held in memory: for who keeps it or looks at it before anybody else does. */
import { MayflyError } from "../errors.ts";
import type { Functions, Invocation, ResponseHead } from "./functions.ts";

export interface CollectedResponse extends ResponseHead {
  readonly body: Buffer;
}

/**
 * Runs one invocation to its end.
 * @param bytesMax of the body
 * @throws MayflyError as `ResponseSink.fail`; FUNCTION_RESPONSE_INVALID when the body is larger
 */
export function collect(functions: Pick<Functions, "invoke">, invocation: Invocation, bytesMax: number): Promise<CollectedResponse> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    let head: ResponseHead;
    const running = functions.invoke(invocation, {
      head: (begun) => (head = begun),
      data(chunk) {
        bytes += chunk.length;
        if (bytes <= bytesMax) chunks.push(chunk);
        else {
          running.cancel();
          reject(
            new MayflyError("FUNCTION_RESPONSE_INVALID", `The response of "${invocation.spec.name}" has more than ${bytesMax} bytes.`),
          );
        }
        return true;
      },
      end: () => resolve({ ...head, body: Buffer.concat(chunks) }),
      fail: reject,
    });
  });
}
