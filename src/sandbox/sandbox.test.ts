/** Every driver of the sandbox against its contract. */
import { sandboxConformance } from "./sandbox.conformance.ts";
import { eachDriver } from "./testbed.ts";

await eachDriver("sandbox", sandboxConformance);
