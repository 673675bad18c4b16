"""A server and a client in Go over its own crypto/tls, which is linked into them."""

FEATURE = "TLS: Go (crypto/tls)"
PORT, COUNT, WIDTH = 18445, 8, 4


def start(bench):
    program = bench.program("KERNSPAN_VM_GOTLS", "Go's program")
    bench.certificate()
    bench.spawn(program, "--port", PORT, "--certificate", bench.work / "tls.pem", "--key", bench.work / "tls.key",
                ready="ready")


def drive(bench):
    bench.needs("TLS")
    program = bench.program("KERNSPAN_VM_GOTLS", "Go's program")
    bench.until("it is covered", lambda: bench.covers(program))
    url = f"https://127.0.0.1:{PORT}"
    bench.run(program, "--url", f"{url}/go-tls/1", "--requests", COUNT, "--wait", "500ms")
    bench.run(program, "--url", f"{url}/go-tls/{WIDTH}", "--requests", COUNT, "--concurrency", WIDTH, "--wait", "500ms")


def judge(_bench, report):
    spans = report.below("/go-tls/")
    expected = [(kind, "gotls", f"/go-tls/{width}")
                for kind in ("CLIENT", "SERVER") for width in (1, WIDTH) for _ in range(COUNT)]
    return report.wrong(spans, expected), report.seen(spans)
