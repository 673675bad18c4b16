"""A raw HTTP server and client, shape by shape: what an ordinary library never sends.

`shapes.py --port P serve`, and `shapes.py --port P ask [CASE…]`. Each case is a list of steps of
client ("c") and server ("s"); the first bytes of a connection say which it is (`/shape/CASE/…`).

Steps: bytes to send; ("until", text) and ("bytes", n): receive; ("sleep", s); ("eof",): receive
until the other side's end; ("close",) and ("reset",): end."""

import argparse
import socket
import struct
import threading
import time

from truth import Log

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
NONE = b"HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nnone"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def get(case, n=1, method="GET", extra="", target=None):
    target = target or f"/shape/{case}/{n}"
    return f"{method} {target} HTTP/1.1\r\nHost: shapes.test\r\n{extra}\r\n".encode()


CASES = {
    "plain": lambda: [
        ("c", get("plain")), ("s", ("until", b"\r\n\r\n")), ("s", OK), ("c", ("until", b"ok")),
    ],
    "pipelined": lambda: [
        ("c", get("pipelined", 1) + get("pipelined", 2) + get("pipelined", 3)),
        ("s", ("until", b"/3 HTTP/1.1\r\nHost: shapes.test\r\n\r\n")),
        ("s", OK + NONE + OK),
        ("c", ("bytes", 2 * len(OK) + len(NONE))),
    ],
    "chunked": lambda: [
        ("c", get("chunked")), ("s", ("until", b"\r\n\r\n")),
        ("s", CHUNKED), ("s", b"5\r\nhello\r\n"), ("s", b"6;x=y\r\n world\r\n"),
        ("s", b"0\r\nX-Sum: 11\r\n\r\n"), ("c", ("until", b"X-Sum: 11\r\n\r\n")),
        ("c", get("chunked", 2)), ("s", ("until", b"\r\n\r\n")), ("s", OK), ("c", ("until", b"ok")),
    ],
    "chunked-request": lambda: [
        ("c", get("chunked-request", method="POST", extra="Transfer-Encoding: chunked\r\n")),
        ("c", b"3\r\nabc\r\n"), ("c", b"4\r\ndefg\r\n0\r\n\r\n"), ("s", ("until", b"0\r\n\r\n")),
        ("s", OK), ("c", ("until", b"ok")),
        ("c", get("chunked-request", 2)), ("s", ("until", b"\r\n\r\n")), ("s", OK),
        ("c", ("until", b"ok")),
    ],
    "head": lambda: [
        ("c", get("head", method="HEAD")), ("s", ("until", b"\r\n\r\n")),
        ("s", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"), ("c", ("until", b"\r\n\r\n")),
        ("c", get("head", 2)), ("s", ("until", b"\r\n\r\n")), ("s", OK), ("c", ("until", b"ok")),
    ],
    "early-hints": lambda: [
        ("c", get("early-hints")), ("s", ("until", b"\r\n\r\n")),
        ("s", b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"), ("c", ("until", b"\r\n\r\n")),
        ("s", b"HTTP/1.1 102 Processing\r\n\r\n" + OK), ("c", ("until", b"ok")),
    ],
    "expect": lambda: [
        ("c", get("expect", method="PUT", extra="Expect: 100-continue\r\nContent-Length: 5\r\n")),
        ("s", ("until", b"\r\n\r\n")), ("s", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("c", ("until", b"\r\n\r\n")), ("c", b"12345"), ("s", ("until", b"12345")),
        ("s", OK), ("c", ("until", b"ok")),
    ],
    "expect-refused": lambda: [
        ("c", get("expect-refused", method="PUT", extra="Expect: 100-continue\r\nContent-Length: 5\r\n")),
        ("s", ("until", b"\r\n\r\n")),
        ("s", b"HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        ("c", ("until", b"\r\n\r\n")), ("c", ("close",)), ("s", ("eof",)),
    ],
    "no-body": lambda: [
        ("c", get("no-body")), ("s", ("until", b"\r\n\r\n")),
        ("s", b"HTTP/1.1 204 No Content\r\n\r\n"), ("c", ("until", b"\r\n\r\n")),
        ("c", get("no-body", 2)), ("s", ("until", b"\r\n\r\n")),
        ("s", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"), ("c", ("until", b"\r\n\r\n")),
        ("c", get("no-body", 3)), ("s", ("until", b"\r\n\r\n")), ("s", OK), ("c", ("until", b"ok")),
    ],
    "upgrade": lambda: [
        ("c", get("upgrade", extra="Connection: Upgrade\r\nUpgrade: websocket\r\n"
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n")),
        ("s", ("until", b"\r\n\r\n")),
        ("s", b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ("c", ("until", b"\r\n\r\n")),
        ("c", b"\x81\x85\x01\x02\x03\x04igomn"), ("s", ("bytes", 11)), ("s", b"\x81\x05hello"),
        ("c", ("bytes", 7)),
        # Not HTTP any more, whatever it looks like.
        ("c", get("upgrade", 99)), ("s", ("until", b"\r\n\r\n")), ("s", OK), ("c", ("until", b"ok")),
    ],
    "connect": lambda: [
        ("c", b"CONNECT shapes-connect.test:443 HTTP/1.1\r\nHost: shapes-connect.test:443\r\n"
         b"X-Case: /shape/connect/\r\n\r\n"),
        ("s", ("until", b"\r\n\r\n")), ("s", b"HTTP/1.1 200 Connection established\r\n\r\n"),
        ("c", ("until", b"\r\n\r\n")),
        ("c", get("connect", 99)), ("s", ("until", b"\r\n\r\n")), ("s", OK), ("c", ("until", b"ok")),
    ],
    "until-close": lambda: [
        ("c", b"GET /shape/until-close/1 HTTP/1.0\r\nHost: shapes.test\r\n\r\n"),
        ("s", ("until", b"\r\n\r\n")), ("s", b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\n"),
        ("s", b"body " * 50), ("s", b"end"), ("s", ("close",)), ("c", ("eof",)),
    ],
    "absolute": lambda: [
        ("c", get("absolute", target="http://absolute.test:81/shape/absolute/1?q=2")),
        ("s", ("until", b"\r\n\r\n")), ("s", OK), ("c", ("until", b"ok")),
    ],
    "asterisk": lambda: [
        ("c", get("asterisk")), ("s", ("until", b"\r\n\r\n")), ("s", OK), ("c", ("until", b"ok")),
        ("c", get("asterisk", method="OPTIONS", target="*")), ("s", ("until", b"\r\n\r\n")),
        ("s", b"HTTP/1.1 200 OK\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n"),
        ("c", ("until", b"\r\n\r\n")),
    ],
    "long-head": lambda: [
        ("c", get("long-head", extra="".join(f"X-Filler-{n}: {'f' * 90}\r\n" for n in range(100)))),
        ("s", ("until", b"\r\n\r\n")), ("s", OK), ("c", ("until", b"ok")),
        ("c", get("long-head", 2)), ("s", ("until", b"\r\n\r\n")),
        ("s", b"HTTP/1.1 200 OK\r\nX-Filler: " + b"g" * 9000 + b"\r\nContent-Length: 2\r\n\r\nok"),
        ("c", ("until", b"\r\n\r\nok")),
        ("c", get("long-head", 3)), ("s", ("until", b"\r\n\r\n")), ("s", OK), ("c", ("until", b"ok")),
    ],
    "split": lambda: [
        *[("c", bytes([byte])) for byte in get("split")], ("s", ("until", b"\r\n\r\n")),
        *[("s", bytes([byte])) for byte in OK], ("c", ("until", b"ok")),
    ],
    "upload": lambda: [
        ("c", get("upload", method="POST", extra="Content-Length: 70000\r\n")),
        *[("c", b"u" * 7000) for _ in range(10)], ("s", ("until", b"\r\n\r\n")), ("s", ("bytes", 70000)),
        ("s", b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"), ("c", ("until", b"\r\n\r\n")),
        ("c", get("upload", 2)), ("s", ("until", b"\r\n\r\n")), ("s", OK), ("c", ("until", b"ok")),
    ],
    "unknown-method": lambda: [
        ("c", get("unknown-method")), ("s", ("until", b"\r\n\r\n")), ("s", OK), ("c", ("until", b"ok")),
        ("c", get("unknown-method", 2, method="BREW")), ("s", ("until", b"\r\n\r\n")), ("s", OK),
        ("c", ("until", b"ok")),
    ],
    "server-error": lambda: [
        ("c", get("server-error")), ("s", ("until", b"\r\n\r\n")),
        ("s", b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), ("c", ("until", b"\r\n\r\n")),
    ],
    "client-leaves": lambda: [
        ("c", get("client-leaves")), ("s", ("until", b"\r\n\r\n")), ("c", ("sleep", 0.05)),
        ("c", ("close",)), ("s", ("eof",)),
    ],
    "server-resets": lambda: [
        ("c", get("server-resets")), ("s", ("until", b"\r\n\r\n")), ("s", ("reset",)), ("c", ("eof",)),
    ],
    "server-cuts": lambda: [
        ("c", get("server-cuts")), ("s", ("until", b"\r\n\r\n")),
        ("s", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"), ("s", ("close",)),
        ("c", ("eof",)),
    ],
    "timeout": lambda: [
        ("c", get("timeout")), ("s", ("until", b"\r\n\r\n")), ("c", ("sleep", 0.6)),
        ("c", ("close",)), ("s", ("eof",)),
    ],
    "not-http": lambda: [
        ("c", b"\x00\x01/shape/not-http/ binary greeting \xff\r\n\r\n"),
        ("s", ("until", b"\r\n\r\n")), ("s", OK), ("c", ("until", b"ok")),
    ],
}


def run(sock, side, case, seen=b""):
    """Plays one side; `seen` is what has been read but not yet expected."""
    for who, step in case:
        if who != side:
            continue
        if isinstance(step, bytes):
            sock.sendall(step)
        elif step[0] == "until":
            while step[1] not in seen:
                seen += more(sock)
            seen = seen.split(step[1], 1)[1]
        elif step[0] == "bytes":
            while len(seen) < step[1]:
                seen += more(sock)
            seen = seen[step[1]:]
        elif step[0] == "sleep":
            time.sleep(step[1])
        elif step[0] == "eof":
            try:
                while sock.recv(4096):
                    pass
            except ConnectionResetError:
                pass
        elif step[0] == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if step[0] in ("close", "reset"):
            break
    sock.close()


def more(sock):
    got = sock.recv(4096)
    if not got:
        raise EOFError("the other side ended early")
    return got


def serve(port):
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    print("ready")
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=conversation, args=(sock,), daemon=True).start()


def conversation(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    seen = b""
    while b"/shape/" not in seen or seen.count(b"/", seen.index(b"/shape/")) < 3:
        seen += more(sock)
    name = seen[seen.index(b"/shape/"):].split(b"/")[2].decode()
    run(sock, "s", CASES[name](), seen)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("what", choices=["serve", "ask"])
    parser.add_argument("case", nargs="*")
    arguments = parser.parse_args()
    log = Log(arguments.log)
    if arguments.what == "serve":
        serve(arguments.port)
    for name in arguments.case or CASES:
        sock = socket.create_connection(("127.0.0.1", arguments.port), timeout=20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        run(sock, "c", CASES[name]())
        log.line(case=name)


main()
