"""Go on both sides: goroutines on non-blocking sockets."""

from run import Lacks

FEATURE = "HTTP: Go"
PORT, COUNT = 18083, 20


def start(bench):
    if bench.go == "none":
        raise Lacks("no Go on the host that builds")
    bench.spawn(bench.go, "serve", f"127.0.0.1:{PORT}", ready=f"http://127.0.0.1:{PORT}/ready")


def drive(bench):
    bench.run(bench.go, "get", f"http://127.0.0.1:{PORT}/go", str(COUNT))


def judge(_bench, report):
    spans = report.below("/go/")
    expected = [(kind, "core-go", f"/go/{i}") for kind in ("CLIENT", "SERVER") for i in range(COUNT)]
    return report.wrong(spans, expected), report.seen(spans)
