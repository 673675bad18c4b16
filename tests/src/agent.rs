//! The binary under test: started, ready, stopped, and what it wrote.

use crate::http;
use crate::ledger::Ledger;
use crate::otlp::Telemetry;
use crate::process::{Ended, Process, free_port, until, waited_for_processors};
use crate::scenario::{Scenario, binary};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long the agent may take until its probes are attached. The aim is one second; the bench
/// measures it, here only a hang must end.
const READY: Duration = Duration::from_secs(60);

/// How long it may take from SIGTERM to its end (a promise: 2 s, see [`Agent::stop`]).
const STOP: Duration = Duration::from_secs(15);

/// Time for the last records to leave the rings before the agent is stopped.
const SETTLE: Duration = Duration::from_millis(300);

/// … and what a busy machine may make of it.
const CATCH_UP: Duration = Duration::from_secs(30);

/// Capabilities of the chart, in setpriv's words.
const RIGHTS: &str = "-all,+bpf,+perfmon,+sys_ptrace,+dac_read_search,+net_admin";

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    address: SocketAddr,
    output: PathBuf,
}

/// What an agent left behind.
#[derive(Debug)]
pub struct Report {
    /// How it ended.
    pub ended: Ended,
    /// The ledger as printed at the end; where the log level hides it, as in `/status` before.
    pub ledger: Ledger,
    /// What it exported to its JSON file.
    pub telemetry: Telemetry,
}

