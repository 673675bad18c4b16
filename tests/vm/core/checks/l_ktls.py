"""TLS that the kernel does (ktls_http.py): TCP's positions count its ciphertext, so plaintext is counted apart.
Alerts among the data are none of it. Connections older than the agent as well: their ends have no handshake to
meet by, so there only what is read of each end is judged."""

from run import Lacks

FEATURE = "TLS by the kernel (kTLS)"
PORT, COUNT = 18087, 6
SIDES = (("CLIENT", "ktls_http"), ("SERVER", "ktls_http"))


def start(bench):
    bench.module("tls")
    for cipher in ("gcm", "ctr", "ghash_generic"):
        # What of these is built in, or under another name, is no file.
        bench.module(cipher, optional=True)
    bench.certificate()
    program = bench.tree / "tests/vm/core/ktls_http.py"
    bench.spawn("python3", program, "serve", str(PORT), bench.work / "tls.key", bench.work / "tls.pem")
    bench.until("the server listens", lambda: bench.listens(PORT))
    older = ("python3", program, "ask", str(PORT), "/ktls-older", str(COUNT), bench.work / "go-on")
    bench.older = bench.spawn(*older, ready="ready")


def drive(bench):
    program = bench.tree / "tests/vm/core/ktls_http.py"
    bench.run("python3", program, "ask", str(PORT), "/ktls", str(COUNT))
    (bench.work / "go-on").touch()
    bench.finish(bench.older)


def judge(bench, report):
    spans, older = report.below("/ktls/"), report.below("/ktls-older/")
    hook, why = bench.hook("TLS")
    if hook is None:
        if not spans and not older:
            raise Lacks(f"counted, not read: {why}")
        return [f"TLS is off, and yet there is {report.seen(spans + older)}"], []
    wrong = report.wrong(spans, [(*side, f"/ktls/{i}") for side in SIDES for i in range(COUNT)])
    expected = [(*side, f"/ktls-older/{i}") for side in SIDES for i in range(COUNT)]
    wrong += report.wrong(older, expected, joined=False)
    return wrong[:8], report.seen(spans) + [str(span) for span in older]
