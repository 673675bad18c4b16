"""GET /…/size/N answers N bytes, POST what it got, else 404: under any ASGI server."""


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    words = scope["path"].split("/")
    status, body = 404, b"nothing here\n"
    if scope["method"] == "POST":
        status, body, more = 200, b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
    elif len(words) > 2 and words[-2] == "size" and words[-1].isdigit():
        status, body = 200, b"x" * int(words[-1])
    length = str(len(body)).encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
