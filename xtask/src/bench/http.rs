//! `bench http`: nginx and wrk at full speed, rounds without and with the agent one after the
//! other, CPU time of the whole machine per request.

use super::aims::{self, Aim};
use super::report::{self, Mode, Round, Seen};
use super::usage;
use crate::command::{self, command, output};
use crate::service::{Service, free_ports, scratch};
use crate::{build, paths};
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
    /// Rounds; each has one part per mode.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load in each part.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Connections that wrk keeps open.
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// Workers of nginx and threads of wrk. With one of each, either waits for the other at times,
    /// and what waking costs is in the figures; with as many as processors none is ever idle.
    #[arg(long, default_value_t = 1)]
    workers: u32,
    /// Paces the load to about so many requests per second, in place of full speed and of
    /// `--connections`: for memory at a given rate. What was reached is printed.
    #[arg(long)]
    rate: Option<u32>,
    /// Only the rounds without the agent: shows the noise of the machine.
    #[arg(long)]
    baseline: bool,
}

/// Name, the agent's arguments (`None` runs without it), and what it is to add at most.
type Plan = (&'static str, Option<&'static [&'static str]>, Option<Aim>);

const PLANS: [Plan; 3] = [
    ("none", None, None),
    ("both ends", Some(&[]), Some(aims::BOTH_ENDS)),
    ("one end", Some(&["--exclude", "wrk"]), Some(aims::ONE_END)),
];
const BASELINE: [Plan; 2] = [("none", None, None), ("none again", None, None)];

/// What is still under way when the load ends counts too.
const SETTLE: Duration = Duration::from_secs(1);

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let (plans, agent) = if options.baseline {
        (&BASELINE[..], PathBuf::new())
    } else {
        ensure!(geteuid().is_root(), "the agent needs root: run this as root");
        (&PLANS[..], build::run()?)
    };
    let home = scratch("bench")?;
    warn_of_others()?;
    let result = measure(options, plans, &agent, &home);
    let removed = fs::remove_dir_all(&home);
    report::print(&result?);
    removed.context("the benchmark's directory")
}

/// The whole machine's time is counted: what else runs on it is in the figures.
fn warn_of_others() -> Result<()> {
    let before = usage::machine()?;
    thread::sleep(SETTLE);
    let busy = (usage::machine()? - before).as_secs_f64() / SETTLE.as_secs_f64();
    if busy > 0.05 {
        println!("bench: other programs use {busy:.2} processors now, and are in these figures");
    }
    Ok(())
}

fn measure(options: &Options, plans: &[Plan], agent: &Path, home: &Path) -> Result<Vec<Mode>> {
    let [web, sink, listen] = free_ports()?;
    let rig = Rig { agent, home, web, sink, listen, options };
    let _nginx = rig.start_nginx()?;
    let receiver = rig.start_receiver()?;
    let mut modes: Vec<_> =
        plans.iter().map(|&(name, _, aim)| Mode { name, aim, rounds: Vec::new() }).collect();
    for round in 1..=options.rounds {
        for (mode, (name, arguments, _)) in modes.iter_mut().zip(plans) {
            let measured = rig.part(*arguments, &receiver)?;
            println!(
                "round {round}, {name}: {:.0} requests/s, {:.2} us/request",
                measured.rate, measured.cpu
            );
            mode.rounds.push(measured);
        }
    }
    Ok(modes)
}

struct Rig<'a> {
    agent: &'a Path,
    home: &'a Path,
    web: u16,
    sink: u16,
    listen: u16,
    options: &'a Options,
}

