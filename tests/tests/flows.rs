//! Conversations: totals against what the programs know themselves, failures, names, and the list.

use kernspan_tests::agent::{Agent, Report, once};
use kernspan_tests::netns::Netns;
use kernspan_tests::otlp::{Log, Telemetry};
use kernspan_tests::process::{output, until};
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, say, scaled};
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

/// Time for a workload's run.
const LIMIT: Duration = Duration::from_secs(240);

/// Ends of conversations as log records, nothing else observed.
const ENDS: [&str; 6] = ["--probes", "flow", "--flow-logs", "ends", "--flow-interval", "1s"];

fn int(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(-1)
}

fn number(record: &Log, name: &str) -> i64 {
    record.attributes.get(name).map_or(-1, int)
}

fn text<'a>(record: &'a Log, name: &str) -> &'a str {
    record.attributes.get(name).and_then(Value::as_str).unwrap_or("")
}

/// Records of ends by transport, local and peer port. On loopback a pair of ports is used again after a
/// second: several ends, the last to come first.
fn by_ports(telemetry: &Telemetry) -> HashMap<(String, i64, i64), Vec<&Log>> {
    let ends = telemetry.logs.iter().filter(|record| record.event == "network.flow.end");
    let key = |record: &Log| {
        let transport = text(record, "network.transport").to_owned();
        (transport, number(record, "network.local.port"), number(record, "network.peer.port"))
    };
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    ends.for_each(|record| all.entry(key(record)).or_default().push(record));
    all.values_mut().for_each(|ends| ends.sort_by_key(|record| Reverse(record.time)));
    all
}

/// Their latest.
fn latest_of<'a>(
    ends: &HashMap<(String, i64, i64), Vec<&'a Log>>,
    key: &(String, i64, i64),
) -> Option<&'a Log> {
    ends.get(key)?.first().copied()
}

fn run(scenario: &Scenario, name: &str, arguments: &[&str], wrap: &[String]) -> (Vec<Value>, u32) {
    let python = Python::start(scenario, name, "flows.py", arguments, wrap);
    let pid = python.pid();
    (python.finish(LIMIT).1, pid)
}

/// Compares each end of each conversation with its TCP_INFO. Gives how many there were.
fn assert_totals(report: &Report, truth: &[Value], pid: Option<u32>) -> usize {
    // In a namespace of its own the process is known by another number.
    let lossy = pid.is_none();
    let mut ends = by_ports(&report.telemetry);
    let truth: Vec<&Value> = truth.iter().filter(|line| line["kind"] == "tcp").collect();
    for line in &truth {
        let key = ("tcp".to_owned(), int(&line["local"]), int(&line["remote"]));
        // Both in the order of their ends.
        let record = ends.get_mut(&key).and_then(Vec::pop);
        let record = record.unwrap_or_else(|| panic!("no record of {line}"));
        // The kernel counts a FIN that it has received as a byte, in TCP_INFO as well.
        let fin = i64::from(line["fin"] == true);
        let expected = [
            ("kernspan.flow.bytes_sent", int(&line["bytes_sent"])),
            ("kernspan.flow.bytes_received", int(&line["bytes_received"]) - fin),
            ("kernspan.tcp.data_segments_sent", int(&line["data_segs_out"])),
            ("kernspan.tcp.bytes_retransmitted", int(&line["bytes_retrans"])),
        ];
        for (name, expected) in expected {
            assert_eq!(number(record, name), expected, "{name} of {line}: {record:?}");
        }
        // FIN and its acknowledgement follow what the program could read; under loss, again.
        let again = number(record, "kernspan.tcp.retransmits") - int(&line["total_retrans"]);
        assert!((0..=i64::from(lossy) * 8).contains(&again), "sent again, {line}: {record:?}");
        for (name, read) in [
            ("kernspan.flow.packets_sent", &line["segs_out"]),
            ("kernspan.flow.packets_received", &line["segs_in"]),
        ] {
            let more = number(record, name) - int(read);
            assert!((0..=24).contains(&more), "{name} of {line}: {record:?}");
        }
        let role = if line["client"] == true { "client" } else { "server" };
        assert_eq!(text(record, "kernspan.flow.role"), role, "{line}");
        let named = record.resource.get("process.pid").map_or(-1, int);
        if let Some(pid) = pid {
            assert_eq!(named, i64::from(pid), "{line}: {record:?}");
        }
    }
    truth.len()
}

