/** Runs once in each instance, before its first request. */
export function register() {
  globalThis.registered = process.env.NEXT_RUNTIME;
}
