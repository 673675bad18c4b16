//! What looks at received packets taxes every one of them: it is attached only while a process has use
//! for it.

use kernspan_tests::agent::Agent;
use kernspan_tests::process::{Process, free_port, until};
use kernspan_tests::scenario::{Scenario, say, skip};
use kernspan_tests::uring;
use std::process::Command;
use std::time::{Duration, Instant};

const HOOK: &str = "skb_copy_datagram_iovec";

#[test]
fn packets_are_looked_at_only_while_a_process_has_use_for_it() {
    if !uring::is_allowed() {
        return skip("packets", "io_uring is disabled on this machine");
    }
    let Some(scenario) = Scenario::begin("packets", &[]) else { return };
    let agent = Agent::run(&scenario, &[]);
    if !agent.has("received packets") {
        drop(agent.stop());
        return skip("packets", "the kernel does not show received packets");
    }
    if has_link(agent.pid()) {
        drop(agent.stop());
        return skip("packets", "another program of this machine uses io_uring");
    }
    let mut took = Vec::new();
    for _ in 0..2 {
        let begun = Instant::now();
        let mut server = Command::new(env!("CARGO_BIN_EXE_uring_http"));
        server.args(["serve", "uring", &free_port().to_string()]);
        let server = Process::start(server, scenario.dir(), "server");
        until("it is attached", Duration::from_secs(20), || has_link(agent.pid()).then_some(()));
        took.push(begun.elapsed());
        drop(server);
        // Sooner than by the minute without a ring.
        until("it is detached", Duration::from_secs(45), || (!has_link(agent.pid())).then_some(()));
    }
    let report = agent.stop();
    assert!(report.ledger.cause("io_urings_made") >= 2);
    say(&format!("packets: attached {took:?} after a program's start, and detached"));
}

/// The process has the hook attached, as the kernel says.
fn has_link(pid: u32) -> bool {
    let entries =
        std::fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the agent's descriptors");
    entries
        .flatten()
        .any(|entry| std::fs::read_to_string(entry.path()).is_ok_and(|info| info.contains(HOOK)))
}
