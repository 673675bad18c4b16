"""Two processes that answer three requests of each connection: the one that accepts it, and one it hands the socket to. Of every
other connection the second answers the first request, else the last two. Logs the second one's number first, then each request by who
answered it."""

import argparse
import os
import socket

from truth import Log


def answer(name, connection, log, count):
    for _ in range(count):
        text = b""
        while not text.endswith(b"\r\n\r\n"):
            text += connection.recv(4096)
        log.line(by=name, path=text.split()[1].decode())
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + b"x" * 10)


def second(way, log):
    while True:
        words, descriptors, _, _ = socket.recv_fds(way, 1, 1)
        if not words:
            return
        with socket.socket(fileno=descriptors[0]) as connection:
            answer("second", connection, log, words[0])
        way.sendall(b".")


def hand_over(way, connection, count):
    socket.send_fds(way, [bytes([count])], [connection.fileno()])
    way.recv(1)


def main():
    words = argparse.ArgumentParser()
    words.add_argument("--log", required=True)
    words.add_argument("--port", type=int, required=True)
    arguments = words.parse_args()
    log = Log(arguments.log)
    way, other_way = socket.socketpair()
    child = os.fork()
    if child == 0:
        way.close()
        second(other_way, log)
        os._exit(0)
    other_way.close()
    log.line(second=child)
    listener = socket.create_server(("127.0.0.1", arguments.port))
    print("ready", flush=True)
    number = 0
    while True:
        connection, _ = listener.accept()
        if number % 2 == 0:
            answer("first", connection, log, 1)
            hand_over(way, connection, 2)
        else:
            hand_over(way, connection, 1)
            answer("first", connection, log, 2)
        connection.close()
        number += 1


main()
