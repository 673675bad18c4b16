// A client on Node.js: --url URL --requests N over --concurrency kept connections.

"use strict";

const { words } = require("./words.js");

const { url, requests, concurrency } = words(process.argv);
const client = require(url.startsWith("https:") ? "https" : "http");

function ask(agent) {
  return new Promise((resolve, reject) => {
    const request = client.get(url, { agent, rejectUnauthorized: false }, (response) => {
      response.on("data", () => {});
      response.on("end", () => (response.statusCode === 200 ? resolve() : reject(response.statusCode)));
    });
    request.on("error", reject);
  });
}

async function connection(count) {
  const agent = new client.Agent({ keepAlive: true, maxSockets: 1 });
  for (let i = 0; i < count; i += 1) {
    await ask(agent);
  }
  agent.destroy();
}

const width = Number(concurrency);
const share = (number) => Math.floor((Number(requests) + width - 1 - number) / width);
Promise.all(Array.from({ length: width }, (_, number) => connection(share(number)))).catch((error) => {
  console.error(error);
  process.exit(1);
});
