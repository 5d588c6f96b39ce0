/**
 * Compresses the bodies of answers while they pass. What goes in comes out in the same turn of zlib's thread: each chunk is
 * flushed, so a stream is never held up for more to come. Invariant: at most `compressionsMax` hold a compressor's memory
 * (100 to 300 KB each); beyond, answers go out as they are.
 */
import {
  constants,
  createBrotliCompress,
  createGzip,
  createZstdCompress,
  type BrotliCompress,
  type Gzip,
  type ZstdCompress,
} from "node:zlib";
import { codedHeaders, mayBeCoded, negotiate, type Coding } from "./content-coding.ts";
import type { BodyEncoder, CodedSink, Exchange } from "./exchange.ts";

/** Bounds memory; what is compressed on its way is seldom larger. */
const windowBits = 18;

/** Of those that were measured, what costs least time a byte that is saved (a page of 10 KB: 0.2 ms, to a third). */
const open: Readonly<Record<Coding, () => BrotliCompress | ZstdCompress | Gzip>> = {
  br: () =>
    createBrotliCompress({
      flush: constants.BROTLI_OPERATION_FLUSH,
      params: { [constants.BROTLI_PARAM_QUALITY]: 3, [constants.BROTLI_PARAM_LGWIN]: windowBits },
    }),
  zstd: () =>
    createZstdCompress({
      flush: constants.ZSTD_e_flush,
      params: { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_windowLog]: windowBits },
    }),
  gzip: () => createGzip({ flush: constants.Z_SYNC_FLUSH, level: 5 }),
};

export class BodyEncoders {
  readonly #max: number;
  #open = 0;

  constructor({ compressionsMax }: { readonly compressionsMax: number }) {
    this.#max = compressionsMax;
  }

  /** Gives the head of a Function's answer; its body is compressed when it may be and the client wishes it. @throws as {@link Exchange.head} */
  head(exchange: Exchange, status: number, headers: readonly string[]): void {
    if (this.#max === 0 || !mayBeCoded(status, headers, null)) return exchange.head(status, headers);
    const coding = this.#open < this.#max ? negotiate(exchange.header("accept-encoding")) : null;
    exchange.head(status, codedHeaders(headers, coding));
    if (coding !== null && exchange.method !== "HEAD") exchange.encodeBody((sink) => this.#encoder(coding, sink));
    return undefined;
  }

  #encoder(coding: Coding, sink: CodedSink): BodyEncoder {
    this.#open++;
    const stream = open[coding]();
    stream.on("data", (chunk: Buffer) => {
      if (!sink.data(chunk)) stream.pause();
    });
    stream.on("end", () => sink.end());
    stream.on("drain", () => sink.drained());
    stream.on("error", () => sink.fail());
    stream.once("close", () => this.#open--);
    return {
      write: (chunk) => stream.write(chunk),
      end: (chunk) => void (chunk === undefined ? stream.end() : stream.end(chunk)),
      resume: () => void stream.resume(),
      destroy: () => void stream.destroy(),
    };
  }
}
