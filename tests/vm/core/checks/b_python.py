"""Python on both sides: a thread for each connection, which waits in its receives, and kept connections
of sixteen clients at once, also over a unix socket."""

FEATURE = "HTTP: Python, kept connections, threads that wait"
PORT, CLIENTS, COUNT = 18082, 16, 4

SERVER = """
import http.client, http.server, os, socketserver, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def address_string(self): return "client"
    def log_message(self, *_): pass
    def do_GET(self):
        body = b"python\\n"
        if self.path.startswith("/chain/"):
            far = http.client.HTTPConnection("127.0.0.1", 18083)
            far.request("GET", self.path)
            body = far.getresponse().read()
            far.close()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

class Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

if sys.argv[1].startswith("/"):
    Unix(sys.argv[1], Handler).serve_forever()
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.serve_forever()
"""

CLIENT = """
import http.client, socket, sys, threading

class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])

barrier = threading.Barrier(int(sys.argv[3]))

def work(name):
    place = sys.argv[1]
    link = Unix("localhost") if place.startswith("/") else http.client.HTTPConnection("127.0.0.1", int(place))
    link.connect()
    # All are connected, and all their servers' threads wait, before the first asks.
    barrier.wait()
    for i in range(int(sys.argv[4])):
        link.request("GET", f"{sys.argv[2]}/{name}/{i}")
        assert link.getresponse().read()
    link.close()

threads = [threading.Thread(target=work, args=(n,)) for n in range(int(sys.argv[3]))]
for one in threads: one.start()
for one in threads: one.join()
"""


def start(bench):
    (bench.work / "vmserver.py").write_text(SERVER)
    (bench.work / "vmclient.py").write_text(CLIENT)
    server = bench.work / "vmserver.py"
    bench.spawn("python3", server, str(PORT), ready=f"http://127.0.0.1:{PORT}/ready")
    bench.spawn("python3", server, bench.work / "unix", ready=bench.work / "unix")


def drive(bench):
    client = bench.work / "vmclient.py"
    bench.run("python3", client, str(PORT), "/python", str(CLIENTS), str(COUNT))
    bench.run("python3", client, bench.work / "unix", "/unix", str(CLIENTS), str(COUNT))


def judge(_bench, report):
    spans = report.below("/python/") + report.below("/unix/")
    expected = [
        (kind, service, f"/{way}/{n}/{i}")
        for kind, service in (("CLIENT", "vmclient"), ("SERVER", "vmserver"))
        for way in ("python", "unix")
        for n in range(CLIENTS)
        for i in range(COUNT)
    ]
    return report.wrong(spans, expected), report.seen(spans)