impl Rig<'_> {
    /// One part of a round: the agent, when there is one, from its start to its end.
    fn part(&self, arguments: Option<&[&str]>, receiver: &Service) -> Result<Round> {
        let Some(arguments) = arguments else { return self.load(None, receiver) };
        let (agent, ready) = self.start_agent(arguments)?;
        let round = self.load(Some(&agent), receiver)?;
        let mut seen = Seen { ready, age: self.show_ages()?, ..self.show_agent(&agent)? };
        let asked = Instant::now();
        agent.stop(Duration::from_secs(10))?;
        seen.stopped = asked.elapsed().as_secs_f64();
        println!("  agent stopped after {:.2} s", seen.stopped);
        Ok(Round { seen: Some(seen), ..round })
    }

    fn load(&self, agent: Option<&Service>, receiver: &Service) -> Result<Round> {
        let agent_cpu = || agent.map_or(Ok(Duration::ZERO), |agent| usage::process(agent.pid()));
        let before = (usage::machine()?, usage::process(receiver.pid())?, agent_cpu()?);
        let requests = self.wrk()?;
        thread::sleep(SETTLE);
        let after = (usage::machine()?, usage::process(receiver.pid())?, agent_cpu()?);
        let per_request = |time: Duration| time.as_secs_f64() * 1e6 / requests;
        let (machine, receiver) = (after.0 - before.0, after.1 - before.1);
        Ok(Round {
            rate: requests / f64::from(self.options.seconds),
            cpu: per_request(machine.saturating_sub(receiver)),
            receiver: per_request(receiver),
            agent: per_request(after.2 - before.2),
            seen: None,
        })
    }

    /// Runs wrk; the number of requests it says were answered.
    fn wrk(&self) -> Result<f64> {
        let (seconds, rate) = (self.options.seconds, self.options.rate);
        let connections = rate.map_or(self.options.connections, paced_connections);
        let duration = format!("-d{seconds}s");
        let threads = format!("-t{}", self.options.workers);
        let arguments = [&threads, &format!("-c{connections}"), &duration];
        let mut wrk = command("wrk", arguments);
        if rate.is_some() {
            let script = self.home.join("pace.lua");
            fs::write(&script, format!("function delay() return {PAUSE_MS} end\n"))?;
            wrk.arg("-s").arg(script);
        }
        let text = output(wrk.arg(format!("http://127.0.0.1:{}/", self.web)))?;
        ensure!(!text.contains("Socket errors"), "wrk saw errors: {text}");
        answered(&text).with_context(|| format!("wrk said: {text}"))
    }

    fn start_nginx(&self) -> Result<Service> {
        let home = self.home.display();
        fs::write(self.home.join("index.html"), "x".repeat(200) + "\n")?;
        let config = format!(
            "daemon off;\nworker_processes {};\nuser root;\npid {home}/nginx.pid;\n\
             events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n\
             keepalive_requests 1000000000;\nclient_body_temp_path {home}/body;\n\
             proxy_temp_path {home}/proxy;\nfastcgi_temp_path {home}/fastcgi;\n\
             uwsgi_temp_path {home}/uwsgi;\nscgi_temp_path {home}/scgi;\n\
             server {{ listen 127.0.0.1:{}; root {home}; }}\n}}\n",
            self.options.workers, self.web
        );
        let file = self.home.join("nginx.conf");
        fs::write(&file, config)?;
        let program =
            paths::program("nginx").context("nginx is missing: run `cargo xtask setup`")?;
        let error_log = format!("{home}/error.log");
        let mut nginx = command(&program.to_string_lossy(), ["-e", &error_log, "-c"]);
        let mut service = Service::start("nginx", nginx.arg(file), self.home)?;
        service.until_listening(self.web)?;
        Ok(service)
    }

    fn start_receiver(&self) -> Result<Service> {
        let this = std::env::current_exe().context("this program's path")?;
        let port = self.sink.to_string();
        let mut sink = command(&this.to_string_lossy(), ["bench", "sink", &port]);
        let mut service = Service::start("receiver", &mut sink, self.home)?;
        service.until_listening(self.sink)?;
        Ok(service)
    }

    /// The agent, and the seconds until it was ready.
    fn start_agent(&self, arguments: &[&str]) -> Result<(Service, f64)> {
        let listen = format!("127.0.0.1:{}", self.listen);
        let started = Instant::now();
        let mut run = command(
            &self.agent.to_string_lossy(),
            ["run", "--output", "otlp", "--listen", &listen],
        );
        run.args(arguments)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", self.sink))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        let mut agent = Service::start("kernspan", &mut run, self.home)?;
        let ready = format!("http://{listen}/readyz");
        agent.until(Duration::from_secs(20), || {
            command::succeeds(&mut command("curl", ["-sf", "--max-time", "2", &ready]))
        })?;
        let ready = started.elapsed().as_secs_f64();
        println!("  agent ready after {ready:.2} s");
        Ok((agent, ready))
    }

    /// Prints the agent's memory and losses. A round with a loss measured less work than it claims.
    fn show_agent(&self, agent: &Service) -> Result<Seen> {
        let (resident, anonymous) = usage::memory(agent.pid())?;
        let kernel = usage::kernel_memory(agent.pid())?;
        println!("  agent resident {resident} KiB, of which anonymous {anonymous} KiB");
        println!("  its kernel maps {} KiB", kernel / 1024);
        let url = format!("http://127.0.0.1:{}/status", self.listen);
        let status = output(&mut command("curl", ["-sf", "--max-time", "5", &url]))?;
        let status: Value = serde_json::from_str(&status).context("/status is no JSON")?;
        let lost = losses(&status).context("/status has no ledger")?;
        ensure!(lost.is_empty(), "the agent lost something:\n  {}", lost.join("\n  "));
        let (anonymous, kernel) = (anonymous as f64 * 1024.0 / 1e6, kernel as f64 / 1e6);
        Ok(Seen { anonymous, kernel, ..Seen::default() })
    }

    /// Prints how old spans were at the receiver, and starts anew. The 99th percentile, ms.
    fn show_ages(&self) -> Result<f64> {
        let url = format!("http://127.0.0.1:{}/ages", self.sink);
        let ages = output(&mut command("curl", ["-sf", "--max-time", "5", &url]))?;
        let mut numbers = ages.split_whitespace();
        let [spans, median, most] = [(); 3].map(|()| numbers.next().unwrap_or("?"));
        println!(
            "  of a sample of {spans} spans: received within {median} ms (median), {most} ms (99 %) of their end"
        );
        Ok(most.parse().unwrap_or(f64::NAN))
    }
}

