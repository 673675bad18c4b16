"""A client that asks at an even pace, in clear or over TLS, and logs when each request began and how long it took.

The time of a request counts from when it was due: one that waits because the one before it is slow is late as well. Every
`--renew` requests the connection is made anew."""

import argparse
import http.client
import ssl
import time

from truth import Log


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--pace-ms", type=float, default=5)
    parser.add_argument("--renew", type=int, default=50)
    arguments = parser.parse_args()
    log = Log(arguments.log)
    context = ssl._create_unverified_context()

    def connect():
        if arguments.tls:
            return http.client.HTTPSConnection("127.0.0.1", arguments.port, timeout=30, context=context)
        return http.client.HTTPConnection("127.0.0.1", arguments.port, timeout=30)

    connection = connect()
    due = time.monotonic()
    print("ready")
    number = 0
    while True:
        number += 1
        due += arguments.pace_ms / 1000
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        if number % arguments.renew == 0:
            connection.close()
            connection = connect()
        connection.request("GET", arguments.path)
        response = connection.getresponse()
        response.read()
        log.line(at=due, ms=(time.monotonic() - due) * 1000, status=response.status)


main()
