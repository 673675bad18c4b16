// GET /…/size/N answers N bytes, POST what it got, else 404. `node sizes.js PORT`.

"use strict";

const server = require("http").createServer((request, response) => {
  const reply = (status, body) => {
    response.writeHead(status, { "Content-Type": "text/plain", "Content-Length": body.length });
    response.end(body);
  };
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    const size = /\/size\/(\d+)$/.exec(request.url.split("?")[0]);
    if (request.method === "POST") {
      reply(200, Buffer.concat(pieces));
    } else if (size) {
      reply(200, Buffer.alloc(Number(size[1]), "x"));
    } else {
      reply(404, Buffer.from("nothing here\n"));
    }
  });
});
server.listen(Number(process.argv[2]), "0.0.0.0");
