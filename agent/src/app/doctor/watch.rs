//! A run of its own, for a while, of which nothing leaves.

use crate::app::agent::{Agent, Common};
use crate::app::live::{random_key, start_logging, start_runtime};
use crate::app::privilege;
use crate::app::status::processes;
use crate::cli::Failure;
use crate::cli::doctor::programs::Source;
use crate::config::Settings;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Time for an answer once the time to watch is over.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of bytes, and by whom.
#[derive(Debug, Default)]
pub struct Answer {
    /// By whom.
    pub source: Source,
    /// As at `/processes`.
    pub json: Option<serde_json::Value>,
    /// Processes that have answered as agents: they are no programs to be told of.
    pub agents: HashSet<u32>,
    /// What is to be said of it.
    pub remarks: Vec<String>,
}

/// Watches for so long.
///
/// # Errors
/// As of any run.
pub fn watch(time: Duration, settings: &Settings) -> Result<Answer, Failure> {
    start_logging(settings)?;
    privilege::check()?;
    crate::export::install_crypto();
    let runtime = start_runtime()?;
    let common = Common {
        id_key: random_key()?,
        host: crate::process::host_facts(),
        own: None,
        runtime: runtime.handle().clone(),
    };
    let agent = Agent::start(settings, &common, None, false)?;
    std::thread::sleep(time);
    let asked = agent.shared.traffic.ask();
    let until = Instant::now() + PATIENCE;
    let json = loop {
        match processes::to_json(&agent.shared, asked) {
            None if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            json => break json,
        }
    };
    agent.stop(&runtime)?;
    runtime.shutdown_timeout(Duration::from_millis(100));
    let remarks = match json {
        Some(_) => Vec::new(),
        None => vec!["the machine is too busy: nothing was learnt of bytes".to_owned()],
    };
    let source = if json.is_some() { Source::Own } else { Source::Nobody };
    Ok(Answer { source, json, remarks, ..Answer::default() })
}
