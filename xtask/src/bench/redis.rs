//! `bench redis`: a protocol that is not known, at full speed, one request a packet and sixteen. Its
//! connections are muted: what that costs, and whether a record is lost meanwhile.

use super::http::warn_of_others;
use super::report::{self, Mode, Round};
use crate::command::{command, output};
use crate::service::{Service, free_ports, scratch};
use crate::watcher::{Receiver, Watcher, losses};
use crate::{build, paths, usage};
use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::process::geteuid;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How load is made.
#[derive(Debug, Args)]
pub struct Options {
    /// Rounds; each has one part without and one with the agent.
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Thousands of requests in a part, for each request that a packet has.
    #[arg(long, default_value_t = 200)]
    thousands: u32,
    /// An agent that is built already.
    #[arg(long)]
    agent: Option<PathBuf>,
}

/// Requests that redis-benchmark sends at once.
const PIPELINES: [u32; 2] = [1, 16];

/// What is still under way when the load ends counts too.
const SETTLE: Duration = Duration::from_secs(1);

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    ensure!(geteuid().is_root(), "the agent needs root: run this as root");
    for name in ["redis-server", "redis-benchmark"] {
        program(name)?;
    }
    let agent = build::agent(options.agent.as_deref())?;
    let home = scratch("redis")?;
    warn_of_others()?;
    let result = measure(options, &agent, &home);
    fs::remove_dir_all(&home)?;
    for (pipeline, modes) in PIPELINES.iter().zip(result?) {
        print!("\nredis-benchmark -P {pipeline}");
        report::print(&modes);
    }
    Ok(())
}

fn program(name: &str) -> Result<PathBuf> {
    paths::program(name).with_context(|| {
        format!("{name} is missing: `apt-get install --no-install-recommends redis-server`")
    })
}

fn measure(options: &Options, agent: &Path, home: &Path) -> Result<Vec<[Mode; 2]>> {
    let [port] = free_ports()?;
    let _server = start_server(port, home)?;
    let receiver = Receiver::start(home)?;
    let mut all = Vec::new();
    for pipeline in PIPELINES {
        let requests = options.thousands * 1000 * pipeline;
        let mode = |name| Mode { name, ..Mode::default() };
        let mut modes = ["none", "agent"].map(mode);
        let [without, with] = &mut modes;
        for _ in 0..options.rounds {
            without.rounds.push(part(None, port, pipeline, requests)?);
            let agent = Watcher::start(agent, home, Some(&receiver), &[])?;
            with.rounds.push(part(Some(&agent), port, pipeline, requests)?);
            show_account(pipeline, &agent.ledger()?)?;
            agent.stop()?;
        }
        all.push(modes);
    }
    Ok(all)
}

/// One run of the client.
fn part(agent: Option<&Watcher>, port: u16, pipeline: u32, requests: u32) -> Result<Round> {
    let agent_cpu = || agent.map_or(Ok(Duration::ZERO), |agent| usage::process(agent.pid()));
    let (machine, own, began) = (usage::machine()?, agent_cpu()?, Instant::now());
    let [port, pipeline, count] = [u32::from(port), pipeline, requests].map(|n| n.to_string());
    let client = program("redis-benchmark")?;
    let arguments = ["-p", &port, "-P", &pipeline, "-n", &count, "-t", "get", "-q"];
    output(&mut command(&client.to_string_lossy(), arguments))?;
    let took = began.elapsed().as_secs_f64();
    thread::sleep(SETTLE);
    let per_request = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(requests);
    Ok(Round {
        rate: f64::from(requests) / took,
        cpu: per_request(usage::machine()?.saturating_sub(machine)),
        agent: per_request(agent_cpu()?.saturating_sub(own)),
        ..Round::default()
    })
}

/// Prints what was lost, and what was muted. A record that the kernel had no room for fails the run.
fn show_account(pipeline: u32, ledger: &[Value]) -> Result<()> {
    let text = |line: &Value, name| line.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let count = |line: &Value| line.get("count").and_then(Value::as_u64).unwrap_or(0);
    let of = |stage: &str, side: &str| -> u64 {
        let here = |line: &&Value| text(line, "stage") == stage && text(line, "side") == side;
        ledger.iter().filter(here).map(count).sum()
    };
    println!(
        "-P {pipeline}: {} records, {} lost",
        of("kernel_payload", "in"),
        of("kernel_payload", "lost")
    );
    let is_muted = |line: &&Value| {
        ["muted", "unclassified"].iter().any(|word| text(line, "cause").contains(word))
    };
    for line in ledger.iter().filter(is_muted) {
        println!(
            "  {} {}: {} {}",
            text(line, "stage"),
            text(line, "unit"),
            text(line, "cause"),
            count(line)
        );
    }
    let lost = losses(ledger);
    ensure!(lost.is_empty(), "the agent lost something:\n  {}", lost.join("\n  "));
    Ok(())
}

fn start_server(port: u16, home: &Path) -> Result<Service> {
    let server = program("redis-server")?;
    let (port_text, home_text) = (port.to_string(), home.display().to_string());
    let arguments =
        ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--dir", &home_text];
    let mut redis = command(&server.to_string_lossy(), arguments);
    let mut service = Service::start("redis", &mut redis, home)?;
    service.until_listening(port)?;
    Ok(service)
}
