//! Every send and receive call, over TCP/IPv4, TCP/IPv6 and unix sockets: what the recording holds
//! is what went through the socket, byte for byte and position for position.

use kernspan_tests::agent::{Agent, Report};
use kernspan_tests::process::Process;
use kernspan_tests::python::read_log;
use kernspan_tests::recording::Recording;
use kernspan_tests::scenario::{Scenario, say};
use kernspan_tests::streams::{self, Truth};
use kernspan_tests::sys;
use kernspan_tests::uring;
use std::process::Command;
use std::time::Duration;

#[test]
fn recorded_streams_are_what_the_sockets_moved() {
    let Some(scenario) = Scenario::begin("capture", &[]) else { return };
    let agent = recording(&scenario);
    let log = scenario.path("calls.log");
    let mut calls = Command::new(env!("CARGO_BIN_EXE_calls"));
    calls.arg(&log);
    if agent.has("sent pages") {
        calls.arg("pages");
    }
    Process::start(calls, scenario.dir(), "calls").succeed(Duration::from_secs(60));
    // 3 families × (8 pairs of calls + 3), and 2 more on each TCP family; 2 ends, 2 directions.
    let report = judge(&scenario, agent, (3 * 11 + 2 * 2) * 4);
    assert_eq!(report.ledger.imbalances(), Vec::<String>::new());
}

#[test]
fn two_threads_on_one_socket_have_exact_positions() {
    let Some(scenario) = Scenario::begin("threads", &[]) else { return };
    let agent = recording(&scenario);
    if !agent.has("send time") {
        drop(agent.stop());
        return kernspan_tests::scenario::skip(
            "threads",
            "this kernel does not show when a send begins",
        );
    }
    let log = scenario.path("calls.log");
    let mut calls = Command::new(env!("CARGO_BIN_EXE_calls"));
    calls.arg(&log).arg("threads");
    Process::start(calls, scenario.dir(), "calls").succeed(Duration::from_secs(60));
    // 4 connections; 2 ends, 2 directions.
    drop(judge(&scenario, agent, 4 * 4));
}

#[test]
fn a_receive_with_a_time_limit_is_read_from_packets() {
    let Some(scenario) = Scenario::begin("timed", &[]) else { return };
    let agent = recording(&scenario);
    if !agent.has("received packets") {
        drop(agent.stop());
        return kernspan_tests::scenario::skip(
            "timed",
            "the kernel does not show received packets",
        );
    }
    let log = scenario.path("calls.log");
    let mut calls = Command::new(env!("CARGO_BIN_EXE_calls"));
    calls.arg(&log).arg("timed");
    Process::start(calls, scenario.dir(), "calls").succeed(Duration::from_secs(60));
    let report = judge(&scenario, agent, 2 * 4);
    let counts = ["packets_missed", "packet_receives"].map(|name| report.ledger.cause(name));
    assert!(counts[0] >= 1 && counts[1] >= 31, "missed and taken: {counts:?}");
}

#[test]
fn what_mptcp_moves_is_recorded() {
    if sys::mptcp_listener(0).is_err() {
        return kernspan_tests::scenario::skip("mptcp", "this kernel has no MPTCP");
    }
    let Some(scenario) = Scenario::begin("mptcp", &[]) else { return };
    let agent = recording(&scenario);
    let log = scenario.path("calls.log");
    let mut calls = Command::new(env!("CARGO_BIN_EXE_calls"));
    calls.arg(&log).arg("mptcp");
    Process::start(calls, scenario.dir(), "calls").succeed(Duration::from_secs(60));
    // 7 pairs of calls, failures, a full buffer; 2 ends, 2 directions.
    drop(judge(&scenario, agent, 9 * 4));
}

#[test]
fn what_io_uring_moves_is_recorded() {
    if !uring::is_allowed() {
        return kernspan_tests::scenario::skip("rings", "io_uring is disabled on this machine");
    }
    let Some(scenario) = Scenario::begin("rings", &[]) else { return };
    let agent = recording(&scenario);
    if !agent.has("sent pages") || !agent.has("received packets") {
        drop(agent.stop());
        return kernspan_tests::scenario::skip(
            "rings",
            "the kernel does not show pages or packets",
        );
    }
    let log = scenario.path("calls.log");
    let mut rings = Command::new(env!("CARGO_BIN_EXE_rings"));
    rings.arg(&log);
    Process::start(rings, scenario.dir(), "rings").succeed(Duration::from_secs(60));
    // 2 rings × (7 and 5 sends, 2 × 6 receives); 2 ends, 2 directions.
    let report = judge(&scenario, agent, 2 * (7 + 5 + 12) * 4);
    for (counter, least) in [("page_sends", 64), ("packet_receives", 384), ("io_urings_made", 2)] {
        let counted = report.ledger.cause(counter);
        assert!(counted >= least, "{counter}: {counted}");
    }
}

fn recording(scenario: &Scenario) -> Agent {
    Agent::record(scenario, "calls.rec", &["--raw", "--head-bytes", "4096", "--capture", "full"])
}

/// The agent's feature is on.
/// Compares the recording with the workload's log of so many streams.
fn judge(scenario: &Scenario, agent: Agent, count: usize) -> Report {
    let report = agent.stop();
    let pieces = Recording::load(&scenario.path("calls.rec")).pieces();
    let truths: Vec<Truth> =
        read_log(&scenario.path("calls.log")).iter().filter_map(Truth::of_log).collect();
    assert_eq!(truths.len(), count, "the workload's log is whole");
    let faults: Vec<String> = truths
        .iter()
        .filter_map(|truth| {
            let fault = streams::judge(&pieces, truth).err()?;
            let direction = if truth.sent { "sent" } else { "received" };
            Some(format!("{} {direction} (cookie {}): {fault}", truth.case, truth.cookie))
        })
        .collect();
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), truths.len(), faults.join("\n"));
    let bytes: u64 = truths.iter().map(|truth| truth.bytes).sum();
    say(&format!("capture: {} streams, {bytes} bytes, all equal and contiguous", truths.len()));
    report
}
