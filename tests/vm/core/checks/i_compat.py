"""A 32-bit client (http32.c): each of its ways to send and to receive is a request, socketcall's as well."""

from run import Lacks

FEATURE = "HTTP: 32-bit program"
PORT, WAYS = 18080, 9


def drive(bench):
    program = bench.program("KERNSPAN_VM_HTTP32", "the 32-bit program")
    try:
        bench.connected(PORT, program)
    except OSError as error:
        raise Lacks(f"the kernel runs no 32-bit programs: {error.strerror}") from error


def judge(_bench, report):
    spans = report.below("/compat/")
    sides = (("CLIENT", "http32"), ("SERVER", "nginx"))
    wrong = report.wrong(spans, [(*side, f"/compat/{i}") for side in sides for i in range(WAYS)])
    return wrong, report.seen(spans)
