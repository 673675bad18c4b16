"""Answers that wait for their reader when TCP is done, by a reset or in good order (tests/workloads/late_reader.py)."""

FEATURE = "HTTP: answers read after the connection's end"
COUNT = 4
STATUS = {"/half": ("200", 200), "/reset": ("413", 413)}


def drive(bench):
    bench.run("python3", bench.tree / "tests/workloads/late_reader.py", COUNT)


def judge(_bench, report):
    spans = [span for span in report.spans if span.path in STATUS]
    expected = [(kind, "late_reader", path) for kind in ("CLIENT", "SERVER") for path in STATUS for _ in range(COUNT)]
    return report.wrong(spans, expected, STATUS.get), report.seen(spans)
