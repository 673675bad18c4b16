"""HTTP by io_uring on both sides (tests/src/bin/uring_http.rs): the spans of ordinary calls."""

FEATURE = "HTTP by io_uring"
PORT, CONNECTIONS, REQUESTS = 18084, 4, 8
# The first receive by a ring may be one that only attaches the program which reads it.
NAME = "uring_http"


def drive(bench):
    bench.needs("received packets")
    program = bench.program("KERNSPAN_VM_URING", "the program with io_uring")
    server = bench.spawn(program, "serve", "uring", str(PORT), ready="ready")
    bench.run(program, "ask", "uring", str(PORT), str(CONNECTIONS), str(REQUESTS))
    bench.stop(server)


def expected():
    return [
        (kind, NAME, f"/ring/{n}/{i}")
        for kind in ("CLIENT", "SERVER")
        for n in range(CONNECTIONS)
        for i in range(REQUESTS)
    ]


def status(path):
    """The program's own rule."""
    return ("404", 404) if path.endswith("7") else ("200", 200)


def judge(_bench, report):
    spans = report.on_port("/ring/", PORT)
    return report.wrong(spans, expected(), status), report.seen(spans)
