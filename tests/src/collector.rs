//! A real OpenTelemetry Collector with the configuration in `deploy/collector`, on free ports.

use crate::certificates::Certificates;
use crate::otlp::Telemetry;
use crate::process::{Process, free_ports, until};
use crate::scenario::{Scenario, crate_dir, skip, tool};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How long it may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the shipped configuration writes.
const FILES: [&str; 3] = ["traces.jsonl", "logs.jsonl", "metrics.jsonl"];

/// What the shipped configuration lacks: a receiver that demands client certificates, and files
/// that survive a restart.
const OVERLAY: &str = "\
receivers:
  otlp/mtls:
    protocols:
      grpc: {endpoint: '127.0.0.1:GRPC', tls: {cert_file: CRT, key_file: KEY, client_ca_file: CA}}
      http: {endpoint: '127.0.0.1:HTTP', tls: {cert_file: CRT, key_file: KEY, client_ca_file: CA}}
exporters: {file/traces: {append: true}, file/logs: {append: true}, file/metrics: {append: true}}
service:
  pipelines:
    traces: {receivers: [otlp, otlp/mtls]}
    logs: {receivers: [otlp, otlp/mtls]}
    metrics: {receivers: [otlp, otlp/mtls]}
";

/// A Collector that can go away and come back.
#[derive(Debug)]
pub struct Collector {
    program: PathBuf,
    dir: PathBuf,
    process: Option<Process>,
    /// OTLP over gRPC.
    pub grpc: u16,
    /// OTLP over HTTP.
    pub http: u16,
    /// OTLP over gRPC with mutual TLS.
    pub grpc_mtls: u16,
    /// OTLP over HTTP with mutual TLS.
    pub http_mtls: u16,
    /// Certificates for these.
    pub certificates: Certificates,
}

impl Collector {
    /// Starts one for the scenario; it listens on return. Prints `SKIP name: reason` and returns
    /// `None` when `cargo xtask setup` has built none.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(scenario: &Scenario, name: &str) -> Option<Collector> {
        let Some(program) = tool("collector", "otelcol") else {
            skip(name, "no OpenTelemetry Collector: cargo xtask setup builds it");
            return None;
        };
        let [grpc, http, grpc_mtls, http_mtls, health] = free_ports();
        let certificates = Certificates::make(scenario);
        let shipped = crate_dir("../deploy/collector/config.yaml");
        let mut config = std::fs::read_to_string(shipped).expect("the shipped configuration");
        for (from, to) in [("4317", grpc), ("4318", http), ("13133", health)] {
            let (from, to) = (format!("127.0.0.1:{from}"), format!("127.0.0.1:{to}"));
            assert!(config.contains(&from), "{from} in the shipped configuration");
            config = config.replace(&from, &to);
        }
        let overlay = OVERLAY
            .replace("GRPC", &grpc_mtls.to_string())
            .replace("HTTP", &http_mtls.to_string())
            .replace("CRT", &certificates.file("server.crt"))
            .replace("KEY", &certificates.file("server.key"))
            .replace("CA}", &format!("{}}}", certificates.file("ca.crt")));
        // Those of a Collector before are not this one's.
        for name in FILES {
            scenario.file(name, b"");
        }
        scenario.file("collector.yaml", config.as_bytes());
        scenario.file("overlay.yaml", overlay.as_bytes());
        let dir = scenario.dir().to_path_buf();
        let mut collector = Collector {
            program,
            dir,
            process: None,
            grpc,
            http,
            grpc_mtls,
            http_mtls,
            certificates,
        };
        collector.come_back();
        Some(collector)
    }

    /// Starts it again on the same ports.
    ///
    /// # Panics
    /// When it does not start.
    pub fn come_back(&mut self) {
        let mut command = Command::new(&self.program);
        for config in ["collector.yaml", "overlay.yaml"] {
            command.arg("--config").arg(self.dir.join(config));
        }
        command.env("KERNSPAN_OUT", &self.dir);
        let mut process = Process::start(command, &self.dir, "collector");
        until("the Collector is ready", PATIENCE, || {
            assert!(process.is_running(), "the Collector ended: {}", process.tail());
            process.stderr().contains("Everything is ready").then_some(())
        });
        self.process = Some(process);
    }

    /// Ends it in order: what it has taken is in its file afterwards.
    ///
    /// # Panics
    /// When it does not end.
    pub fn go_away(&mut self) {
        if let Some(process) = self.process.take() {
            let ended = process.terminate(PATIENCE);
            assert!(ended.status.success(), "the Collector: {}\n{}", ended.status, ended.stderr);
        }
    }

    /// Its process number, 0 while it is away.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::pid)
    }

    /// The ports on which it takes OTLP.
    pub fn ports(&self) -> [u16; 4] {
        [self.grpc, self.http, self.grpc_mtls, self.http_mtls]
    }

    /// Ends it and returns everything that ever arrived.
    pub fn received(mut self) -> Telemetry {
        self.go_away();
        let files = FILES.map(|name| std::fs::read_to_string(self.dir.join(name)));
        Telemetry::parse(&files.map(|text| text.expect("a file of the Collector")).concat())
    }
}
