//! A 32-bit program: every call that it has, also those through `socketcall`, is captured like those of
//! others.

use kernspan_tests::agent::Agent;
use kernspan_tests::recording::Recording;
use kernspan_tests::scenario::{Scenario, crate_dir, say, skip};
use kernspan_tests::streams::{Truth, judge};
use kernspan_tests::sys;
use sha2::{Digest, Sha256};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Messages that the program sends and receives (`PAIRS`).
const MESSAGES: usize = 9;

#[test]
fn calls_of_a_32_bit_program_are_captured() {
    let Some(scenario) = Scenario::begin("compat", &["gcc"]) else { return };
    let program = build(scenario.dir());
    let (a, b) = UnixStream::pair().expect("a pair of sockets");
    if !run(&program, &a.into(), &b.into()).is_ok_and(|status| status == Some(0)) {
        return skip("compat", "this kernel runs no 32-bit programs");
    }
    let agent = Agent::record(
        &scenario,
        "calls.rec",
        &["--raw", "--head-bytes", "4096", "--capture", "full"],
    );
    let mut truths = Vec::new();
    for (family, (a, b)) in [("unix", unix()), ("tcp", tcp())] {
        assert_eq!(run(&program, &a, &b).expect("the program"), Some(0), "{family}: its messages");
        truths.push(truth(family, &a, true));
        truths.push(truth(family, &b, false));
    }
    let report = agent.stop();
    let pieces = Recording::load(&scenario.path("calls.rec")).pieces();
    for truth in &truths {
        let way = if truth.sent { "sent" } else { "received" };
        assert_eq!(judge(&pieces, truth), Ok(()), "{} {way}", truth.case);
    }
    assert_eq!(report.ledger.imbalances(), Vec::<String>::new());
    say(&format!("compat: {MESSAGES} kinds of calls, over unix and TCP, equal"));
}

fn build(dir: &Path) -> PathBuf {
    let program = dir.join("calls32");
    let flags = ["-m32", "-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie"];
    let built = Command::new("gcc")
        .args(flags)
        .arg("-fno-stack-protector")
        .arg("-o")
        .arg(&program)
        .arg(crate_dir("workloads").join("calls32.c"))
        .status();
    assert!(built.is_ok_and(|status| status.success()), "calls32.c is compiled");
    program
}

/// Runs the program between two sockets; how it ended.
fn run(program: &Path, a: &OwnedFd, b: &OwnedFd) -> std::io::Result<Option<i32>> {
    let mut command = Command::new(program);
    command.stdin(Stdio::from(b.try_clone()?)).stdout(Stdio::from(a.try_clone()?));
    Ok(command.status()?.code())
}

fn unix() -> (OwnedFd, OwnedFd) {
    let (a, b) = UnixStream::pair().expect("a pair of sockets");
    (a.into(), b.into())
}

fn tcp() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let a = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    a.set_nodelay(true).expect("an option");
    (a.into(), listener.accept().expect("its other end").0.into())
}

/// What the program sends: see calls32.c.
fn truth(family: &str, end: &OwnedFd, sent: bool) -> Truth {
    let message = |n: usize| (0..200 + n).map(move |i| ((n * 31 + i * 7) % 251) as u8);
    let stream: Vec<u8> = (0..MESSAGES).flat_map(message).collect();
    let sha256 = Sha256::digest(&stream).iter().map(|byte| format!("{byte:02x}")).collect();
    Truth {
        case: family.to_owned(),
        cookie: sys::cookie(end).expect("a cookie"),
        sent,
        bytes: stream.len() as u64,
        sha256,
        uncaptured: Vec::new(),
    }
}
