"""A server and a client in Rust over rustls, found at its cipher methods (tests/src/bin/rustls_http.rs)."""

FEATURE = "TLS: rustls"
PORT, COUNT, WIDTH = 18446, 8, 4


def start(bench):
    program = bench.program("KERNSPAN_VM_RUSTLS", "the program with rustls")
    bench.certificate()
    bench.spawn(program, "serve", PORT, bench.work / "tls.pem", bench.work / "tls.key")
    bench.until("the server listens", lambda: bench.listens(PORT))


def drive(bench):
    bench.needs("TLS")
    program = bench.program("KERNSPAN_VM_RUSTLS", "the program with rustls")
    bench.until("it is covered", lambda: bench.covers(program))
    for width in (1, WIDTH):
        bench.run(program, "ask", PORT, f"/rustls/{width}/64", COUNT, width)


def judge(_bench, report):
    spans = report.below("/rustls/")
    expected = [(kind, "rustls_http", f"/rustls/{width}/64")
                for kind in ("CLIENT", "SERVER") for width in (1, WIDTH) for _ in range(COUNT)]
    return report.wrong(spans, expected), report.seen(spans)
