"""A small web service: demo_service.py PORT [NEXT_URL]

It answers with its own line, and with what the service at NEXT_URL answers when it is given.
"""

import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(sys.argv[1])
NEXT = sys.argv[2] if len(sys.argv) > 2 else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"port {PORT} says hello to {self.path}\n".encode()
        if NEXT:
            with urllib.request.urlopen(NEXT + self.path, timeout=10) as answer:
                body += answer.read()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
