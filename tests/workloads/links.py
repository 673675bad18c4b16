"""One of a chain of services: answers /NAME/RID…, calling others on the way through a pool of
kept connections, while a timer thread calls out on its own.

Logs `served` and `called` (with what was being served, null for the timer)."""

import argparse
import http.client
import queue
import random
import threading
import time

from truth import Handler, Log, Server


class Pool:
    """Connections that any thread may take: the connection says nothing about the request."""

    def __init__(self, port):
        self.port = port
        self.idle = queue.LifoQueue()

    def get(self, path):
        try:
            connection = self.idle.get_nowait()
        except queue.Empty:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, (path, answer.status)
        self.idle.put(connection)


class Service(Handler):
    def do_GET(self):
        service = self.server
        _, _, rid, *edge = self.path.split("/")
        edge = edge[0] + "." if edge else ""
        time.sleep(random.uniform(0, 0.002))
        for index, (name, pool) in enumerate(service.calls):
            path = f"/{name}/{rid}/{edge}{index}"
            service.log.line(serving=self.path, called=path)
            pool.get(path)
        service.log.line(served=self.path)
        self.answer(200, b"ok\n")


def tick(service, name, seconds):
    number = 0
    while True:
        time.sleep(seconds)
        callee, pool = service.calls[number % len(service.calls)]
        path = f"/{callee}/timer-{name}-{number}/t"
        service.log.line(serving=None, called=path)
        pool.get(path)
        number += 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--call", action="append", default=[], help="NAME:PORT")
    parser.add_argument("--timer", type=float, default=0, help="seconds between own calls")
    arguments = parser.parse_args()
    server = Server(("127.0.0.1", arguments.port), Service)
    server.log = Log(arguments.log)
    pairs = (call.split(":") for call in arguments.call)
    server.calls = [(name, Pool(int(port))) for name, port in pairs]
    if arguments.timer:
        threading.Thread(
            target=tick, args=(server, arguments.name, arguments.timer), daemon=True
        ).start()
    print("ready")
    server.serve_forever()


main()
