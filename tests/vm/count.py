"""Compares what the agent reported in a guest with nginx's access log.

count.py DIRECTORY payload|processes REQUESTS
"""

import json
import sys

CLIENT, SERVER = 3, 2  # SpanKind of OTLP


def attributes(item):
    return {a["key"]: next(iter(a["value"].values()), None) for a in item.get("attributes", [])}


def read(path):
    spans, execs = [], 0
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            request = json.loads(line)
            for resource in request.get("resourceSpans", []):
                for scope in resource["scopeSpans"]:
                    spans += scope["spans"]
            for resource in request.get("resourceLogs", []):
                for scope in resource["scopeLogs"]:
                    execs += sum(r.get("eventName") == "process.exec" for r in scope["logRecords"])
    return spans, execs


def path_of(span):
    found = attributes(span)
    url = found.get("url.path") or found.get("url.full") or ""
    return url[url.find("/vm/"):] if "/vm/" in url else None


def main():
    directory, promise, requests = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with open(f"{directory}/access.log", encoding="utf-8") as log:
        logged = sum("GET /vm/" in line for line in log)
    spans, execs = read(f"{directory}/out.json")
    expected = {f"/vm/{n}" for n in range(requests)} if promise == "payload" else set()
    problems = []
    if logged != requests:
        problems.append(f"nginx logged {logged} of {requests} requests")
    for kind, name in ((CLIENT, "client"), (SERVER, "server")):
        paths = [p for p in map(path_of, (s for s in spans if s.get("kind") == kind)) if p]
        if len(paths) != len(set(paths)) or set(paths) != expected:
            lacking = sorted(expected - set(paths))[:5]
            problems.append(f"{len(paths)} {name} spans, {len(expected)} expected; lacking {lacking}")
    pairs = {s["spanId"] for s in spans if s.get("kind") == CLIENT}
    joined = sum(
        s.get("parentSpanId") in pairs
        for s in spans
        if s.get("kind") == SERVER and path_of(s)
    )
    if joined != len(expected):
        problems.append(f"{joined} server spans joined to a client span, {len(expected)} expected")
    if execs < requests:
        problems.append(f"{execs} exec records for {requests} runs of curl")
    print(f"access log {logged}, spans {len(spans)}, joined {joined}, exec records {execs}")
    for problem in problems:
        print(f"WRONG: {problem}")
    sys.exit(bool(problems))


main()
