/** What the front and the engines that speak its protocols ask of each other. */
import type { Socket } from "node:net";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import type { Exchange } from "./exchange.ts";
import type { DateLine } from "./http1-response.ts";

/** A client's connection, whatever it speaks. */
export interface FrontConnection {
  /** That it goes over; when it closes, the connection is over. */
  readonly socket: Socket;
  /** No request is in hand, at most a part of a head. */
  readonly isSilent: boolean;
  /** When its present phase began, or last got on; milliseconds of the clock. */
  readonly sinceMs: number;
  /** Ends what has taken too long. To be called now and then. */
  check(nowMs: number): void;
  /** Ends the connection in order: at once when no request is in hand, else with the responses in hand. */
  close(): void;
  destroy(): void;
}

/** What a connection needs of the front that it came in by. */
export interface FrontHost {
  readonly config: Config;
  readonly clock: Clock;
  readonly date: DateLine;
  /** The node takes no more requests: each connection ends with its next response. */
  readonly draining: boolean;
  /** Takes an exchange; never throws. */
  answer(exchange: Exchange): void;
}
