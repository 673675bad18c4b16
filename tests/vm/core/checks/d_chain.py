"""curl to nginx to Python to Go: each request is one trace of six spans."""

from run import Lacks

FEATURE = "Traces: curl, nginx, Python, Go"
COUNT = 10
PATH = [("CLIENT", "curl"), ("SERVER", "nginx"), ("CLIENT", "nginx"), ("SERVER", "vmserver"),
        ("CLIENT", "vmserver"), ("SERVER", "core-go")]


def drive(bench):
    if bench.go == "none":
        raise Lacks("no Go on the host that builds")
    for i in range(COUNT):
        bench.curl(f"http://127.0.0.1:18080/chain/{i}")


def judge(_bench, report):
    spans = report.below("/chain/")
    wrong = report.wrong(spans, [(*one, f"/chain/{i}") for one in PATH for i in range(COUNT)])
    for i in range(COUNT):
        one = [span for span in spans if span.path == f"/chain/{i}"]
        roots = [span for span in one if report.parent(span) is None]
        if len(roots) != 1 or len({span.raw["traceId"] for span in one}) != 1:
            wrong.append(f"/chain/{i} is not one trace: {report.seen(one)}")
    return wrong[:8], report.seen(spans)
