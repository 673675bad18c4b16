"""curl and nginx: a process and a connection for each request."""

import json

FEATURE = "HTTP: curl, nginx"
PORT, COUNT = 18080, 20

CONFIG = """
user root;
worker_processes 1;
daemon off;
pid {work}/nginx.pid;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {work}/www;
        location / {{ try_files /index.html =404; }}
        location /chain/ {{ proxy_pass http://127.0.0.1:18082; }}
    }}
}}
"""


def start(bench):
    (bench.work / "www").mkdir()
    (bench.work / "www/index.html").write_text("hello\n")
    config = bench.work / "nginx.conf"
    config.write_text(CONFIG.format(work=bench.work, port=PORT))
    bench.spawn("nginx", "-e", bench.work / "nginx-error.log", "-c", config, "-p", bench.work,
                ready=f"http://127.0.0.1:{PORT}/")


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
