//! A real Jaeger that keeps traces in memory, and what it says about one.

use crate::http;
use crate::process::{Process, free_ports, until};
use crate::scenario::{Scenario, crate_dir, skip, tool};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// How long it may take to listen, and then to show a trace.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running Jaeger.
#[derive(Debug)]
pub struct Jaeger {
    process: Process,
    /// OTLP over gRPC.
    pub otlp: u16,
    query: SocketAddr,
}

/// One span as Jaeger shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    /// 16 hexadecimal digits.
    pub id: String,
    /// Empty for a root.
    pub parent: String,
    /// Name of the service.
    pub service: String,
}

impl Jaeger {
    /// Starts one; it listens on return. Prints `SKIP name: reason` and returns `None` when
    /// `cargo xtask setup` has built none, for lack of Go.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(scenario: &Scenario, name: &str) -> Option<Jaeger> {
        let Some(program) = tool("jaeger", "jaeger") else {
            skip(name, "no Jaeger: cargo xtask setup builds it where Go is");
            return None;
        };
        let [http, query, otlp] = free_ports();
        let shipped = crate_dir("../deploy/jaeger/config.yaml");
        let mut config = std::fs::read_to_string(shipped).expect("the shipped configuration");
        for (from, to) in [("16686", http), ("16685", query), ("4317", otlp)] {
            let (from, to) = (format!("\"127.0.0.1:{from}\""), format!("\"127.0.0.1:{to}\""));
            assert!(config.contains(&from), "{from} in the shipped configuration");
            config = config.replace(&from, &to);
        }
        let config = scenario.file("jaeger.yaml", config.as_bytes());
        let mut command = Command::new(program);
        command.arg("--config").arg(config);
        let mut process = Process::start(command, scenario.dir(), "jaeger");
        until("Jaeger is ready", PATIENCE, || {
            assert!(process.is_running(), "Jaeger ended: {}", process.tail());
            process.stderr().contains("Everything is ready").then_some(())
        });
        Some(Jaeger { process, otlp, query: SocketAddr::from(([127, 0, 0, 1], http)) })
    }

    /// The spans of a trace, once there are `count`.
    ///
    /// # Panics
    /// When there are not in time; what it showed at last is told.
    pub fn trace(&self, trace: &str, count: usize) -> BTreeSet<Shown> {
        let mut latest = String::new();
        let end = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < end {
            match http::get(self.query, &format!("/api/traces/{trace}")) {
                Ok((200, body)) => {
                    let spans = read(&body, trace);
                    if spans.len() >= count {
                        return spans;
                    }
                    latest = body;
                }
                Ok((code, body)) => latest = format!("{code} {body}"),
                Err(error) => latest = error.to_string(),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("trace {trace} has not {count} spans: {latest}\n{}", self.process.tail());
    }
}

/// The spans in an answer of `/api/traces/ID`, which must be about this one trace.
fn read(body: &str, trace: &str) -> BTreeSet<Shown> {
    let answer: Value = serde_json::from_str(body).unwrap_or_else(|why| panic!("{why}: {body}"));
    let [only] = answer["data"].as_array().map_or(&[][..], Vec::as_slice) else {
        panic!("not one trace: {body}")
    };
    let spans = only["spans"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let shown = |span: &Value| {
        assert_eq!(span["traceID"], trace, "{body}");
        let process = text(&span["processID"]);
        let parents = span["references"].as_array().map_or(&[][..], Vec::as_slice);
        let parent = parents.iter().find(|reference| reference["refType"] == "CHILD_OF");
        Shown {
            id: text(&span["spanID"]),
            parent: parent.map(|parent| text(&parent["spanID"])).unwrap_or_default(),
            service: text(&only["processes"][&process]["serviceName"]),
        }
    };
    spans.iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let body = r#"{"data":[{"traceID":"ab","spans":[
            {"traceID":"ab","spanID":"01","references":[],"processID":"p1"},
            {"traceID":"ab","spanID":"02","processID":"p2","references":
                [{"refType":"CHILD_OF","traceID":"ab","spanID":"01"}]}],
            "processes":{"p1":{"serviceName":"curl"},"p2":{"serviceName":"nginx"}}}]}"#;
        let shown = |id: &str, parent: &str, service: &str| Shown {
            id: id.into(),
            parent: parent.into(),
            service: service.into(),
        };
        let expected = BTreeSet::from([shown("01", "", "curl"), shown("02", "01", "nginx")]);
        assert_eq!(read(body, "ab"), expected);
        assert!(std::panic::catch_unwind(|| read(body, "cd")).is_err(), "another trace");
        assert!(std::panic::catch_unwind(|| read(r#"{"data":[]}"#, "ab")).is_err(), "none");
    }
}
