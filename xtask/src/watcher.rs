//! The agent beside a measurement, and the receiver of what it exports.

use crate::command::{self, command, output};
use crate::service::{Service, free_ports};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// Takes exports and discards them: this program, as a process of its own.
pub struct Receiver {
    service: Service,
    port: u16,
}

impl Receiver {
    /// Starts it; it listens on return.
    pub fn start(home: &Path) -> Result<Receiver> {
        let this = std::env::current_exe().context("this program's path")?;
        let [port] = free_ports()?;
        let mut sink = command(&this.to_string_lossy(), ["bench", "sink", &port.to_string()]);
        let mut service = Service::start("receiver", &mut sink, home)?;
        service.until_listening(port)?;
        Ok(Receiver { service, port })
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// How old spans were when they came, since this was last asked: their number, the median and the
    /// 99th percentile in ms.
    pub fn ages(&self) -> Result<[String; 3]> {
        let url = format!("http://127.0.0.1:{}/ages", self.port);
        let ages = output(&mut command("curl", ["-sf", "--max-time", "5", &url]))?;
        let mut numbers = ages.split_whitespace().map(str::to_owned);
        Ok([(); 3].map(|()| numbers.next().unwrap_or_else(|| "?".to_owned())))
    }
}

/// A running agent.
pub struct Watcher {
    service: Service,
    listen: u16,
    /// Seconds from its start until it said that it is ready.
    pub ready: f64,
}

impl Watcher {
    /// `kernspan run ARGUMENTS`, exporting to `receiver` where there is one; ready on return.
    pub fn start(
        agent: &Path,
        home: &Path,
        receiver: Option<&Receiver>,
        arguments: &[&str],
    ) -> Result<Watcher> {
        let [listen] = free_ports()?;
        let address = format!("127.0.0.1:{listen}");
        let to = if receiver.is_some() { "otlp" } else { "none" };
        let mut run =
            command(&agent.to_string_lossy(), ["run", "--output", to, "--listen", &address]);
        run.args(arguments);
        if let Some(receiver) = receiver {
            let endpoint = format!("http://127.0.0.1:{}", receiver.port);
            run.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
                .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        }
        let started = Instant::now();
        let mut service = Service::start("kernspan", &mut run, home)?;
        let ready = format!("http://{address}/readyz");
        service.until(Duration::from_secs(20), || {
            command::succeeds(&mut command("curl", ["-sf", "--max-time", "2", &ready]))
        })?;
        Ok(Watcher { service, listen, ready: started.elapsed().as_secs_f64() })
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// One of its pages.
    pub fn page(&self, path: &str) -> Result<String> {
        let url = format!("http://127.0.0.1:{}{path}", self.listen);
        output(&mut command("curl", ["-sf", "--max-time", "5", &url]))
    }

    /// Lines of its account.
    pub fn ledger(&self) -> Result<Vec<Value>> {
        let status: Value =
            serde_json::from_str(&self.page("/status")?).context("/status is no JSON")?;
        lines(&status).cloned().context("/status has no ledger")
    }

    /// Stops it; the seconds that this took.
    pub fn stop(self) -> Result<f64> {
        let asked = Instant::now();
        let status = self.service.stop(Duration::from_secs(10))?;
        ensure!(status.success(), "the agent ended with {status}");
        Ok(asked.elapsed().as_secs_f64())
    }
}

fn lines(status: &Value) -> Option<&Vec<Value>> {
    status.get("ledger")?.as_array()
}

/// Causes that cost nothing which anybody wanted: what is no HTTP, and what is read in clear instead.
const NO_LOSS: [&str; 3] = ["muted", "unclassified", "ciphertext"];

/// Lines of a ledger that are losses: `{"stage", "unit", "side": "lost", "cause", "count"}`.
pub fn losses(ledger: &[Value]) -> Vec<String> {
    let cause = |line: &Value| line.get("cause").and_then(Value::as_str).unwrap_or("").to_owned();
    let lost = ledger.iter().filter(|line| {
        line.get("side").and_then(Value::as_str) == Some("lost")
            && line.get("count").and_then(Value::as_u64) != Some(0)
            // What --exclude left out was not lost.
            && line.get("stage").and_then(Value::as_str) != Some("selection")
            && !NO_LOSS.contains(&cause(line).as_str())
    });
    lost.map(Value::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn losses_are_found_and_a_missing_ledger_is_no_zero() {
        let status = json!({"ledger": [
            {"stage": "ring", "side": "lost", "cause": "full", "count": 2},
            {"stage": "ring", "side": "lost", "cause": "late", "count": 0},
            {"stage": "ring", "side": "out", "count": 9},
            {"stage": "selection", "side": "lost", "cause": "not_selected", "count": 3},
            {"stage": "connection", "side": "lost", "cause": "unclassified", "count": 4},
        ]});
        assert_eq!(losses(lines(&status).unwrap()).len(), 1);
        assert!(lines(&json!({})).is_none());
    }
}
