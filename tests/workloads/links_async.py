"""links.py on one event loop: answers /NAME/RID…, calling others on the way through a pool of kept
connections, while a timer of the same loop calls out on its own.

Logs `served` and `called` (with what was being served, null for the timer)."""

import argparse
import asyncio
import random

from truth import Log


async def head(reader):
    """First line and length of the body; nothing at the end of the connection."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None, 0
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    return lines[0], int(fields.get("content-length", 0))


class Pool:
    """Connections that any request may take."""

    def __init__(self, port):
        self.port = port
        self.idle = []

    async def get(self, path):
        if self.idle:
            reader, writer = self.idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
        status, length = await head(reader)
        await reader.readexactly(length)
        assert status.startswith("HTTP/1.1 200"), (path, status)
        self.idle.append((reader, writer))


class Service:
    def __init__(self, arguments):
        self.name = arguments.name
        self.log = Log(arguments.log)
        pairs = (call.split(":") for call in arguments.call)
        self.calls = [(name, Pool(int(port))) for name, port in pairs]

    async def connection(self, reader, writer):
        while True:
            line, _ = await head(reader)
            if line is None:
                return writer.close()
            path = line.split(" ")[1]
            await self.serve(path)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")

    async def serve(self, serving):
        _, _, rid, *edge = serving.split("/")
        edge = edge[0] + "." if edge else ""
        await asyncio.sleep(random.uniform(0, 0.002))
        for index, (name, pool) in enumerate(self.calls):
            path = f"/{name}/{rid}/{edge}{index}"
            self.log.line(serving=serving, called=path)
            await pool.get(path)
        self.log.line(served=serving)

    async def tick(self, seconds):
        number = 0
        while True:
            await asyncio.sleep(seconds)
            callee, pool = self.calls[number % len(self.calls)]
            path = f"/{callee}/timer-{self.name}-{number}/t"
            self.log.line(serving=None, called=path)
            await pool.get(path)
            number += 1


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--call", action="append", default=[], help="NAME:PORT")
    parser.add_argument("--timer", type=float, default=0, help="seconds between own calls")
    arguments = parser.parse_args()
    service = Service(arguments)
    server = await asyncio.start_server(service.connection, "127.0.0.1", arguments.port)
    print("ready")
    await asyncio.gather(server.serve_forever(), service.tick(arguments.timer))


asyncio.run(main())
