"""What the workloads share: a log of JSON lines (the ground truth) and an HTTP server base."""

import http.server
import json
import os
import socketserver
import sys
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
        if self.request_version == "HTTP/1.0" and not self.close_connection:
            # ab waits for the end of the connection unless it is told.
            self.send_header("Connection", "keep-alive")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


class Patient:
    """A client that goes away is no failure of the server."""

    request_queue_size = 1024
    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Server(Patient, http.server.ThreadingHTTPServer):
    pass


class UnixServer(Patient, socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    def get_request(self):
        request, _ = super().get_request()
        return request, ("unix", 0)


class UnixHandler:
    """TCP_NODELAY does not exist on a unix socket."""

    disable_nagle_algorithm = False
