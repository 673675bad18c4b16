"""nginx with OpenSSL, which hands the keys to the kernel (kTLS): heads by SSL_write, files by SSL_sendfile, whose
bytes no library call has. They are counted as unreachable, and what follows on the connection has its place."""

import pathlib

import nginx
from run import Lacks

FEATURE = "TLS: nginx with kTLS and SSL_sendfile (OpenSSL)"
PORT, SIZES = 18444, [0, 1, 900, 20_000, 300_000, 7]
VERSIONS = ("1.2", "1.3")

SERVER = """
        listen 127.0.0.1:18444 ssl;
        ssl_certificate {home}/../tls.pem;
        ssl_certificate_key {home}/../tls.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;
        ssl_conf_command Options KTLS;
        ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
        sendfile on;
        location /ktls-nginx/1.2/ {{ alias {home}/www/; }}
        location /ktls-nginx/1.3/ {{ alias {home}/www/; }}
"""


def start(bench):
    bench.module("tls")
    for cipher in ("gcm", "ctr", "ghash_generic"):
        bench.module(cipher, optional=True)
    bench.certificate()
    files = {f"{i}": "x" * size for i, size in enumerate(SIZES)}
    nginx.start(bench, "nginx-ktls", SERVER, f"https://127.0.0.1:{PORT}/ktls-nginx/1.2/0", files)


def by_the_kernel():
    """Sockets so far that the kernel encrypts for (Documentation/networking/tls.rst)."""
    text = pathlib.Path("/proc/net/tls_stat").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("TlsTxSw"))


def unreachable(bench):
    """Calls so far whose bytes nobody could read."""
    return sum(line["count"] for line in bench.status()["ledger"] if line["cause"] == "payload_unreachable")


def drive(bench):
    bench.needs("TLS")
    before, unread = by_the_kernel(), unreachable(bench)
    for version in VERSIONS:
        url = f"https://127.0.0.1:{PORT}/ktls-nginx/{version}/"
        limits = (f"--tlsv{version}", "--tls-max", version)
        bench.curl("-k", "--http1.1", *limits, "-o", "/dev/null", *bench.kept(url, len(SIZES)))
    if by_the_kernel() < before + len(VERSIONS):
        raise Lacks("this OpenSSL does not hand its keys to this kernel")
    bench.unread = unreachable(bench) - unread


def judge(bench, report):
    spans = report.below("/ktls-nginx/")
    sides = (("CLIENT", "curl"), ("SERVER", "nginx"))
    paths = [f"/ktls-nginx/{version}/{i}" for version in VERSIONS for i in range(len(SIZES))]
    wrong = report.wrong(spans, [(*side, path) for side in sides for path in paths])
    for span in spans:
        size = SIZES[int(span.path.rsplit("/", 1)[1])]
        if int(span.body or 0) != size:
            wrong.append(f"{span}: a body of {span.body} bytes, {size} expected")
    files = len(VERSIONS) * sum(size > 0 for size in SIZES)
    if bench.unread < files:
        wrong.append(f"{bench.unread} calls counted as unreachable, of {files} by SSL_sendfile")
    return wrong[:8], report.seen(spans)
