//! What processes use, against what a program knows that it used.

use kernspan_tests::agent::Agent;
use kernspan_tests::otlp::Telemetry;
use kernspan_tests::process::{Process, until};
use kernspan_tests::scenario::{Scenario, say};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

/// Two seconds of CPU time, 60 MB of memory, 25 files, 7 threads, 3 MB written; then it waits.
const PROGRAM: &str = r#"
import os, sys, threading, time
held = bytearray(60 << 20)
files = [open("/dev/null") for _ in range(25)]
for _ in range(6):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
out = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
os.write(out, bytes(3 << 20)); os.fsync(out)
while time.process_time() < 2:
    pass
open(sys.argv[2], "w").write("done")
time.sleep(600)
"#;

/// Newest value of each metric of one process, by name and attribute's value.
fn newest(telemetry: &Telemetry, pid: u32) -> (BTreeMap<(String, String), f64>, Value) {
    let (mut values, mut resource) = (BTreeMap::new(), Value::Null);
    let groups = telemetry.metrics.iter().flat_map(|request| array(&request["resourceMetrics"]));
    for group in groups.filter(|group| of(group, pid)) {
        resource = group["resource"].clone();
        let scopes = array(&group["scopeMetrics"]);
        for metric in scopes.iter().flat_map(|scope| array(&scope["metrics"])) {
            let data = [&metric["sum"], &metric["gauge"]].into_iter().find(|data| data.is_object());
            for point in array(&data.expect("a sum or a gauge")["dataPoints"]) {
                let label = point["attributes"][0]["value"]["stringValue"].as_str().unwrap_or("");
                let name = metric["name"].as_str().expect("a name");
                values.insert((name.to_owned(), label.to_owned()), number(point));
            }
        }
    }
    (values, resource)
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(point: &Value) -> f64 {
    let whole = || point["asInt"].as_str()?.parse().ok();
    point["asDouble"].as_f64().or_else(whole).unwrap_or_else(|| panic!("no number in {point}"))
}

fn attribute<'a>(group: &'a Value, key: &str) -> &'a Value {
    let attributes = array(&group["attributes"]);
    attributes.iter().find(|a| a["key"] == key).map_or(&Value::Null, |a| &a["value"])
}

fn of(group: &Value, pid: u32) -> bool {
    let known = &attribute(&group["resource"], "process.pid")["intValue"];
    known.as_str().is_some_and(|known| known.parse() == Ok(pid))
}

#[test]
fn a_processs_use_of_the_machine_is_what_it_used() {
    let Some(scenario) = Scenario::begin("process metrics", &["python3"]) else { return };
    let program = scenario.file("busywork.py", PROGRAM.as_bytes());
    let agent = Agent::run(&scenario, &["--process-metrics", "1s"]);
    let (written, done) = (scenario.path("written"), scenario.path("done"));
    let mut command = Command::new("python3");
    command.arg(&program).arg(&written).arg(&done);
    let process = Process::start(command, scenario.dir(), "busywork");
    until("the work is done", Duration::from_secs(60), || done.exists().then_some(()));
    // Two rounds after that.
    std::thread::sleep(Duration::from_millis(2500));
    let pid = process.pid();
    let _ = process.kill();
    let report = agent.stop();
    let (values, resource) = newest(&report.telemetry, pid);
    let value = |name: &str, label: &str| {
        let key = (name.to_owned(), label.to_owned());
        *values.get(&key).unwrap_or_else(|| panic!("no {name} {label} in {values:?}"))
    };
    say(&format!("process metrics: {values:?}"));
    assert_eq!(attribute(&resource, "service.name")["stringValue"], "busywork");
    let cpu = value("process.cpu.time", "user") + value("process.cpu.time", "system");
    assert!((1.9..3.0).contains(&cpu), "{cpu} s of CPU time");
    let memory = value("process.memory.usage", "");
    assert!((60e6..120e6).contains(&memory), "{memory} bytes");
    assert!(value("process.memory.virtual", "") >= memory);
    assert_eq!(value("process.thread.count", ""), 7.0);
    let descriptors = value("process.unix.file_descriptor.count", "");
    assert!((29.0..35.0).contains(&descriptors), "{descriptors} descriptors");
    let disk = value("process.disk.io", "write");
    assert!(disk >= f64::from(3 << 20), "{disk} bytes written");
    assert!(value("process.paging.faults", "minor") > f64::from(60 << 20 >> 12) / 2.0);
    assert!(value("process.context_switches", "involuntary") > 0.0);
    assert!(value("process.uptime", "") >= 2.0);
    assert_eq!(report.ledger.imbalances(), Vec::<String>::new());
}

#[test]
fn without_the_metrics_there_are_none() {
    let Some(scenario) = Scenario::begin("no process metrics", &[]) else { return };
    let agent = Agent::run(&scenario, &["--process-metrics", "off"]);
    std::thread::sleep(Duration::from_millis(500));
    let report = agent.stop();
    let names = report.telemetry.metrics.iter().map(Value::to_string);
    assert_eq!(names.filter(|text| text.contains("process.cpu.time")).count(), 0);
}
