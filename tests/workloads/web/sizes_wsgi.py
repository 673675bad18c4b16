"""GET /…/size/N answers N bytes, POST what it got, else 404: under any WSGI server."""


def application(environ, start):
    words = environ["PATH_INFO"].split("/")
    status, body = "404 Not Found", b"nothing here\n"
    if environ["REQUEST_METHOD"] == "POST":
        status, body = "200 OK", environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0))
    elif len(words) > 2 and words[-2] == "size" and words[-1].isdigit():
        status, body = "200 OK", b"x" * int(words[-1])
    start(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
