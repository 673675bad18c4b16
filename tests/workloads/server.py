"""An HTTP server: GET /…/size/N answers N bytes, POST answers what it got, else 404."""

import argparse
import time

from truth import Handler, Log, Server, UnixHandler, UnixServer


class Sizes(Handler):
    def do_GET(self):
        words = self.path.split("?")[0].split("/")
        if len(words) > 2 and words[-2] == "size" and words[-1].isdigit():
            self.reply(200, b"x" * int(words[-1]))
        elif len(words) > 2 and words[-2] == "slow" and words[-1].isdigit():
            # Milliseconds.
            time.sleep(int(words[-1]) / 1000)
            self.reply(200, b"late")
        else:
            self.reply(404, b"nothing here\n")

    def do_POST(self):
        self.reply(200, self.body())

    def reply(self, status, body):
        # Logged first: whoever has the answer finds the line.
        self.server.log.line(
            method=self.command,
            path=self.path,
            status=status,
            request_body=int(self.headers.get("Content-Length") or 0),
            response_body=len(body),
        )
        self.answer(status, body)


class UnixSizes(UnixHandler, Sizes):
    pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int)
    parser.add_argument("--unix")
    parser.add_argument("--whole", action="store_true", help="one send a response")
    parser.add_argument("--certificate", help="HTTPS, with --key")
    parser.add_argument("--key")
    arguments = parser.parse_args()
    if arguments.whole:
        Sizes.wbufsize = 1 << 24
    if arguments.unix:
        server = UnixServer(arguments.unix, UnixSizes)
        import os

        os.chmod(arguments.unix, 0o777)
    else:
        server = Server((arguments.host, arguments.port), Sizes)
    if arguments.certificate:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.certificate, arguments.key)
        # The handshake in the connection's own thread.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    server.log = Log(arguments.log)
    print("ready")
    server.serve_forever()


main()
