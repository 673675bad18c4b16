"""A client with one kept connection a thread. Logs each request that it made.

`{n}` becomes the request's number, in paths decimal, in headers 16 hexadecimal digits. `POST:PATH` posts `--body` bytes, or the text of
`--body-file`. Several paths are asked for in turn."""

import argparse
import http.client
import os
import threading
import time

from truth import Log


def ask(arguments, log, numbers):
    connection = http.client.HTTPConnection(arguments.host, arguments.port, timeout=30)
    for number in numbers:
        if arguments.pause_at is not None and number >= arguments.pause_at:
            while not os.path.exists(arguments.pause_for):
                time.sleep(0.01)
        path = arguments.path[number % len(arguments.path)].replace("{n}", str(number))
        method, body = "GET", None
        if path.startswith("POST:"):
            method, path, body = "POST", path[5:], arguments.payload
        text = f"{number:016x}"
        headers = {name: value.replace("{n}", text) for name, value in arguments.headers.items()}
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        got = answer.read()
        log.line(
            method=method,
            path=path,
            status=answer.status,
            request_body=len(body or b""),
            response_body=len(got),
        )
    connection.close()


def main():
    parser = argparse.ArgumentParser(fromfile_prefix_chars="@")
    parser.add_argument("--log", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", action="append", required=True)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--body", type=int, default=1000)
    parser.add_argument("--body-text")
    parser.add_argument("--pause-at", type=int, help="before this request …")
    parser.add_argument("--pause-for", help="… wait until this file exists")
    parser.add_argument("--header", action="append", default=[])
    arguments = parser.parse_args()
    arguments.headers = dict(header.split(": ", 1) for header in arguments.header)
    arguments.payload = (arguments.body_text or "b" * arguments.body).encode()
    log = Log(arguments.log)
    first, count, step = arguments.first, arguments.requests, arguments.concurrency
    threads = [
        threading.Thread(target=ask, args=(arguments, log, range(first + t, first + count, step)))
        for t in range(step)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
