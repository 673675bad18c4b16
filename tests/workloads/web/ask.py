"""requests, httpx or aiohttp: LIBRARY REQUESTS CONCURRENCY PACE_MS URL…, so many of each URL, so many at once. With a
pace, one after the other, each so long after the one before began; prints how long each took, in ms."""

import asyncio
import concurrent.futures
import sys
import time

library, requests_each, width, pace = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
urls = sys.argv[5:]


def shares():
    return [requests_each // width + (number < requests_each % width) for number in range(width)]


def paced(once):
    due = time.monotonic()
    for _ in range(requests_each):
        due += pace / 1000
        time.sleep(max(0, due - time.monotonic()))
        begin = time.monotonic()
        once()
        print((time.monotonic() - begin) * 1000)


def blocking():
    """One session a thread."""
    if library == "requests":
        import requests

        session = requests.Session
    else:
        import httpx

        session = httpx.Client

    def once(client, url):
        client.get(url).raise_for_status()

    def some(url, count):
        with session() as client:
            for _ in range(count):
                once(client, url)

    for url in urls:
        if pace:
            with session() as client:
                paced(lambda: once(client, url))
        else:
            with concurrent.futures.ThreadPoolExecutor(width) as pool:
                list(pool.map(lambda count: some(url, count), shares()))


async def looping():
    import aiohttp

    async def once(client, url):
        async with client.get(url) as answer:
            await answer.read()
            answer.raise_for_status()

    async def some(client, url, count):
        for _ in range(count):
            await once(client, url)

    async with aiohttp.ClientSession() as client:
        for url in urls:
            if not pace:
                await asyncio.gather(*(some(client, url, count) for count in shares()))
                continue
            due = time.monotonic()
            for _ in range(requests_each):
                due += pace / 1000
                await asyncio.sleep(max(0, due - time.monotonic()))
                begin = time.monotonic()
                await once(client, url)
                print((time.monotonic() - begin) * 1000)


if library == "aiohttp":
    asyncio.run(looping())
else:
    blocking()
