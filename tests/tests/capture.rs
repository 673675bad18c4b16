//! Every send and receive call, over TCP/IPv4, TCP/IPv6 and unix sockets: what the recording holds
//! is what went through the socket, byte for byte and position for position.

use kernspan_tests::agent::Agent;
use kernspan_tests::process::Process;
use kernspan_tests::python::read_log;
use kernspan_tests::recording::Recording;
use kernspan_tests::scenario::{Scenario, say};
use kernspan_tests::streams::{self, Truth};
use std::process::Command;
use std::time::Duration;

#[test]
fn recorded_streams_are_what_the_sockets_moved() {
    let Some(scenario) = Scenario::begin("capture", &[]) else { return };
    let agent = Agent::record(
        &scenario,
        "calls.rec",
        &["--raw", "--head-bytes", "4096", "--capture", "full"],
    );
    let log = scenario.path("calls.log");
    let mut calls = Command::new(env!("CARGO_BIN_EXE_calls"));
    calls.arg(&log);
    Process::start(calls, scenario.dir(), "calls").succeed(Duration::from_secs(30));
    let report = agent.stop();
    let pieces = Recording::load(&scenario.path("calls.rec")).pieces();
    let truths: Vec<Truth> = read_log(&log).iter().filter_map(Truth::of_log).collect();
    // 3 families × (8 pairs of calls + 3), and 2 more on each TCP family; 2 ends, 2 directions.
    assert_eq!(truths.len(), (3 * 11 + 2 * 2) * 4, "the workload's log is whole");
    let faults: Vec<String> = truths
        .iter()
        .filter_map(|truth| {
            let fault = streams::judge(&pieces, truth).err()?;
            let direction = if truth.sent { "sent" } else { "received" };
            Some(format!("{} {direction} (cookie {}): {fault}", truth.case, truth.cookie))
        })
        .collect();
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), truths.len(), faults.join("\n"));
    assert_eq!(report.ledger.imbalances(), Vec::<String>::new());
    let bytes: u64 = truths.iter().map(|truth| truth.bytes).sum();
    say(&format!("capture: {} streams, {bytes} bytes, all equal and contiguous", truths.len()));
}
