"""nginx with a server of its own for a check."""

CONFIG = """
user root;
worker_processes 1;
daemon off;
pid {home}/nginx.pid;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    {settings}
    server {{
        root {home}/www;
        {server}
    }}
}}
"""


def start(bench, name, server, ready, files=None, settings=""):
    """Starts it with the lines of a `server` block; `files` are what it serves, by name."""
    home = bench.work / name
    (home / "www").mkdir(parents=True)
    for file, content in (files or {"index.html": "hello\n"}).items():
        (home / "www" / file).write_text(content)
    config = home / "nginx.conf"
    config.write_text(CONFIG.format(home=home, server=server.format(home=home), settings=settings))
    bench.spawn("nginx", "-e", home / "error.log", "-c", config, "-p", home, ready=ready)
