//! io_uring completions that run inside a read of a pipe: the pipe's buffer is never reported.

use kernspan_tests::agent::Agent;
use kernspan_tests::process::Process;
use kernspan_tests::python::read_log;
use kernspan_tests::recording::Recording;
use kernspan_tests::scenario::{Scenario, say, scaled};
use kernspan_tests::streams::find;
use kernspan_tests::uring;
use std::process::Command;
use std::time::Duration;

/// 32 bytes that occur nowhere else.
const CANARY: &str = "canary-5f1c9be07a43d268-not-a-msg";

#[test]
fn a_strangers_buffer_is_never_read() {
    if !uring::is_allowed() {
        return kernspan_tests::scenario::skip("guard", "io_uring is disabled on this machine");
    }
    let Some(scenario) = Scenario::begin("guard", &[]) else { return };
    let agent = Agent::record(
        &scenario,
        "guard.rec",
        &["--raw", "--head-bytes", "4096", "--capture", "full"],
    );
    let log = scenario.path("guard.log");
    let rounds = scaled(20_000, 100_000);
    let mut guard = Command::new(env!("CARGO_BIN_EXE_guard"));
    guard.arg(rounds.to_string()).arg(&log).env("KERNSPAN_CANARY", CANARY);
    Process::start(guard, scenario.dir(), "guard").succeed(Duration::from_secs(300));
    let report = agent.stop();
    let truth = read_log(&log).remove(0);
    let overlaps = truth["overlaps"].as_u64().unwrap_or(0);
    assert!(overlaps * 100 >= rounds * 99, "only {overlaps} of {rounds} were inside the read");

    // Half of it would be enough to know what the buffer held.
    let half = &CANARY.as_bytes()[..16];
    let pieces = Recording::load(&scenario.path("guard.rec")).pieces();
    let leaked = pieces.iter().filter(|piece| find(&piece.bytes, half).is_some()).count();
    assert_eq!(leaked, 0, "records with the canary in their payload");
    let file = std::fs::read(scenario.path("guard.rec")).expect("the recording");
    assert_eq!(find(&file, half), None, "the canary in the recording");

    // What could not be read is counted, and what was read came from packets: all completions inside
    // the read are one or the other, and where packets are not shown none is read.
    let unreachable = report.ledger.cause("payload_unreachable");
    let packets = report.ledger.cause("packet_receives");
    assert!(unreachable + packets >= overlaps, "{unreachable} + {packets} calls of {overlaps}");
    let cookie = truth["receive"]["cookie"].as_u64();
    let received = pieces.iter().filter(|p| Some(p.cookie) == cookie && !p.sent);
    let read = received.filter(|piece| !piece.bytes.is_empty());
    let (read, foreign) = read.fold((0, 0), |(read, foreign), piece| {
        (read + 1, foreign + u64::from(piece.bytes.iter().any(|byte| *byte != b'r')))
    });
    assert_eq!(foreign, 0, "records of {read} with other bytes than were received");
    assert!(packets >= read, "{read} receives read, {packets} taken from packets");

    // Not vacuous: the operations themselves are in the recording, counted.
    for (name, sent) in [("receive", false), ("send", true)] {
        let cookie = truth[name]["cookie"].as_u64();
        let own = pieces.iter().filter(|p| Some(p.cookie) == cookie && p.sent == sent);
        let seen: u64 = own.map(|piece| piece.len).sum();
        assert_eq!(Some(seen), truth[name]["bytes"].as_u64(), "bytes counted of {name}");
    }
    say(&format!(
        "guard: {overlaps} completions inside the read, {read} read from packets, no canary"
    ));
}
