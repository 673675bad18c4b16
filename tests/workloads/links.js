// links.py on Node.js: answers /NAME/RID…, calling others on the way through a pool of kept
// connections, while a timer of the same loop calls out on its own.
//
// Logs `served` and `called` (with what was being served, null for the timer).

"use strict";

const fs = require("node:fs");
const http = require("node:http");
const { parseArgs } = require("node:util");

const { values } = parseArgs({
  options: {
    log: { type: "string" },
    name: { type: "string" },
    port: { type: "string" },
    call: { type: "string", multiple: true, default: [] },
    timer: { type: "string", default: "0" },
  },
});
const log = fs.openSync(values.log, "a");
const line = (fact) => fs.writeSync(log, JSON.stringify(fact) + "\n");
const agent = new http.Agent({ keepAlive: true });
const calls = values.call.map((call) => call.split(":"));

function get(port, path) {
  return new Promise((done, failed) => {
    const request = http.get({ port, path, agent, host: "127.0.0.1" }, (answer) => {
      answer.resume();
      answer.on("end", done);
    });
    request.on("error", failed);
  });
}

const sleep = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

async function serve(serving) {
  const [, , rid, edge] = serving.split("/");
  await sleep(0.002 * Math.random());
  for (const [index, [name, port]] of calls.entries()) {
    const path = `/${name}/${rid}/${edge ? edge + "." : ""}${index}`;
    line({ serving, called: path });
    await get(port, path);
  }
  line({ served: serving });
}

async function tick(seconds) {
  for (let number = 0; ; number++) {
    await sleep(seconds);
    const [callee, port] = calls[number % calls.length];
    const path = `/${callee}/timer-${values.name}-${number}/t`;
    line({ serving: null, called: path });
    await get(port, path);
  }
}

const server = http.createServer((request, response) => {
  serve(request.url).then(() => {
    response.setHeader("Content-Length", 3);
    response.end("ok\n");
  });
});
server.listen(Number(values.port), "127.0.0.1", () => {
  console.log("ready");
  if (Number(values.timer) > 0) tick(Number(values.timer));
});
