"""What the workloads share: a log of JSON lines (the ground truth) and an HTTP server base."""

import http.server
import json
import os
import socketserver
import threading


class Log:
    """One line a fact, each written by one write call, so that concurrent lines never mix."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def line(self, **fact):
        fact.setdefault("tid", threading.get_native_id())
        os.write(self.fd, (json.dumps(fact) + "\n").encode())


class Handler(http.server.BaseHTTPRequestHandler):
    """Quiet, HTTP/1.1 with kept connections."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def address_string(self):
        return "peer"

    def answer(self, status, body, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    request_queue_size = 1024
    daemon_threads = True

    def get_request(self):
        request, _ = super().get_request()
        return request, ("unix", 0)


class UnixHandler:
    """TCP_NODELAY does not exist on a unix socket."""

    disable_nagle_algorithm = False
