"""Answers that are read after the connection is over.

late_reader.py COUNT [CERTIFICATE KEY]: asks itself so often in each of three ways, and prints the statuses that it read.
- half: the client closes its sending side behind the request; the server answers and closes. The client reads when both
  ends are closed.
- reset: the server answers and closes with input unread, which resets the connection. The client reads after that.
- gone: the client closes before it is answered, and resets the connection within the server's send. The server prints.
With a certificate, over TLS, and only the last of these.
"""

import socket
import ssl
import struct
import sys
import threading
import time

WAIT = 0.05
CERTIFICATE = sys.argv[2:]
# The server has answered one that is gone.
DONE = threading.Semaphore(0)
ANSWER = b"HTTP/1.1 %s\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlater"


def serve(listener):
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(peer,), daemon=True).start()


def encrypted(sock, server):
    if not CERTIFICATE:
        return sock
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    # What 1.3 sends behind the handshake would be unread at the client's end, which resets at once then.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if server:
        context.load_cert_chain(*CERTIFICATE)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock, server_side=server)


def answer(peer):
    with encrypted(peer, True) as peer:
        head = b""
        # A byte at a time: of a body nothing is read.
        while not head.endswith(b"\r\n\r\n"):
            head += peer.recv(1)
        refused = b"/reset" in head
        gone = b"/gone" in head
        if refused or gone:
            # The body is there, or the client has left.
            time.sleep(WAIT / 2)
        peer.sendall(ANSWER % (b"413 Content Too Large" if refused else b"200 OK"))
        if gone:
            print("gone 200" if state(peer) == 7 else f"gone: state {state(peer)}", flush=True)
            DONE.release()


def state(sock):
    return struct.unpack_from("B", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8))[0]


def ask(port, way):
    with encrypted(socket.create_connection(("127.0.0.1", port)), False) as sock:
        body = b"x" * 1000 if way == "reset" else b""
        method = b"POST" if body else b"GET"
        sock.sendall(b"%s /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
                     % (method, way.encode(), len(body), body))
        if way == "gone":
            sock.close()
            DONE.acquire()
            return
        if way == "half":
            sock.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + 10
        while state(sock) != 7:
            if time.monotonic() > deadline:
                sys.exit(f"{way}: the connection is not over: state {state(sock)}")
            time.sleep(0.002)
        time.sleep(WAIT)
        answer = b""
        while not answer.endswith(b"later"):
            piece = sock.recv(4096)
            if not piece:
                sys.exit(f"{way}: {answer} and then nothing")
            answer += piece
        print(way, answer.split()[1].decode(), flush=True)


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    for _ in range(int(sys.argv[1])):
        for way in ("gone",) if CERTIFICATE else ("half", "reset", "gone"):
            ask(listener.getsockname()[1], way)


main()
