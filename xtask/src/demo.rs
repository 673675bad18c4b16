//! The README's first command: four programs that know nothing of tracing, and their traces.

mod programs;
mod spans;

use crate::command::{self, command};
use crate::service::{Service, free_ports, scratch};
use crate::setup::{self, Level};
use crate::{build, paths};
use anyhow::{Context, Result, ensure};
use programs::Programs;
use rustix::process::geteuid;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const REQUESTS: usize = 5;

/// How long traces may take to be settled and written.
const SETTLE: Duration = Duration::from_secs(15);

/// Sets up, builds, runs the programs and the agent, prints and checks the traces.
pub fn run() -> Result<()> {
    ensure!(geteuid().is_root(), "the demo loads programs into the kernel: run it as root");
    setup::install(Level::Demo)?;
    let agent = build::run()?;
    let started = Instant::now();
    let directory = Directory(scratch("demo")?);
    show(&agent, &directory.0)?;
    println!("demo: {:.1} s after the build", started.elapsed().as_secs_f64());
    Ok(())
}

/// A directory that goes with the demo.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left in the temporary directory harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn show(agent: &Path, directory: &Path) -> Result<()> {
    let programs = Programs::start(directory)?;
    println!(
        "\ncurl -> nginx :{} -> Python :{} -> Python :{}",
        programs.web, programs.first, programs.second
    );
    let json = directory.join("spans.json");
    let mut observer = Observer::start(agent, &programs, directory, &json)?;
    let paths: Vec<_> = (1..=REQUESTS).map(|number| format!("/tea/{number}")).collect();
    for path in &paths {
        programs.request(path)?;
    }
    let traces = settled(&json, &paths, &mut observer.service);
    let console = observer.stop()?;
    println!("\n{console}");
    programs.stop()?;
    let traces = traces?;
    for (path, trace) in paths.iter().zip(&traces) {
        println!("{path}: trace {} has {} spans and one root", trace.id, spans::IN_A_TRACE);
    }
    Ok(())
}

/// Waits until every request's trace is written, and says what is wrong with it otherwise.
fn settled(json: &Path, paths: &[String], agent: &mut Service) -> Result<Vec<spans::Trace>> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let text = fs::read_to_string(json).unwrap_or_default();
        match spans::check(&text, paths) {
            Ok(traces) => return Ok(traces),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("the agent said:\n{}", agent.log())));
            }
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// The agent beside the programs.
struct Observer {
    service: Service,
}

impl Observer {
    fn start(agent: &Path, programs: &Programs, directory: &Path, json: &Path) -> Result<Observer> {
        let [port] = free_ports()?;
        let listen = format!("127.0.0.1:{port}");
        let mut run = command(&agent.to_string_lossy(), ["run", "--output", "console"]);
        run.args(["--output", &format!("json:{}", json.display()), "--listen", &listen]);
        // Other programs of this machine would be shown too; the demo is about these.
        for port in [programs.web, programs.first, programs.second] {
            run.args(["--port", &port.to_string()]);
        }
        let mut service = Service::start("kernspan", &mut run, directory)?;
        let ready = format!("http://{listen}/readyz");
        service
            .until(Duration::from_secs(20), || {
                command::succeeds(&mut command("curl", ["-sf", "--max-time", "2", &ready]))
            })
            .context("the agent does not attach: `target/release/kernspan doctor` says why")?;
        Ok(Observer { service })
    }

    /// Stops the agent; what it printed.
    fn stop(self) -> Result<String> {
        let log = self.service.log_file();
        let status = self.service.stop(Duration::from_secs(10))?;
        let text = fs::read(&log).context("the agent's output")?;
        let text = String::from_utf8_lossy(&text).into_owned();
        ensure!(status.success(), "the agent ended with {status}:\n{text}");
        Ok(text)
    }
}

/// Debian's own program, not a version manager's.
fn program(name: &str) -> Result<String> {
    let path = paths::program(name).with_context(|| format!("{name} is missing"))?;
    Ok(path.display().to_string())
}
