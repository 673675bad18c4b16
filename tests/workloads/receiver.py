"""An OTLP receiver over http/json: logs every request as it came."""

import argparse
import gzip
import json

from truth import Handler, Log, Server


class Receiver(Handler):
    def do_POST(self):
        body = self.body()
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.log.line(path=self.path, request=json.loads(body))
        self.answer(200, b"{}", Content_Type="application/json")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    server = Server(("127.0.0.1", arguments.port), Receiver)
    server.log = Log(arguments.log)
    print("ready")
    server.serve_forever()


main()
