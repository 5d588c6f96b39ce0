/** The Function that warm-up.js loads and calls, so that the ways which CommonJS handlers take are compiled. */
module.exports = (/** @type {any} */ request, /** @type {any} */ response) => {
  if (request.method === "GET") response.status(200).json({ query: request.query, cookies: request.cookies });
  else response.send(request.body);
};
