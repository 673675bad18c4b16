"""Conversations: each end's totals against TCP_INFO just before its close, and those of UDP against what the
program counted itself (tests/workloads/flows.py)."""

import json

FEATURE = "Flows: totals of TCP and UDP conversations"
TCP, UDP = 8, 5


def drive(bench):
    bench.needs("flows", "flow traffic")
    work = bench.tree / "tests/workloads/flows.py"
    for mode, count in (("tcp", TCP), ("udp", UDP)):
        log = bench.work / f"flows-{mode}.json"
        bench.run("python3", work, "--log", log, "--mode", mode, "--count", str(count), "--largest", "50000",
                  "--hold", "2.5")


def truth(bench, mode):
    lines = (bench.work / f"flows-{mode}.json").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == mode]


def latest(report, transport):
    """The last record of each conversation, by local and peer port."""
    records = {}
    for record in report.logs:
        found = report.attributes(record)
        if found.get("network.transport") == transport and "network.peer.port" in found:
            records[int(found["network.local.port"]), int(found["network.peer.port"])] = found
    return records


def compare(records, ports, expected, line):
    found = records.get(ports)
    if found is None:
        return [f"no record of {ports}: {line}"]
    return [
        f"{name} of {ports} is {found.get(name)}, {value} expected: {line}"
        for name, value in expected.items()
        if int(found.get(name, -1)) != value
    ]


def judge(bench, report):
    wrong, seen = [], []
    records = latest(report, "tcp")
    for line in truth(bench, "tcp"):
        # The kernel counts a FIN that it has received as a byte.
        received = line["bytes_received"] - (1 if line["fin"] else 0)
        expected = {"kernspan.flow.bytes_sent": line["bytes_sent"], "kernspan.flow.bytes_received": received}
        wrong += compare(records, (line["local"], line["remote"]), expected, line)
        role = "client" if line["client"] else "server"
        seen.append(f"tcp {role}: {line['bytes_sent']} sent, {received} received")
    records = latest(report, "udp")
    for line in truth(bench, "udp"):
        there = {"sent": line["received"], "bytes_sent": line["bytes_received"], "received": line["sent"],
                 "bytes_received": line["bytes_sent"]}
        for ports, counts in (((line["local"], line["remote"]), line), ((line["remote"], line["local"]), there)):
            expected = {f"kernspan.flow.{name}": counts[name] for name in ("bytes_sent", "bytes_received")}
            wrong += compare(records, ports, expected, line)
        seen.append(f"udp {line['way']}: {line['bytes_sent']} sent, {line['bytes_received']} received")
    if len(seen) != 2 * TCP + 5:
        wrong.append(f"{len(seen)} ends, {2 * TCP + 5} expected")
    return wrong[:8], seen
