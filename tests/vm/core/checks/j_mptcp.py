"""HTTP over MPTCP on both sides: the spans of TCP."""

import os
import socket

from checks import g_uring
from run import Lacks

FEATURE = "HTTP over MPTCP"
PORT = 18086
IPPROTO_MPTCP = 262


def drive(bench):
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP).close()
    except OSError as error:
        raise Lacks(f"the kernel has no MPTCP: {error.strerror}") from error
    program = bench.program("KERNSPAN_VM_URING", "the program with MPTCP")
    server = bench.spawn(program, "serve", "mptcp", str(PORT), ready="ready")
    bench.run(program, "ask", "mptcp", str(PORT), str(g_uring.CONNECTIONS), str(g_uring.REQUESTS))
    bench.stop(server)


def judge(_bench, report):
    spans = report.on_port("/ring/", PORT)
    # 6.1 does not count what an MPTCP socket received: where more than one message was unread at first sight,
    # the ends stay apart (agent-ebpf/src/socket/mptcp.rs).
    series = tuple(int(part) for part in os.uname().release.split(".")[:2])
    joined = series >= (6, 2)
    # Kernels are compared by the spans alone: whether they are joined is judged here.
    return report.wrong(spans, g_uring.expected(), g_uring.status, joined), [str(span) for span in spans]
