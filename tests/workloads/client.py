"""A client with one kept connection a thread. Logs each request that it made.

`{n}` becomes the request's number, in paths decimal, in headers 16 hexadecimal digits. `POST:PATH` posts `--body` bytes, or the text of
`--body-file`. Several paths are asked for in turn."""

import argparse
import http.client
import io
import os
import socket
import ssl
import threading
import time

from truth import Log


class Buffered:
    """A socket whose TLS records pass through buffers of the program (as asyncio's do)."""

    def __init__(self, plain, context):
        self.plain = plain
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)
        self.call(self.tls.do_handshake)

    def call(self, function, *arguments):
        while True:
            try:
                result = function(*arguments)
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                got = self.plain.recv(65536)
                if got:
                    self.incoming.write(got)
                else:
                    self.incoming.write_eof()

    def flush(self):
        waiting = self.outgoing.read()
        if waiting:
            self.plain.sendall(waiting)

    def sendall(self, data):
        self.call(self.tls.write, data)

    def makefile(self, *_):
        return io.BufferedReader(Reader(self))

    def close(self):
        self.plain.close()


class Reader(io.RawIOBase):
    def __init__(self, buffered):
        self.buffered = buffered

    def readable(self):
        return True

    def readinto(self, buffer):
        got = self.buffered.call(self.buffered.tls.read, len(buffer))
        buffer[: len(got)] = got
        return len(got)


def connect(arguments):
    """The handshake is made here: a connection that is paused has one."""
    where = (arguments.host, arguments.port)
    if not arguments.tls and not arguments.tls_buffers:
        return http.client.HTTPConnection(*where, timeout=30)
    context = ssl._create_unverified_context()
    if arguments.tls:
        return http.client.HTTPSConnection(*where, timeout=30, context=context)
    connection = http.client.HTTPConnection(*where, timeout=30)
    connection.sock = Buffered(socket.create_connection(where, 30), context)
    return connection


def ask(arguments, log, numbers):
    connection = connect(arguments)
    for number in numbers:
        if arguments.pause_at is not None and number >= arguments.pause_at:
            while not os.path.exists(arguments.pause_for):
                time.sleep(0.01)
        if arguments.until is not None and os.path.exists(arguments.until):
            break
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
    parser.add_argument("--until", help="no request once this file exists")
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--tls-buffers", action="store_true", help="… through MemoryBIO")
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