#[test]
fn flow_totals_equal_tcp_info() {
    let Some(scenario) = Scenario::begin("flow totals", &["python3"]) else { return };
    let count = scaled(150, 1000).to_string();
    for (why, probes) in [("flows alone", "flow"), ("beside payload", "http,flow")] {
        let arguments = ["--probes", probes, "--flow-logs", "ends", "--flow-interval", "1s"];
        let agent = Agent::run(&scenario, &arguments);
        let four = ["--mode", "tcp", "--count", &count, "--seed", "7"];
        let (truth, pid) = run(&scenario, "four", &four, &[]);
        let six = ["--mode", "tcp", "--count", "20", "--address", "::1"];
        let (truth6, pid6) = run(&scenario, "six", &six, &[]);
        let report = agent.stop();
        let compared = assert_totals(&report, &truth, Some(pid));
        assert_eq!(compared.to_string(), (2 * count.parse::<usize>().unwrap_or(0)).to_string());
        assert_eq!(assert_totals(&report, &truth6, Some(pid6)), 40);
        assert_metrics(&report, pid, &[truth, truth6].concat());
        say(&format!("{why}: {compared} ends of conversations equal TCP_INFO"));
    }
}

/// The metrics' sums over the service of a process are its conversations'.
fn assert_metrics(report: &Report, pid: u32, truth: &[Value]) {
    let mut logs = report.telemetry.logs.iter();
    let own = logs.find(|log| log.resource.get("process.pid").map_or(-1, int) == i64::from(pid));
    let service = own.and_then(|log| log.resource.get("service.name")?.as_str());
    let service = service.expect("it has conversations");
    let sum = |name: &str, direction: &str| latest(&report.telemetry, service, name, direction);
    let sent: i64 = truth.iter().map(|line| int(&line["bytes_sent"])).sum();
    assert_eq!(sum("kernspan.network.flow.bytes", "transmit"), sent);
    let received: i64 = truth
        .iter()
        .map(|line| int(&line["bytes_received"]) - i64::from(line["fin"] == true))
        .sum();
    assert_eq!(sum("kernspan.network.flow.bytes", "receive"), received);
    assert_eq!(sum("kernspan.network.flow.count", ""), truth.len() as i64);
}

