// An HTTPS server on Node.js: GET /…/size/N answers N bytes.

"use strict";

const fs = require("node:fs");
const https = require("node:https");
const { parseArgs } = require("node:util");

const { values } = parseArgs({
  options: {
    log: { type: "string" },
    port: { type: "string" },
    certificate: { type: "string" },
    key: { type: "string" },
  },
});
const options = { cert: fs.readFileSync(values.certificate), key: fs.readFileSync(values.key) };
const server = https.createServer(options, (request, response) => {
  const size = Number(request.url.split("/").pop());
  response.setHeader("Content-Length", size);
  response.end("x".repeat(size));
});
server.listen({ port: Number(values.port), host: "127.0.0.1", backlog: 1024 }, () => {
  console.log("ready");
});
