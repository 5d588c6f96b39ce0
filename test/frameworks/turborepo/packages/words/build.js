const { mkdirSync, writeFileSync } = require("node:fs");

mkdirSync("dist", { recursive: true });
writeFileSync("dist/index.js", 'exports.greeting = "from a package that was built first";\n');
