//! Debian's Prometheus, with one target.

use crate::http;
use crate::process::{Process, free_port, until};
use crate::scenario::{Scenario, crate_dir};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// How long it may take to listen.
const READY: Duration = Duration::from_secs(60);

/// A running Prometheus that scrapes once a second.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    address: SocketAddr,
}

/// The configuration in `deploy`.
fn shipped() -> String {
    let file = crate_dir("../deploy/prometheus/prometheus.yml");
    std::fs::read_to_string(file).expect("the shipped configuration")
}

/// The queries that it names.
pub fn shipped_queries() -> Vec<String> {
    let lines = shipped();
    let comments = lines.lines().filter_map(|line| line.strip_prefix("#   "));
    comments.filter(|line| line.contains("rate(")).map(str::to_owned).collect()
}

impl Prometheus {
    /// Starts it on loopback with the shipped configuration and storage of its own, to scrape `/metrics` of `target`; ready on return.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(scenario: &Scenario, target: SocketAddr) -> Prometheus {
        let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let mut config = shipped();
        for (from, to) in [
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("[127.0.0.1:9464]", &format!("[\"{target}\"]")),
        ] {
            assert!(config.contains(from), "{from} in the shipped configuration");
            config = config.replace(from, to);
        }
        let config = scenario.file("prometheus.yml", config.as_bytes());
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", scenario.path("prometheus").display()));
        command.arg(format!("--web.listen-address={address}"));
        let mut process = Process::start(command, scenario.dir(), "prometheus");
        until("Prometheus is ready", READY, || {
            assert!(process.is_running(), "Prometheus ended: {}", process.tail());
            http::get(address, "/-/ready").is_ok_and(|(status, _)| status == 200).then_some(())
        });
        Prometheus { process, address }
    }

    /// The sum of what an instant query finds; `None` when that is nothing.
    ///
    /// # Panics
    /// When it does not answer, or does not understand the query.
    pub fn query(&self, query: &str) -> Option<f64> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let found = self.ask(&format!("/api/v1/query?query={escaped}"));
        let numbers = found["data"]["result"].as_array()?.iter().map(|series| {
            let text = series["value"][1].as_str().unwrap_or_default();
            text.parse::<f64>().unwrap_or(f64::NAN)
        });
        numbers.reduce(|sum, number| sum + number)
    }

    /// What it says against its target: empty when the last scrape was well.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn complaint(&self) -> String {
        let found = self.ask("/api/v1/targets");
        let target = &found["data"]["activeTargets"][0];
        match target["health"].as_str() {
            Some("up" | "unknown") => String::new(),
            _ => target.to_string(),
        }
    }

    fn ask(&self, path: &str) -> Value {
        let (status, body) = http::get(self.address, path)
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.process.tail()));
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}"))
    }
}
