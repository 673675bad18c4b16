//! `bench http`: a web server and wrk at full speed, rounds without and with the agent one after the
//! other, CPU time of the whole machine per request.

use super::aims::{self, Aim};
use super::report::{self, Mode, Round, Seen};
use crate::build;
use crate::command::{command, output};
use crate::service::{Service, free_ports, scratch};
use crate::usage;
use crate::watcher::{Receiver, Watcher, losses};
use crate::web::{Certificate, Web};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use rustix::process::geteuid;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

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
    /// HTTP over TLS. With nginx both ends have OpenSSL, which is probed at both whatever is selected;
    /// lighttpd has a library that is not probed, so that only the client's end adds.
    #[arg(long)]
    tls: bool,
    /// Who answers.
    #[arg(long, value_enum, default_value_t = Server::Nginx)]
    server: Server,
    /// Counts the CPU time of server, wrk and agent alone, in place of the whole machine's: for a machine
    /// that others use as well.
    #[arg(long)]
    shared: bool,
    /// An agent that is built already.
    #[arg(long)]
    agent: Option<PathBuf>,
    /// Measures the agent of this file as well, in the same rounds: another build.
    #[arg(long)]
    other: Option<PathBuf>,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Server {
    Nginx,
    /// With mbedTLS.
    Lighttpd,
}

/// What runs beside the load in a part of a round.
struct Plan {
    name: &'static str,
    /// The agent, none for a part without it.
    agent: Option<PathBuf>,
    arguments: &'static [&'static str],
    /// What it is to add at most.
    aim: Option<Aim>,
}

impl Plan {
    fn without(name: &'static str) -> Plan {
        Plan { name, agent: None, arguments: &[], aim: None }
    }
}

/// The parts of a round.
fn plans(options: &Options, agent: &Path) -> Vec<Plan> {
    let with = |name, arguments, aim| Plan { name, agent: Some(agent.to_owned()), arguments, aim };
    let mut plans = vec![Plan::without("none")];
    match (options.server, options.tls) {
        (Server::Nginx, false) => plans.extend([
            with("both ends", &[], Some(aims::BOTH_ENDS)),
            with("one end", &["--exclude", "wrk"], Some(aims::ONE_END)),
        ]),
        (Server::Nginx, true) => plans.extend([
            with("both ends", &[], None),
            with("wrk left out", &["--exclude", "wrk"], None),
        ]),
        (Server::Lighttpd, tls) => {
            let aim = if tls { aims::TLS_ONE_END } else { aims::ONE_END };
            plans.push(with("client's end", &["--exclude", "lighttpd"], Some(aim)));
        }
    }
    if let Some(other) = &options.other {
        let names = ["other, both", "other, one"];
        let others = plans.iter().skip(1).zip(names).map(|(plan, name)| Plan {
            name,
            agent: Some(other.clone()),
            arguments: plan.arguments,
            aim: None,
        });
        let others: Vec<Plan> = others.collect();
        plans.extend(others);
    }
    plans
}

/// What is still under way when the load ends counts too.
const SETTLE: Duration = Duration::from_secs(1);

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let plans = if options.baseline {
        vec![Plan::without("none"), Plan::without("none again")]
    } else {
        ensure!(geteuid().is_root(), "the agent needs root: run this as root");
        plans(options, &build::agent(options.agent.as_deref())?)
    };
    let home = scratch("bench")?;
    if !options.shared {
        warn_of_others()?;
    }
    let result = measure(options, &plans, &home);
    let removed = fs::remove_dir_all(&home);
    report::print(&result?);
    removed.context("the benchmark's directory")
}

/// The whole machine's time is counted: what else runs on it is in the figures.
pub fn warn_of_others() -> Result<()> {
    let before = usage::machine()?;
    thread::sleep(SETTLE);
    let busy = (usage::machine()? - before).as_secs_f64() / SETTLE.as_secs_f64();
    if busy > 0.05 {
        println!("bench: other programs use {busy:.2} processors now, and are in these figures");
    }
    Ok(())
}

fn measure(options: &Options, plans: &[Plan], home: &Path) -> Result<Vec<Mode>> {
    let [port] = free_ports()?;
    let mut rig = Rig { home, port, options, server: None };
    rig.server = Some(rig.start_server()?);
    let receiver = Receiver::start(home)?;
    let mut modes: Vec<_> = plans
        .iter()
        .map(|plan| Mode { name: plan.name, aim: plan.aim, rounds: Vec::new() })
        .collect();
    for round in 1..=options.rounds {
        for (mode, plan) in modes.iter_mut().zip(plans) {
            let measured = rig.part(plan, &receiver)?;
            println!(
                "round {round}, {}: {:.0} requests/s, {:.2} us/request",
                plan.name, measured.rate, measured.cpu
            );
            mode.rounds.push(measured);
        }
    }
    Ok(modes)
}

