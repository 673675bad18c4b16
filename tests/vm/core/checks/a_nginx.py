"""curl and nginx: a process and a connection for each request."""

import json

import nginx

FEATURE = "HTTP: curl, nginx"
PORT, COUNT = 18080, 10

SERVER = """
        listen 127.0.0.1:18080;
        location / {{ try_files /index.html =404; }}
        location /chain/ {{ proxy_pass http://127.0.0.1:18082; }}
"""


def start(bench):
    nginx.start(bench, "nginx", SERVER, f"http://127.0.0.1:{PORT}/")


def drive(bench):
    for i in range(COUNT):
        bench.curl(f"http://127.0.0.1:{PORT}/nginx/{i}")


def judge(_bench, report):
    spans = report.below("/nginx/")
    sides = (("CLIENT", "curl"), ("SERVER", "nginx"))
    wrong = report.wrong(spans, [(*side, f"/nginx/{i}") for side in sides for i in range(COUNT)])
    runs = [r for r in report.logs if r.get("eventName") == "process.exec" and "/nginx/" in json.dumps(r)]
    if len(runs) != COUNT:
        wrong.append(f"{len(runs)} exec records of curl, {COUNT} expected")
    return wrong, report.seen(spans)
