"""curl and nginx over TLS by OpenSSL: the spans that the same requests have in the clear. A process and a
connection for each request, then one connection for all."""

import nginx

FEATURE = "TLS: curl, nginx (OpenSSL)"
PORT, COUNT = 18443, 5

SERVER = """
        listen 127.0.0.1:18443 ssl;
        ssl_certificate {home}/../tls.pem;
        ssl_certificate_key {home}/../tls.key;
        location / {{ try_files /index.html =404; }}
"""


def start(bench):
    bench.certificate()
    nginx.start(bench, "nginx-tls", SERVER, f"https://127.0.0.1:{PORT}/")


def drive(bench):
    bench.needs("TLS")
    bench.until("libssl is covered", lambda: "libssl" in str(bench.status()["tls"]["covered"]))
    for i in range(COUNT):
        bench.curl("-k", f"https://127.0.0.1:{PORT}/tls/{i}")
    bench.curl("-k", *[f"https://127.0.0.1:{PORT}/tls-kept/{i}" for i in range(COUNT)])


def judge(_bench, report):
    spans = report.below("/tls/") + report.below("/tls-kept/")
    expected = [
        (kind, service, f"/{way}/{i}")
        for kind, service in (("CLIENT", "curl"), ("SERVER", "nginx"))
        for way in ("tls", "tls-kept")
        for i in range(COUNT)
    ]
    return report.wrong(spans, expected), report.seen(spans)
