/**
 * Starts a handler the way a plain server would, and asks it once. The yardstick of cold starts: `node serve-once.cjs
 * HANDLER PATH` prints `answered` when the response is complete; as a module it is the same as a call.
 */
const http = require("node:http");

/** @returns {Promise<number>} status of the answer */
module.exports = (handlerFile, path) => {
  const loaded = require(handlerFile);
  const handler = typeof loaded === "function" ? loaded : loaded.default;
  return new Promise((resolve, reject) => {
    const server = http.createServer((req, res) => {
      res.json ??= (value) => {
        res.setHeader("content-type", "application/json; charset=utf-8");
        res.end(JSON.stringify(value));
      };
      handler(req, res);
    });
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      http
        .get({ port, host: "127.0.0.1", path, headers: { "x-matched-path": path } }, (response) => {
          response.resume();
          response.on("end", () => {
            server.close();
            resolve(response.statusCode);
          });
        })
        .on("error", reject);
    });
  });
};

if (require.main === module) {
  module.exports(process.argv[2], process.argv[3]).then((status) => {
    require("node:fs").writeSync(process.argv[4] === undefined ? 1 : Number(process.argv[4]), `answered ${status}\n`);
    process.exit(0);
  });
}
