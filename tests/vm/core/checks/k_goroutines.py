"""A Go handler that asks from goroutines of its own: what they ask has the handler's request as parent."""

from run import Lacks

FEATURE = "Links: Go handler, goroutines, client calls"
COUNT, WIDTH = 6, 3


def drive(bench):
    if bench.go == "none":
        raise Lacks("no Go on the host that builds")
    bench.needs("goroutines")
    # Kept connections, so that the client's goroutines are older than the requests.
    for i in range(COUNT):
        bench.curl(f"http://127.0.0.1:18083/fan/{i}")


def judge(_bench, report):
    spans = report.below("/fan/")
    expected = [(kind, service, f"/fan/{i}") for kind, service in (("CLIENT", "curl"), ("SERVER", "core-go"))
                for i in range(COUNT)]
    expected += [(kind, service, f"/fan/{i}/{n}") for kind, service in
                 (("CLIENT", "core-go"), ("SERVER", "vmserver")) for i in range(COUNT) for n in range(WIDTH)]
    wrong = report.wrong(spans, expected)
    for span in spans:
        if span.kind != "CLIENT" or span.service != "core-go":
            continue
        parent = report.parent(span)
        if parent is None or parent.kind != "SERVER" or not span.path.startswith(parent.path + "/"):
            wrong.append(f"{span} has the parent {parent}")
    return wrong[:8], report.seen(spans)
