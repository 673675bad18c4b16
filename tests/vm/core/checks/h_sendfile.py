"""nginx with sendfile: bodies that no system call's buffer has, on a kept connection, so that a position that
was off would spoil what follows."""

import nginx

FEATURE = "HTTP: nginx with sendfile"
PORT = 18085
SIZES = [0, 1, 900, 20_000, 300_000, 7]

SERVER = """
        listen 127.0.0.1:18085;
        sendfile on;
        location /sendfile/ {{ alias {home}/www/; }}
"""


def start(bench):
    files = {f"{i}": "x" * size for i, size in enumerate(SIZES)}
    nginx.start(bench, "nginx-sendfile", SERVER, f"http://127.0.0.1:{PORT}/sendfile/0", files)


def drive(bench):
    bench.curl("-o", "/dev/null", *bench.kept(f"http://127.0.0.1:{PORT}/sendfile/", len(SIZES)))


def judge(_bench, report):
    spans = report.below("/sendfile/")
    sides = (("CLIENT", "curl"), ("SERVER", "nginx"))
    wrong = report.wrong(spans, [(*side, f"/sendfile/{i}") for side in sides for i in range(len(SIZES))])
    for span in spans:
        size = SIZES[int(span.path.rsplit("/", 1)[1])]
        if int(span.body or 0) != size:
            wrong.append(f"{span}: a body of {span.body} bytes, {size} expected")
    return wrong[:8], report.seen(spans)
