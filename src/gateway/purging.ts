/**
 * Functions that tell the edge what to forget: the runtime puts what `revalidateTag`, `revalidatePath`, `invalidateByTag` and
 * `res.revalidate` name into a header of the response, which no client sees. The response waits until the purge counts, so
 * whoever has it is given nothing older. Each request tells its instance what the others have purged. Invariant: a Function purges its own deployment, nothing else.
 */
import type { Clock } from "../clock.ts";
import type { Functions, Invocation, ResponseHead, ResponseSink, RunningInvocation } from "../functions/functions.ts";
import type { MayflyError } from "../errors.ts";
import type { Manifest } from "../model.ts";
import { purgedHeader, purgeHeader } from "../runtime/protocol.js";
import type { Purge } from "../store/purges.ts";
import { pageTag } from "./prerender.ts";
import type { PurgeLog } from "./purge-log.ts";

/** Names of one response; what is beyond is not purged. */
const tagsMax = 256;
const tagLengthMax = 256;

export class PurgingFunctions implements Pick<Functions, "invoke"> {
  readonly #functions: Pick<Functions, "invoke">;
  readonly #purges: PurgeLog;
  readonly #clock: Clock;

  constructor(functions: Pick<Functions, "invoke">, parts: { readonly purges: PurgeLog; readonly clock: Clock }) {
    this.#functions = functions;
    this.#purges = parts.purges;
    this.#clock = parts.clock;
  }

  invoke(invocation: Invocation, sink: ResponseSink): RunningInvocation {
    const waiting = new WaitingSink(sink, (head) => {
      const named = head.headers.indexOf(purgeHeader);
      if (named === -1 || named % 2 === 1) return null;
      return this.#purges.add(purgesOf(head.headers[named + 1]!, invocation.manifest), this.#clock.now());
    });
    const { projectId, deploymentId } = invocation.manifest;
    const told = this.#purges.told(projectId, deploymentId);
    const telling = told === null ? invocation : { ...invocation, headers: [...invocation.headers, purgedHeader, told] };
    const running = this.#functions.invoke(telling, waiting);
    waiting.running = running;
    return running;
  }
}

/** Passes a response on, from its head on only when what `before` asks for is done. */
class WaitingSink implements ResponseSink {
  /** Not a function that is set anew: such a field keeps dead requests alive (docs/decisions/012-young-garbage.md). */
  running: RunningInvocation | null = null;
  readonly #sink: ResponseSink;
  readonly #before: (head: ResponseHead) => Promise<void> | null;
  /** Calls that wait; null: none has to. */
  #calls: (() => void)[] | null = null;

  constructor(sink: ResponseSink, before: (head: ResponseHead) => Promise<void> | null) {
    this.#sink = sink;
    this.#before = before;
  }

  head(head: ResponseHead): void {
    const doing = this.#before(head);
    if (doing === null) return this.#sink.head(head);
    this.#calls = [() => this.#sink.head(head)];
    // A purge that cannot be written down must not keep the response from its client.
    doing.catch((error: unknown) => console.error("gateway: a purge failed:", error)).finally(() => this.#release());
  }

  #release(): void {
    const calls = this.#calls ?? [];
    this.#calls = null;
    for (const call of calls) call();
    this.running?.resume();
  }

  data(chunk: Buffer): boolean {
    if (this.#calls === null) return this.#sink.data(chunk);
    this.#calls.push(() => void this.#sink.data(chunk));
    return false;
  }

  end(): void {
    if (this.#calls === null) return this.#sink.end();
    this.#calls.push(() => this.#sink.end());
  }

  fail(error: MayflyError): void {
    if (this.#calls === null) return this.#sink.fail(error);
    this.#calls.push(() => this.#sink.fail(error));
  }
}

/** `delete=a,b;invalidate=c;page=/d`, names URL-encoded. It is hostile: what is no purge is left out. */
function purgesOf(value: string, { projectId, deploymentId }: Manifest): readonly Purge[] {
  const purges: Purge[] = [];
  for (const part of value.split(";")) {
    const [mode, names = ""] = part.split("=", 2);
    if (mode !== "delete" && mode !== "invalidate" && mode !== "page") continue;
    for (const name of names.split(",")) {
      const text = decode(name);
      if (text === "" || text.length > tagLengthMax || purges.length === tagsMax) continue;
      const scope = { projectId, deploymentId };
      purges.push(mode === "page" ? { ...scope, tag: pageTag(text), mode: "delete" } : { ...scope, tag: text, mode });
    }
  }
  return purges;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
