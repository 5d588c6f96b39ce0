/** Called when a request fails. */
export function onRequestError(error, { path }) {
  console.log(`noted ${path}: ${error.message}`);
}
