// An HTTPS server on Node.js, also of versions without util.parseArgs: GET /…/size/N answers N bytes. Without
// a certificate it speaks HTTP.

"use strict";

const fs = require("fs");
const { words } = require("./words.js");

const { port, certificate, key } = words(process.argv);
const secure = certificate !== undefined;
const options = secure ? { cert: fs.readFileSync(certificate), key: fs.readFileSync(key) } : {};
const server = require(secure ? "https" : "http").createServer(options, (request, response) => {
  const size = Number(request.url.split("/").pop());
  response.setHeader("Content-Length", size);
  response.end("x".repeat(size));
});
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 1024 }, () => {
  console.log("ready");
});