/// Pause of each paced connection before each request. wrk counts milliseconds, and its timers fire
/// up to one late.
const PAUSE_MS: u32 = 4;

/// Connections that reach `rate` together: each sends at most every `PAUSE_MS`, mostly half a
/// millisecond later.
fn paced_connections(rate: u32) -> u32 {
    (rate.saturating_mul(2 * PAUSE_MS + 1) / 2000).max(1)
}

/// `  123456 requests in 5.00s, 100.00MB read`
fn answered(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains(" requests in "))?;
    line.split_whitespace().next()?.parse().ok().filter(|requests| *requests > 0.0)
}

/// Lines of the ledger that are losses: `{"stage", "unit", "side": "lost", "cause", "count"}`.
fn losses(status: &Value) -> Option<Vec<String>> {
    let lines = status.get("ledger")?.as_array()?;
    let lost = lines.iter().filter(|line| {
        line.get("side").and_then(Value::as_str) == Some("lost")
            && line.get("count").and_then(Value::as_u64) != Some(0)
            // What --exclude left out, and what is muted because it is no HTTP, was not lost.
            && line.get("stage").and_then(Value::as_str) != Some("selection")
            && line.get("cause").and_then(Value::as_str) != Some("muted")
    });
    Some(lost.map(Value::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wrks_count_is_read_and_none_is_no_measurement() {
        let text = "  Latency 1ms\n  290431 requests in 5.00s, 100.00MB read\nRequests/sec: 1\n";
        assert_eq!(answered(text), Some(290_431.0));
        assert_eq!(answered("  0 requests in 5.00s, 0.00B read\n"), None);
    }

    #[test]
    fn a_rate_takes_as_many_connections_as_wait_meanwhile() {
        for (rate, connections) in [(20_000, 90), (1, 1), (u32::MAX, 2_147_483)] {
            assert_eq!(paced_connections(rate), connections, "{rate}/s");
        }
    }

    #[test]
    fn losses_are_found_and_a_missing_ledger_is_no_zero() {
        let status = json!({"ledger": [
            {"stage": "ring", "side": "lost", "cause": "full", "count": 2},
            {"stage": "ring", "side": "lost", "cause": "late", "count": 0},
            {"stage": "ring", "side": "out", "count": 9},
            {"stage": "selection", "side": "lost", "cause": "not_selected", "count": 3},
        ]});
        assert_eq!(losses(&status).unwrap().len(), 1);
        assert!(losses(&json!({})).is_none());
    }
}
