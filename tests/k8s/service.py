"""A service in a pod: GET /HOST/REST… asks HOST for /REST… before it answers; what is no host is the end."""

import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        host, _, rest = self.path.strip("/").partition("/")
        body = b"here\n"
        if rest:
            with urllib.request.urlopen(f"http://{host}:8080/{rest}", timeout=10) as answer:
                body = answer.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("0.0.0.0", 8080), Service).serve_forever()
