"""An HTTPS proxy that knows CONNECT: what passes through the tunnel is none of its business."""

import argparse
import select
import socket
import ssl
import threading

parser = argparse.ArgumentParser()
parser.add_argument("--log")
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--certificate", required=True)
parser.add_argument("--key", required=True)
options = parser.parse_args()

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(options.certificate, options.key)


def serve(plain):
    with context.wrap_socket(plain, server_side=True) as client:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(65536)
        host, port = head.split()[1].decode().rsplit(":", 1)
        with socket.create_connection((host, int(port))) as target:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            relay(client, target)


def relay(client, target):
    while True:
        ready = [client] if client.pending() else select.select([client, target], [], [])[0]
        for source, sink in ((client, target), (target, client)):
            if source in ready:
                data = source.recv(65536)
                if not data:
                    return
                sink.sendall(data)


listener = socket.create_server(("127.0.0.1", options.port))
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
