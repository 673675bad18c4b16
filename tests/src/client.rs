//! Clients: curl, ab, wrk and the Python client with kept connections.

use crate::process::Process;
use crate::scenario::Scenario;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long one load may take.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Wraps `words` of a command and starts it.
fn start(scenario: &Scenario, name: &str, wrap: &[String], words: &[&str]) -> Process {
    let words: Vec<&str> = wrap.iter().map(String::as_str).chain(words.iter().copied()).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    Process::start(command, scenario.dir(), name)
}

/// Asks for each of `urls`: by one curl after the other with `concurrency` 1, else by one curl
/// with that many connections.
///
/// # Panics
/// When curl fails.
pub fn curl(scenario: &Scenario, wrap: &[String], urls: &[String], concurrency: usize) {
    ask_by_curl(scenario, wrap, &[], urls, concurrency);
}

/// The same with more options.
///
/// # Panics
/// When curl fails.
pub fn curl_with(scenario: &Scenario, options: &[&str], urls: &[String], concurrency: usize) {
    ask_by_curl(scenario, &[], options, urls, concurrency);
}

/// Configurations of curl that were written.
static CONFIGS: AtomicU64 = AtomicU64::new(0);

fn ask_by_curl(
    scenario: &Scenario,
    wrap: &[String],
    options: &[&str],
    urls: &[String],
    concurrency: usize,
) {
    if concurrency == 1 {
        for url in urls {
            let words = [&["curl", "-sS", "-o", "/dev/null"], options, &[url]].concat();
            start(scenario, "curl", wrap, &words).succeed(LIMIT);
        }
        return;
    }
    let mut config = String::new();
    for url in urls {
        let _ = writeln!(config, "url = \"{url}\"\noutput = /dev/null");
    }
    // Of its own: threads of one scenario ask at the same time.
    let name = format!("curl-{}.conf", CONFIGS.fetch_add(1, Ordering::Relaxed));
    let config = scenario.file(&name, config.as_bytes()).display().to_string();
    let width = concurrency.to_string();
    let flags = ["curl", "-sS", "-Z", "--parallel-immediate", "--parallel-max", &width, "-K"];
    let words = [&flags, [config.as_str()].as_slice(), options].concat();
    start(scenario, "curl", wrap, &words).succeed(LIMIT);
}

/// `ab` over kept connections.
///
/// # Panics
/// When it fails, or a request did.
pub fn ab(scenario: &Scenario, wrap: &[String], url: &str, requests: u64, concurrency: usize) {
    let (requests, width) = (requests.to_string(), concurrency.to_string());
    let words = ["ab", "-q", "-k", "-n", &requests, "-c", &width, url];
    let ended = start(scenario, "ab", wrap, &words).succeed(LIMIT);
    let failed = field(&ended.stdout, "Failed requests:");
    assert_eq!(failed, Some(0), "{}", ended.stdout);
}

/// `wrk` with one thread; the number of responses that it counted.
///
/// # Panics
/// When it fails or says nothing.
pub fn wrk(scenario: &Scenario, url: &str, concurrency: usize, seconds: u64) -> u64 {
    let (width, duration) = (concurrency.to_string(), format!("{seconds}s"));
    let words = ["wrk", "-t1", "-c", &width, "-d", &duration, url];
    let ended = start(scenario, "wrk", &[], &words).succeed(LIMIT);
    let line = ended.stdout.lines().find(|line| line.contains(" requests in ")).unwrap_or_default();
    let count = line.split_whitespace().next().and_then(|number| number.parse().ok());
    count.unwrap_or_else(|| panic!("wrk said: {}", ended.stdout))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}
