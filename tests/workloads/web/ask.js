// Node's fetch: REQUESTS CONCURRENCY PACE_MS URL…, so many of each URL, so many at once. With a pace, one after the
// other, each so long after the one before began; prints how long each took, in ms.

"use strict";

const [, , requests, width, pace, ...urls] = process.argv;

async function once(url) {
  const response = await fetch(url);
  await response.arrayBuffer();
  if (response.status !== 200) {
    throw new Error(`${url}: ${response.status}`);
  }
}

async function paced(url) {
  let due = performance.now();
  for (let i = 0; i < Number(requests); i += 1) {
    due += Number(pace);
    await new Promise((resolve) => setTimeout(resolve, due - performance.now()));
    const begin = performance.now();
    await once(url);
    console.log(performance.now() - begin);
  }
}

async function wide(url) {
  let left = Number(requests);
  const worker = async () => {
    while (left > 0) {
      left -= 1;
      await once(url);
    }
  };
  await Promise.all(Array.from({ length: Number(width) }, worker));
}

(async () => {
  for (const url of urls) {
    await (Number(pace) > 0 ? paced(url) : wide(url));
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
