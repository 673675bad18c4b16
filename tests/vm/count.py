"""Compares what the agent reported in a guest with nginx's access log.

count.py DIRECTORY payload|processes HOOKS RINGS REQUESTS SECONDS

Ends with a line for the table of `cargo xtask vm`.
"""

import json
import os
import re
import sys

CLIENT, SERVER = 3, 2  # SpanKind of OTLP
ROW = "kernspan-vm-row: "


def attributes(item):
    return {a["key"]: next(iter(a["value"].values()), None) for a in item.get("attributes", [])}


def read(path):
    spans, execs = [], []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            request = json.loads(line)
            for resource in request.get("resourceSpans", []):
                for scope in resource["scopeSpans"]:
                    spans += scope["spans"]
            for resource in request.get("resourceLogs", []):
                for scope in resource["scopeLogs"]:
                    execs += [r for r in scope["logRecords"] if r.get("eventName") == "process.exec"]
    return spans, execs


def path_of(span):
    found = attributes(span)
    url = found.get("url.path") or found.get("url.full") or ""
    return url[url.find("/vm/"):] if "/vm/" in url else None


def hooks_in_use(directory):
    """The agent's own word: the hook of payload and that of send times; payload rings read from."""
    with open(f"{directory}/status.json", encoding="utf-8") as file:
        status = json.load(file)
    hooks = {h["feature"]: h["hook"] for h in status["hooks"]}
    kind = {name: (hook or "off").split(":")[0] for name, hook in hooks.items()}
    return kind, sum(ring["read"] > 0 for ring in status["payload_rings"])


def skipped(directory):
    """Calls that the kernel did not show to a program that was put off its processor, as counted."""
    with open(f"{directory}/agent.log", encoding="utf-8") as log:
        counts = re.findall(r"ledger kernel_skipped calls: in (\d+)", log.read())
    return int(counts[-1]) if counts else 0


def scored(spans, kind):
    return [s for s in spans if s.get("kind") == kind and path_of(s)]


def of_curl(record):
    command = json.dumps(record)
    return "/vm/" in command and "curl" in command


def pairs(clients, servers):
    """Server spans whose parent is the client span of the same path, each with that span."""
    by_id = {s["spanId"]: s for s in clients}
    found = [(by_id.get(s.get("parentSpanId")), s) for s in servers]
    return [(c, s) for c, s in found if c and path_of(c) == path_of(s)]


def is_inside(client, server):
    start, end = "startTimeUnixNano", "endTimeUnixNano"
    return int(client[start]) <= int(server[start]) and int(server[end]) <= int(client[end])


def main():
    directory, promise, wanted, rings, requests, seconds = sys.argv[1:]
    requests = int(requests)
    with open(f"{directory}/access.log", encoding="utf-8") as log:
        logged = sum("GET /vm/" in line for line in log)
    spans, execs = read(f"{directory}/out.json")
    expected = {f"/vm/{n}" for n in range(requests)} if promise == "payload" else set()
    clients, servers = scored(spans, CLIENT), scored(spans, SERVER)
    joined = pairs(clients, servers)
    outside = [pair for pair in joined if not is_inside(*pair)]
    for client, server in outside:
        start, end = "startTimeUnixNano", "endTimeUnixNano"
        print(f"outside: {server['name']}: begins {int(server[start]) - int(client[start])} ns after its "
              f"client span, ends {int(client[end]) - int(server[end])} ns before it")
    inside = len(joined) - len(outside)
    # From 7.0 on the kernel does not show every call to a program. A request may have no span for that, or
    # one that ends with its connection. The agent counts such calls: never more are wrong than that.
    unseen = skipped(directory)
    print(f"calls not shown by the kernel: {unseen}")
    runs = sum(map(of_curl, execs))
    hooks, used = hooks_in_use(directory)

    problems = []
    for name, found in (("client", clients), ("server", servers)):
        paths = [path_of(s) for s in found]
        twice_or_strange = len(set(paths)) != len(paths) or set(paths) - expected
        if twice_or_strange or len(expected) - len(paths) > unseen:
            lacking = sorted(expected - set(paths))[:5]
            problems.append(f"{len(paths)} {name} spans, {len(expected)} expected; lacking {lacking}")
    for name, found in (("joined to", len(joined)), ("inside", inside)):
        if not len(expected) - unseen <= found <= len(expected):
            problems.append(f"server spans {name} their client span: {found}, expected {len(expected)}")
    for name, found, right in (
        ("requests in nginx's log", logged, requests),
        ("exec records of curl", runs, requests),
        ("payload rings in use", used, 0 if promise == "processes" else int(rings)),
        ("payload hooks", hooks["payload"], "off" if promise == "processes" else
         hooks["payload"] if wanted == "auto" else wanted),
    ):
        if found != right:
            problems.append(f"{name}: {found}, expected {right}")
    if promise == "payload" and hooks["payload"] == "off":
        problems.append("payload hooks: off")
    for problem in problems:
        print(f"WRONG: {problem}")
    shown = hooks["payload"] + ("" if rings == "1" else f"/{rings}")
    cells = [os.uname().release, shown, hooks["send time"], logged, len(servers),
             len(clients), len(joined), inside, runs, seconds]
    print(ROW + "|".join(map(str, cells)))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