impl Agent {
    /// `kernspan run` with a JSON output of its own, plus `arguments`; ready on return.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn run(scenario: &Scenario, arguments: &[&str]) -> Agent {
        Agent::start(scenario, &["run"], arguments, &[])
    }

    /// The same with no other rights than the image and the unit have.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn run_confined(scenario: &Scenario, arguments: &[&str]) -> Agent {
        let (command, address, output) = prepared(scenario, &["run"], arguments, &[]);
        let mut confined = Command::new("setpriv");
        confined.args(["--no-new-privs", "--inh-caps", "-all", "--bounding-set", RIGHTS]);
        confined.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => confined.env(name, value),
                None => confined.env_remove(name),
            };
        }
        Agent::started(scenario, confined, address, output)
    }

    /// The same with environment variables.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn run_with(scenario: &Scenario, arguments: &[&str], variables: &[(&str, &str)]) -> Agent {
        Agent::start(scenario, &["run"], arguments, variables)
    }

    /// Waits until its output has not grown for a second, at most `limit`: on a busy machine what was
    /// reported takes a while to be written, and stopping does not wait for all of it.
    pub fn settle(&self, limit: Duration) {
        let written = || std::fs::metadata(&self.output).map_or(0, |metadata| metadata.len());
        let begin = Instant::now();
        let mut last = (written(), Instant::now());
        while begin.elapsed() < limit && last.1.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(50));
            let now = written();
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
    }

    /// `kernspan record FILE`, otherwise as [`Agent::run`].
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn record(scenario: &Scenario, recording: &str, arguments: &[&str]) -> Agent {
        let file = scenario.path(recording);
        Agent::start(scenario, &["record", &file.to_string_lossy()], arguments, &[])
    }

    /// `kernspan run` as by [`Agent::run`], with its standard output into a pipe.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn run_into_pipe(scenario: &Scenario, arguments: &[&str]) -> (Agent, std::io::PipeReader) {
        let (command, address, output) = prepared(scenario, &["run"], arguments, &[]);
        let name = format!("agent-{}", address.port());
        let (process, reader) = Process::start_into_pipe(command, scenario.dir(), &name);
        let mut agent = Agent { process, address, output };
        agent.wait_ready();
        (agent, reader)
    }

    fn start(
        scenario: &Scenario,
        verb: &[&str],
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Agent {
        let (command, address, output) = prepared(scenario, verb, arguments, variables);
        Agent::started(scenario, command, address, output)
    }

    fn started(
        scenario: &Scenario,
        command: Command,
        address: SocketAddr,
        output: PathBuf,
    ) -> Agent {
        let process = Process::start(command, scenario.dir(), &format!("agent-{}", address.port()));
        let mut agent = Agent { process, address, output };
        agent.wait_ready();
        agent
    }

    fn wait_ready(&mut self) {
        let (process, address) = (&mut self.process, self.address);
        until("the agent's /readyz", READY, || {
            assert!(process.is_running(), "the agent ended at its start: {}", process.tail());
            http::get(address, "/readyz").is_ok_and(|(status, _)| status == 200).then_some(())
        });
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        self.process.tail()
    }

    /// Where its `--listen` endpoints are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Status and body of one of its endpoints.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn get(&self, path: &str) -> (u16, String) {
        http::get(self.address, path)
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.process.tail()))
    }

    /// `/status`, parsed.
    ///
    /// # Panics
    /// When it is no JSON.
    pub fn status(&self) -> serde_json::Value {
        let (code, body) = self.get("/status");
        assert_eq!(code, 200, "/status: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("/status: {error}\n{body}"))
    }

    /// A feature of the hook plan is attached.
    ///
    /// # Panics
    /// When `/status` has no hooks.
    pub fn has(&self, feature: &str) -> bool {
        let status = self.status();
        let hooks = status["hooks"].as_array().expect("hooks");
        hooks.iter().any(|hook| hook["feature"] == feature && !hook["hook"].is_null())
    }

    /// What it has exported so far.
    pub fn telemetry(&self) -> Telemetry {
        Telemetry::load(&self.output)
    }

    /// Lets the rings run dry, stops it by SIGTERM and demands a clean end within two seconds.
    ///
    /// # Panics
    /// When it ends late, by a signal, or with another status than 0.
    pub fn stop(self) -> Report {
        std::thread::sleep(SETTLE);
        self.catch_up();
        self.stop_at_once()
    }

    /// Waits until it has read what lies in its payload rings now, at most [`CATCH_UP`]: stopping has no
    /// time for an agent that a busy machine kept from its rings.
    fn catch_up(&self) {
        let rings = || {
            let status = self.status();
            let rings = status["payload_rings"].as_array().cloned().unwrap_or_default();
            rings.into_iter().map(|ring| {
                let of = |name: &str| ring[name].as_u64().unwrap_or(0);
                (of("tried"), of("read") + of("lost"))
            })
        };
        let tried: Vec<u64> = rings().map(|(tried, _)| tried).collect();
        let begin = Instant::now();
        while rings().zip(&tried).any(|((_, done), tried)| done < *tried)
            && begin.elapsed() < CATCH_UP
        {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The same without waiting for anything.
    ///
    /// # Panics
    /// As [`Agent::stop`].
    pub fn stop_at_once(self) -> Report {
        let ledger = Ledger::from_status(&self.status());
        let waited = waited_for_processors();
        let ended = self.process.terminate(STOP);
        // What else this machine does is no cost of the agent.
        let others = waited_for_processors().saturating_sub(waited);
        assert!(ended.status.success(), "the agent ended with {}\n{}", ended.status, ended.stderr);
        let told =
            format!("the agent took {:?} to stop, {others:?} without a processor", ended.took);
        assert!(ended.took.saturating_sub(others) <= Duration::from_secs(2), "{told}");
        let ledger = Ledger::from_log(&ended.stderr).unwrap_or(ledger);
        Report { ended, ledger, telemetry: Telemetry::load(&self.output) }
    }

    /// Ends it by SIGKILL.
    pub fn kill(self) -> Ended {
        self.process.kill()
    }
}

/// The command of an agent, where it listens, and where its JSON output goes.
fn prepared(
    scenario: &Scenario,
    verb: &[&str],
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> (Command, SocketAddr, PathBuf) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let output = scenario.path(&format!("agent-{}.json", address.port()));
    let mut command = command();
    command
        .args(verb)
        .arg("--output")
        .arg(format!("json:{}", output.display()))
        .args(["--listen", &address.to_string()])
        .args(arguments)
        .envs(variables.iter().copied());
    (command, address, output)
}

/// The binary, without what the surroundings would have it export to.
pub fn command() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the binary to its end.
///
/// # Panics
/// When it has not ended after a minute.
pub fn once(scenario: &Scenario, name: &str, arguments: &[&str]) -> Ended {
    let mut command = command();
    command.args(arguments);
    Process::start(command, scenario.dir(), name).wait(Duration::from_secs(60))
}
