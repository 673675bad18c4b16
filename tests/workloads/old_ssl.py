"""A client of a libssl.so.1.1, which it calls itself: DIRECTORY (with the library) PORT PATH COUNT. Asks over one
connection of its own socket, and over one that is a stream among the library's (BIO_f_ssl)."""

import ctypes
import pathlib
import socket
import sys
import time

directory, port, path, count = sys.argv[1:]


def library(name):
    (file,) = pathlib.Path(directory).glob(f"{name}-*.so.1.1")
    return ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)


# libssl names libcrypto only, and finds the one that is there.
crypto, ssl = library("libcrypto"), library("libssl")
for function in (ssl.TLS_client_method, ssl.SSL_CTX_new, ssl.SSL_new, ssl.BIO_new_ssl_connect):
    function.restype = ctypes.c_void_p
crypto.BIO_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p]
CONNECT, SHAKE_HANDS = 100, 101  # BIO_C_SET_CONNECT, BIO_C_DO_STATE_MACHINE


def whole(read):
    """One answer, of whose length its head tells."""
    answer = b""
    buffer = ctypes.create_string_buffer(4096)
    while True:
        head, end, body = answer.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            return answer
        got = read(buffer, len(buffer))
        if got <= 0:
            sys.exit(f"no answer: {got}")
        answer += buffer.raw[:got]


def ask(write, read):
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    for _ in range(int(count)):
        if write(request, len(request)) != len(request):
            sys.exit("not sent")
        if not whole(read).startswith(b"HTTP/1.1 200 "):
            sys.exit("not well")


# A library that comes is covered within that.
time.sleep(0.1)
context = ctypes.c_void_p(ssl.SSL_CTX_new(ctypes.c_void_p(ssl.TLS_client_method())))
with socket.create_connection(("127.0.0.1", int(port))) as sock:
    own = ctypes.c_void_p(ssl.SSL_new(context))
    ssl.SSL_set_fd(own, sock.fileno())
    if ssl.SSL_connect(own) != 1:
        sys.exit("no handshake")
    ask(lambda data, size: ssl.SSL_write(own, data, size), lambda data, size: ssl.SSL_read(own, data, size))
    ssl.SSL_free(own)

stream = ctypes.c_void_p(ssl.BIO_new_ssl_connect(context))
crypto.BIO_ctrl(stream, CONNECT, 0, f"127.0.0.1:{port}".encode())
if crypto.BIO_ctrl(stream, SHAKE_HANDS, 0, None) != 1:
    sys.exit("no handshake of the stream")
ask(
    lambda data, size: crypto.BIO_write(stream, data, size),
    lambda data, size: crypto.BIO_read(stream, data, size),
)
crypto.BIO_free_all(stream)