/// The latest value of a counter, all its series of a service added up.
fn latest(telemetry: &Telemetry, service: &str, name: &str, direction: &str) -> i64 {
    let mut series: HashMap<String, (i64, i64)> = HashMap::new();
    for request in &telemetry.metrics {
        for group in list(&request["resourceMetrics"]) {
            let attributes = group["resource"]["attributes"].to_string();
            let of_service = list(&group["resource"]["attributes"])
                .iter()
                .any(|a| a["key"] == "service.name" && a["value"]["stringValue"] == service);
            for metric in list(&group["scopeMetrics"]).iter().flat_map(|s| list(&s["metrics"])) {
                if !of_service || metric["name"] != name {
                    continue;
                }
                for point in list(&metric["sum"]["dataPoints"]) {
                    let key = point["attributes"].to_string();
                    if direction.is_empty() || key.contains(&format!("\"{direction}\"")) {
                        let at = int(&point["timeUnixNano"]);
                        let entry = series.entry(format!("{attributes}{key}")).or_default();
                        *entry = (*entry).max((at, int(&point["asInt"])));
                    }
                }
            }
        }
    }
    series.values().map(|(_, value)| value).sum()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn loss_shows_as_retransmits_and_round_trips() {
    let Some(scenario) = Scenario::begin("flow loss", &["python3", "nft", "ip", "ss"]) else {
        return;
    };
    let pair = Netns::pair();
    let wrap = pair.wrap(0);
    let rule = "add table inet loss; add chain inet loss in { type filter hook input priority 0; }; \
                add rule inet loss in tcp dport 7001 numgen random mod 100 < 8 drop; \
                add rule inet loss in tcp sport 7001 numgen random mod 100 < 8 drop";
    output(Command::new(&wrap[0]).args(&wrap[1..]).args(["nft", rule]));
    let agent = Agent::run(&scenario, &ENDS);
    let count = scaled(15, 100).to_string();
    let arguments = ["--mode", "tcp", "--count", &count, "--port", "7001", "--largest", "100000"];
    let (truth, _) = run(&scenario, "loss", &arguments, &wrap);
    // A FIN is lost as well, and sent again: the conversation ends after the program.
    until("all have ended", LIMIT, || {
        let mut ss = Command::new(&wrap[0]);
        ss.args(&wrap[1..]).args(["ss", "-Htan", "state", "connected", "exclude", "time-wait"]);
        output(&mut ss).trim().is_empty().then_some(())
    });
    let report = agent.stop();
    let compared = assert_totals(&report, &truth, None);
    let ends = by_ports(&report.telemetry);
    let of_port = |(_, local, remote): &(String, i64, i64)| *local == 7001 || *remote == 7001;
    let lossy =
        || ends.iter().filter(|(key, _)| of_port(key)).flat_map(|(_, of)| of.iter().copied());
    let lost: i64 = lossy().map(|record| number(record, "kernspan.tcp.retransmits")).sum();
    let rtt = lossy().map(|record| number(record, "kernspan.tcp.rtt_us")).max().unwrap_or(0);
    assert!(lost > 0, "nothing was sent again");
    assert!(rtt > 0, "no round trip");
    say(&format!("{compared} ends: {lost} segments sent again, longest round trip {rtt} µs"));
}

#[test]
fn failed_connects_have_their_errno() {
    let Some(scenario) = Scenario::begin("flow failures", &["python3", "nft", "ip"]) else {
        return;
    };
    let pair = Netns::pair();
    let wrap = pair.wrap(0);
    let rule = "add table inet f; add chain inet f out { type filter hook output priority 0; }; \
                add rule inet f out tcp dport 7002 drop; \
                add rule inet f out tcp dport 7003 reject with icmp net-unreachable";
    output(Command::new(&wrap[0]).args(&wrap[1..]).args(["nft", rule]));
    let agent = Agent::run(&scenario, &ENDS);
    let nobody = "10.203.7.77";
    let mut truths = Vec::new();
    for (why, address, port, expected) in [
        ("nobody listens", "127.0.0.1", "7001", "ECONNREFUSED"),
        ("dropped", pair.addresses[1], "7002", "ETIMEDOUT"),
        ("no such host", nobody, "7004", "EHOSTUNREACH"),
        ("rejected", pair.addresses[1], "7003", "ENETUNREACH"),
    ] {
        // A neighbour is asked for three seconds: a connect must wait longer.
        let retries = if address == nobody { "4" } else { "1" };
        let arguments =
            ["--mode", "connect", "--address", address, "--port", port, "--syn-retries", retries];
        let (log, _) = run(&scenario, &format!("connect{port}"), &arguments, &wrap);
        let line = log.into_iter().next().unwrap_or_else(|| panic!("{why}: nothing logged"));
        // Whether a filter's answer reaches a connect that is still in its call is the kernel's
        // choice; what the program was told is what counts.
        if why != "rejected" {
            assert_eq!(line["error"], expected, "{why}");
        }
        truths.push((why, line));
    }
    let report = agent.stop();
    let ends = by_ports(&report.telemetry);
    for (why, line) in truths {
        let key = ("tcp".to_owned(), int(&line["local"]), int(&line["remote"]));
        let record = latest_of(&ends, &key);
        let record = record.unwrap_or_else(|| panic!("{why}: no record of {line}: {ends:?}"));
        assert_eq!(text(record, "error.type"), line["error"], "{why}: {record:?}");
        assert_eq!(record.attributes["kernspan.tcp.failed"], true, "{why}");
    }
    let metrics = report.telemetry.metrics.iter().map(Value::to_string).collect::<String>();
    assert!(metrics.contains("kernspan.tcp.failed.connections"), "failures are a metric");
}

#[test]
fn udp_totals_equal_the_programs_own() {
    let Some(scenario) = Scenario::begin("flow udp", &["python3"]) else { return };
    for probes in ["flow", "http,flow"] {
        let arguments = ["--probes", probes, "--flow-logs", "intervals", "--flow-interval", "1s"];
        let agent = Agent::run(&scenario, &arguments);
        let count = scaled(20, 500).to_string();
        // The first client has the number of the agent's own port, which is one of TCP: one in some
        // thousand runs drew it by chance, and its server's end was left out.
        let port = agent.address().port().to_string();
        let workload = ["--mode", "udp", "--count", &count, "--hold", "2.5", "--port", &port];
        let (truth, pid) = run(&scenario, "udp", &workload, &[]);
        let report = agent.stop();
        assert_udp(&report, &truth, pid);
    }
}

fn assert_udp(report: &Report, truth: &[Value], pid: u32) {
    let mut latest: HashMap<(i64, i64), &Log> = HashMap::new();
    for record in &report.telemetry.logs {
        if text(record, "network.transport") == "udp" {
            let ports = (number(record, "network.local.port"), number(record, "network.peer.port"));
            latest.insert(ports, record);
        }
    }
    let mut ways = 0;
    for line in truth.iter().filter(|line| line["kind"] == "udp") {
        ways += 1;
        let (local, remote) = (int(&line["local"]), int(&line["remote"]));
        // The client's count, and the server's, which has one socket for all.
        for (ports, sent, received, role) in [
            ((local, remote), "sent", "received", "client"),
            ((remote, local), "received", "sent", "server"),
        ] {
            let record = latest.get(&ports).unwrap_or_else(|| {
                let (all, log) = (latest.values(), &report.ended.stderr);
                panic!("no record of {line} {role}; there are {:#?}\n{log}", Vec::from_iter(all))
            });
            for (name, expected) in [
                ("kernspan.flow.packets_sent", &line[sent]),
                ("kernspan.flow.packets_received", &line[received]),
                ("kernspan.flow.bytes_sent", &line[format!("bytes_{sent}")]),
                ("kernspan.flow.bytes_received", &line[format!("bytes_{received}")]),
            ] {
                assert_eq!(number(record, name), int(expected), "{role} {name} {line}: {record:?}");
            }
            assert_eq!(text(record, "kernspan.flow.role"), role, "{line}");
            assert_eq!(record.resource.get("process.pid").map_or(-1, int), i64::from(pid));
        }
    }
    assert_eq!(ways, 5);
}

#[test]
fn names_come_from_dns_answers() {
    let Some(scenario) = Scenario::begin("flow names", &["python3", "ip"]) else { return };
    let pair = Netns::pair();
    let resolver = scenario.file("resolv.conf", b"nameserver 127.0.0.1\n");
    let mount = ["sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""];
    let mut wrap = pair.wrap(0);
    wrap.extend(mount.map(str::to_owned));
    wrap.push(resolver.display().to_string());
    let agent = Agent::run(
        &scenario,
        &["--flow-logs", "ends", "--flow-interval", "1s", "--flow-labels", "name,port"],
    );
    let arguments =
        ["--mode", "dns", "--name", "shop.example.test", "--address", "127.0.3.7", "--hold", "1.5"];
    let (truth, _) = run(&scenario, "dns", &arguments, &wrap);
    let report = agent.stop();
    let ends = by_ports(&report.telemetry);
    let line = &truth[0];
    let key = ("tcp".to_owned(), int(&line["local"]), int(&line["remote"]));
    let record = latest_of(&ends, &key).unwrap_or_else(|| panic!("no record of {line}"));
    assert_eq!(text(record, "kernspan.flow.peer.name"), "shop.example.test", "{record:?}");
    let metrics = report.telemetry.metrics.iter().map(Value::to_string).collect::<String>();
    assert!(metrics.contains("shop.example.test"), "the name is a label when asked for");
}

/// `kernspan flows --json`, of one process.
fn flows(scenario: &Scenario, pid: u32) -> Vec<Value> {
    let ended = once(scenario, "flows", &["flows", "--json", "--process", &pid.to_string()]);
    assert!(ended.status.success(), "{}", ended.stderr);
    let listed: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    list(&listed["flows"]).to_vec()
}

#[test]
fn flows_lists_what_ss_lists() {
    let Some(scenario) = Scenario::begin("flow list", &["python3", "ss"]) else { return };
    let arguments = ["--mode", "hold", "--count", "20", "--hold", "30"];
    let python = Python::serve(&scenario, "hold", "flows.py", &arguments, &[]);
    let listed = flows(&scenario, python.pid());
    let truth = python.log();
    assert_eq!(listed.len(), truth.len(), "one row an end");
    let rows: HashMap<(i64, i64), &Value> = listed
        .iter()
        .map(|row| ((int(&row["local"]["port"]), int(&row["remote"]["port"])), row))
        .collect();
    let ss = output(Command::new("ss").args(["-Htinp", "state", "established"]));
    let pid = format!("pid={},", python.pid());
    for line in &truth {
        let ports = (int(&line["local"]), int(&line["remote"]));
        let row = rows.get(&ports).unwrap_or_else(|| panic!("{line} is not listed"));
        for (name, expected) in [
            ("bytes_sent", "bytes_sent"),
            ("bytes_received", "bytes_received"),
            ("retransmits", "total_retrans"),
            ("packets_sent", "segs_out"),
            ("packets_received", "segs_in"),
            ("rtt_us", "rtt"),
            ("rttvar_us", "rttvar"),
        ] {
            assert_eq!(int(&row[name]), int(&line[expected]), "{name} of {line}: {row}");
        }
        // As ss shows it: on one line the addresses and the process, on the next the numbers.
        let [local, remote] = [ports.0, ports.1].map(|port| format!("127.0.0.1:{port}"));
        let mut lines = ss.lines();
        let found = lines.find(|shown| {
            let column = |place: &str| shown.find(&format!("{place} "));
            let (from, to) = (column(&local), column(&remote));
            shown.contains(&pid) && from.is_some() && from < to
        });
        assert!(found.is_some(), "ss shows {local} {remote}: {ss}");
        let numbers = lines.next().unwrap_or_default();
        let sent = int(&row["bytes_sent"]);
        assert!(sent == 0 || numbers.contains(&format!("bytes_sent:{sent} ")), "{numbers}: {row}");
        assert_eq!(int(&row["remote"]["pid"]), i64::from(python.pid()), "both ends are here");
        assert_eq!(row["state"], "established");
    }
}

#[test]
fn conversations_older_than_the_agent_are_reported() {
    let Some(scenario) = Scenario::begin("older flows", &["python3"]) else { return };
    let arguments = ["--mode", "hold", "--count", "5", "--hold", "60"];
    let python = Python::serve(&scenario, "older", "flows.py", &arguments, &[]);
    let arguments = ["--probes", "flow", "--flow-logs", "intervals", "--flow-interval", "1s"];
    let agent = Agent::run(&scenario, &arguments);
    std::thread::sleep(Duration::from_millis(1500));
    let (_, page) = agent.get("/metrics");
    assert!(page.contains("kernspan_network_flow_bytes_total{"), "{page}");
    let report = agent.stop();
    for line in python.log() {
        let record = report.telemetry.logs.iter().find(|record| {
            number(record, "network.local.port") == int(&line["local"])
                && number(record, "network.peer.port") == int(&line["remote"])
        });
        let record = record.unwrap_or_else(|| panic!("{line} is not reported"));
        assert_eq!(record.event, "network.flow.interval");
        assert_eq!(number(record, "kernspan.flow.bytes_sent"), int(&line["bytes_sent"]));
        assert_eq!(number(record, "kernspan.flow.bytes_received"), int(&line["bytes_received"]));
        let named = record.resource.get("process.pid").map_or(-1, int);
        assert_eq!(named, i64::from(python.pid()), "{record:?}");
    }
}
