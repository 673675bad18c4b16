//! The configurations of receivers in `deploy`, as they are: each by the check of its own program. That they
//! take what the agent sends is shown by `export`, `export_jaeger` and `prometheus`, which start them.

use kernspan_tests::process::output;
use kernspan_tests::scenario::{Scenario, crate_dir, find_program, skip, tool};
use std::path::PathBuf;
use std::process::Command;

fn shipped(path: &str) -> PathBuf {
    crate_dir("../deploy").join(path)
}

#[test]
fn the_collector_takes_its_shipped_configuration() {
    let Some(scenario) = Scenario::begin_without_agent("receivers_collector", &[]) else { return };
    let Some(collector) = tool("collector", "otelcol") else {
        skip("receivers_collector", "no OpenTelemetry Collector: cargo xtask setup builds it");
        return;
    };
    let mut validate = Command::new(collector);
    validate.arg("validate").arg("--config").arg(shipped("collector/config.yaml"));
    output(validate.env("KERNSPAN_OUT", scenario.dir()));
}

#[test]
fn jaeger_takes_its_shipped_configuration() {
    let Some(jaeger) = tool("jaeger", "jaeger") else {
        skip("receivers_jaeger", "no Jaeger: cargo xtask setup builds it where Go is");
        return;
    };
    let config = shipped("jaeger/config.yaml");
    output(Command::new(jaeger).arg("validate").arg("--config").arg(config));
}

/// Also with the job that is commented out, but for the discovery of pods: Debian's Prometheus is built without.
#[test]
fn prometheus_takes_its_shipped_configuration() {
    let programs = ["promtool"];
    let Some(scenario) = Scenario::begin_without_agent("receivers_prometheus", &programs) else {
        return;
    };
    let promtool = find_program("promtool").expect("it is there");
    let check = |config: PathBuf| {
        output(Command::new(&promtool).args(["check", "config"]).arg(config));
    };
    let config = shipped("prometheus/prometheus.yml");
    let text = std::fs::read_to_string(&config).expect("the shipped configuration");
    check(config);
    let (above, below) = text.split_once("  #- job_name").expect("a job for nodes");
    let job = below.replace("\n  #", "\n  ");
    let discovery = "kubernetes_sd_configs:\n      - role: pod";
    assert!(job.contains(discovery), "{job}");
    let job = job.replace(discovery, "static_configs:\n      - targets: [127.0.0.1:9464]");
    check(scenario.file("nodes.yml", format!("{above}  - job_name{job}").as_bytes()));
}
