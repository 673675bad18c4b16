"""Sends requests with an SDK of others (ddtrace), which publishes its active span by thread (OTEP 4947).

traced.py --port PORT --threads N --requests N

Prints for each request what contexts.c prints: path, trace, span; `-` where no span was active.
"""

import argparse
import http.client
import os
import sys
import threading
import time

os.environ["DD_TRACE_OTEL_CTX_ENABLED"] = "true"
# Nobody takes its spans, and it shall not ask.
os.environ.update(DD_INSTRUMENTATION_TELEMETRY_ENABLED="false", DD_REMOTE_CONFIGURATION_ENABLED="false")
os.environ["DD_TRACE_AGENT_URL"] = "unix:///nowhere/at/all"
import logging

logging.disable(logging.CRITICAL)

from ddtrace.trace import tracer


def run(number, options):
    connection = http.client.HTTPConnection("127.0.0.1", options.port)
    for n in range(options.requests):
        path = f"/contexts/{os.getpid()}/{number}/{n}"
        published = "- -"
        if n % 3 == 0:
            ask(connection, path)
        else:
            with tracer.trace("outer") as span:
                if n % 3 == 1:
                    with tracer.trace("inner") as span:
                        ask(connection, path)
                else:
                    ask(connection, path)
            published = f"{span.trace_id:032x} {span.span_id:016x}"
        sys.stdout.write(f"{path} {published}\n")


def ask(connection, path):
    connection.request("GET", path)
    connection.getresponse().read()


def main():
    parser = argparse.ArgumentParser()
    for name in ["--port", "--threads", "--requests"]:
        parser.add_argument(name, type=int)
    options = parser.parse_args()
    # A library that is loaded is known within this time.
    with tracer.trace("first"):
        time.sleep(0.1)
    threads = [threading.Thread(target=run, args=(n, options)) for n in range(options.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