struct Rig<'a> {
    home: &'a Path,
    port: u16,
    options: &'a Options,
    server: Option<Service>,
}

impl Rig<'_> {
    /// One part of a round: the agent, when there is one, from its start to its end.
    fn part(&self, plan: &Plan, receiver: &Receiver) -> Result<Round> {
        let Some(agent) = &plan.agent else { return self.load(None, receiver) };
        let agent = Watcher::start(agent, self.home, Some(receiver), plan.arguments)?;
        println!("  agent ready after {:.2} s", agent.ready);
        let round = self.load(Some(&agent), receiver)?;
        let mut seen =
            Seen { ready: agent.ready, age: show_ages(receiver)?, ..show_agent(&agent)? };
        seen.stopped = agent.stop()?;
        println!("  agent stopped after {:.2} s", seen.stopped);
        Ok(Round { seen: Some(seen), ..round })
    }

    fn load(&self, agent: Option<&Watcher>, receiver: &Receiver) -> Result<Round> {
        let agent_cpu = || agent.map_or(Ok(Duration::ZERO), |agent| usage::process(agent.pid()));
        let now =
            || anyhow::Ok((self.spent(agent)?, usage::process(receiver.pid())?, agent_cpu()?));
        let before = now()?;
        let requests = self.wrk()?;
        thread::sleep(SETTLE);
        let after = now()?;
        let per_request = |time: Duration| time.as_secs_f64() * 1e6 / requests;
        let (spent, receiver) = (after.0.saturating_sub(before.0), after.1 - before.1);
        let besides = if self.options.shared { Duration::ZERO } else { receiver };
        Ok(Round {
            rate: requests / f64::from(self.options.seconds),
            cpu: per_request(spent.saturating_sub(besides)),
            receiver: per_request(receiver),
            agent: per_request(after.2 - before.2),
            seen: None,
        })
    }

    /// CPU time so far, of those that are counted.
    fn spent(&self, agent: Option<&Watcher>) -> Result<Duration> {
        if !self.options.shared {
            return usage::machine();
        }
        // wrk is a child of this process that has ended.
        let mut sum = usage::ended_children()?;
        for pid in self.server.iter().map(Service::pid).chain(agent.map(Watcher::pid)) {
            sum += usage::process(pid)?;
            for child in usage::children(pid) {
                sum += usage::process(child)?;
            }
        }
        Ok(sum)
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
        let scheme = if self.options.tls { "https" } else { "http" };
        let text = output(wrk.arg(format!("{scheme}://127.0.0.1:{}/", self.port)))?;
        ensure!(!text.contains("Socket errors"), "wrk saw errors: {text}");
        answered(&text).with_context(|| format!("wrk said: {text}"))
    }

    fn start_server(&self) -> Result<Service> {
        let certificate = if self.options.tls { Some(Certificate::make(self.home)?) } else { None };
        let web = Web {
            name: "server",
            home: self.home,
            workers: self.options.workers,
            connections: 1024,
            plain: (!self.options.tls).then_some(self.port),
            tls: certificate.as_ref().map(|certificate| (self.port, certificate)),
            everywhere: false,
        };
        match self.options.server {
            Server::Nginx => web.nginx(),
            Server::Lighttpd => web.lighttpd(),
        }
    }
}

/// Prints the agent's memory and losses. A round with a loss measured less work than it claims.
fn show_agent(agent: &Watcher) -> Result<Seen> {
    let (resident, anonymous) = usage::memory(agent.pid())?;
    let kernel = usage::kernel_memory(agent.pid())?;
    println!("  agent resident {resident} KiB, of which anonymous {anonymous} KiB");
    println!("  its kernel maps {} KiB", kernel / 1024);
    let lost = losses(&agent.ledger()?);
    ensure!(lost.is_empty(), "the agent lost something:\n  {}", lost.join("\n  "));
    let (anonymous, kernel) = (anonymous as f64 * 1024.0 / 1e6, kernel as f64 / 1e6);
    Ok(Seen { anonymous, kernel, ..Seen::default() })
}

/// Prints how old spans were at the receiver, and starts anew. The 99th percentile, ms.
fn show_ages(receiver: &Receiver) -> Result<f64> {
    let [spans, median, most] = receiver.ages()?;
    println!(
        "  of a sample of {spans} spans: received within {median} ms (median), {most} ms (99 %) of their end"
    );
    Ok(most.parse().unwrap_or(f64::NAN))
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
