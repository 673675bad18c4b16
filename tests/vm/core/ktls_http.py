"""HTTP over TLS 1.3 that the kernel does (TCP_ULP "tls"): OpenSSL makes the handshake in memory, then the keys
go to the socket, and the program sends and receives plaintext by ordinary calls.

ktls_http.py serve PORT KEY CERTIFICATE
ktls_http.py ask PORT PATH COUNT [FILE]     with FILE the requests wait until it is there

Before every second request the client sends an alert that says nothing (no_renegotiation): no data.
"""

import hashlib
import hmac
import os
import socket
import ssl
import struct
import sys
import tempfile
import threading
import time

TCP_ULP, SOL_TLS, TLS_TX, TLS_RX = 31, 282, 1, 2
TLS_SET_RECORD_TYPE, ALERT, DATA = 1, 21, 23
AES_GCM_256 = 52
IGNORED_ALERT, CLOSE_NOTIFY = b"\x01\x64", b"\x01\x00"
# Longer than a TLS record, and read in pieces.
LONG = 40_000


def receive_exactly(sock, count):
    parts = b""
    while len(parts) < count:
        part = sock.recv(count - len(parts))
        if not part:
            raise EOFError("closed in the handshake")
        parts += part
    return parts


def handshake(sock, context, server):
    """OpenSSL's handshake, a record at a time so that nothing of what follows is taken; the secrets."""
    with tempfile.NamedTemporaryFile("r") as keys:
        context.keylog_filename = keys.name
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server else "localhost"
        tls = context.wrap_bio(incoming, outgoing, server_side=server, server_hostname=name)
        done = False
        while not done:
            try:
                tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            if outgoing.pending:
                sock.sendall(outgoing.read())
            if not done:
                header = receive_exactly(sock, 5)
                incoming.write(header + receive_exactly(sock, struct.unpack("!H", header[3:])[0]))
        assert tls.cipher()[0] == "TLS_AES_256_GCM_SHA384", tls.cipher()
        lines = [line.split() for line in keys.read().splitlines() if not line.startswith("#")]
        return {line[0]: bytes.fromhex(line[2]) for line in lines}


def expand(secret, label, length):
    """HKDF-Expand-Label (RFC 8446, section 7.1); one block is enough."""
    label = b"tls13 " + label
    info = struct.pack("!HB", length, len(label)) + label + b"\0" + b"\1"
    return hmac.new(secret, info, hashlib.sha384).digest()[:length]


def to_kernel(sock, secrets, server):
    sock.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
    mine, theirs = ("SERVER", "CLIENT") if server else ("CLIENT", "SERVER")
    for direction, whose in ((TLS_TX, mine), (TLS_RX, theirs)):
        secret = secrets[f"{whose}_TRAFFIC_SECRET_0"]
        iv = expand(secret, b"iv", 12)
        info = struct.pack("=HH", 0x0304, AES_GCM_256) + iv[4:] + expand(secret, b"key", 32) + iv[:4] + bytes(8)
        sock.setsockopt(SOL_TLS, direction, info)


def control(sock, text):
    sock.sendmsg([text], [(SOL_TLS, TLS_SET_RECORD_TYPE, bytes([ALERT]))])


def answer(sock, context):
    to_kernel(sock, handshake(sock, context, True), True)
    # Waits in poll, not in the receive: of a call that is under way when functions are probed (fexit,
    # kprobes) nobody sees the end.
    sock.settimeout(600)
    text = b""
    while True:
        part, notes, _, _ = sock.recvmsg(700, socket.CMSG_SPACE(1))
        if notes and notes[0][2][0] != DATA:
            if part == CLOSE_NOTIFY:
                return
            assert part == IGNORED_ALERT, part
            continue
        if not part:
            return
        text += part
        while b"\r\n\r\n" in text:
            head, text = text.split(b"\r\n\r\n", 1)
            path = head.split()[1]
            body = b"k" * LONG if path.endswith(b"1") else b"ktls " + path
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            # The head alone, and the rest: two calls, two TLS records at least.
            sock.sendall(head)
            sock.sendall(body)


def serve(port, key, certificate):
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        sock, _ = listener.accept()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.load_cert_chain(certificate, key)
        threading.Thread(target=answer, args=(sock, context), daemon=True).start()


def ask(port, path, count, wait=None):
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    to_kernel(sock, handshake(sock, context, False), False)
    print("ready", flush=True)
    while wait and not os.path.exists(wait):
        time.sleep(0.05)
    for i in range(count):
        if i % 2:
            control(sock, IGNORED_ALERT)
        sock.sendall(f"GET {path}/{i} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        text = b""
        while b"\r\n\r\n" not in text:
            text += sock.recv(1000)
        head, body = text.split(b"\r\n\r\n", 1)
        length = int(head.rsplit(b" ", 1)[1])
        while len(body) < length:
            body += sock.recv(1000 if len(body) < 20_000 else 65_536)
        assert len(body) == length, (length, len(body))
    control(sock, CLOSE_NOTIFY)
    sock.close()


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]), sys.argv[3], sys.argv[4])
else:
    ask(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), *sys.argv[5:])
