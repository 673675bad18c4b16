//! Bytes that are read when the connection is over already.

use kernspan_tests::agent::Agent;
use kernspan_tests::certificates::Certificates;
use kernspan_tests::counts::pairs;
use kernspan_tests::otlp::{Kind, Span};
use kernspan_tests::process::{Process, until};
use kernspan_tests::scenario::{Scenario, crate_dir, say, scaled};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A response that waits for its reader when TCP has ended, by a reset or in good order, is the request's; so is one
/// whose sender learns meanwhile that nobody waits for it any more.
#[test]
fn an_answer_that_is_read_after_the_end_is_the_requests() {
    let Some(scenario) = Scenario::begin("late readers", &["python3"]) else { return };
    let agent = Agent::run(&scenario, &[]);
    let count = scaled(20, 200);
    let mut program = Command::new("python3");
    program.arg(crate_dir("workloads").join("late_reader.py")).arg(count.to_string());
    let ended = Process::start(program, scenario.dir(), "late").succeed(LIMIT);
    let report = agent.stop();
    for (path, status) in [("/half", 200), ("/reset", 413)] {
        let read = format!("{} {status}", &path[1..]);
        assert_eq!(ended.stdout.lines().filter(|line| **line == *read).count() as u64, count);
        let spans = report.telemetry.under(path);
        let of = |kind| spans.iter().copied().filter(|span| span.kind == kind).collect::<Vec<_>>();
        let (servers, clients) = (of(Kind::Server), of(Kind::Client));
        for ends in [&servers, &clients] {
            let wrong: Vec<String> =
                ends.iter().filter(|span| !is_answered(span, status)).map(|s| s.brief()).collect();
            assert!(wrong.is_empty(), "{wrong:?}\n{:?}", report.ledger);
            assert_eq!(ends.len() as u64, count, "{path}: {:?}", report.ledger);
        }
        assert_eq!(pairs(&servers, &clients), Vec::<String>::new());
    }
    let spans = report.telemetry.under("/gone");
    let answered = |kind, status: Option<i64>| {
        spans.iter().filter(|span| span.kind == kind && span.status() == status).count() as u64
    };
    let ends = (answered(Kind::Server, Some(200)), answered(Kind::Client, None));
    assert_eq!(ends, (count, count), "{:?}", report.ledger);
    assert_eq!(report.ledger.cause("after_close"), 0, "{:?}", report.ledger);
    say(&format!(
        "late readers: {count} answers after a reset, after the end of both, and to nobody"
    ));
}

/// The same over TLS, where the library says what it sent when the connection is over already.
#[test]
fn an_answer_over_tls_that_nobody_waits_for_is_the_requests() {
    let Some(scenario) = Scenario::begin("late readers over TLS", &["python3"]) else { return };
    let certificates = Certificates::make(&scenario);
    let agent = Agent::run(&scenario, &[]);
    let count = scaled(20, 200);
    let mut program = Command::new("python3");
    program.arg(crate_dir("workloads").join("late_reader.py")).arg(count.to_string());
    program.args(["server.crt", "server.key"].map(|name| certificates.file(name)));
    let late = Process::start(program, scenario.dir(), "late");
    let pid = late.pid();
    let ended = late.succeed(LIMIT);
    assert_eq!(ended.stdout.lines().filter(|line| **line == *"gone 200").count() as u64, count);
    until("its connections have left the table", LIMIT, || {
        let status = agent.status();
        let rows = status["connections"].as_array().expect("the list of connections");
        (!rows.iter().any(|row| row["pid"].as_u64() == Some(pid.into()))).then_some(())
    });
    let report = agent.stop();
    let spans = report.telemetry.under("/gone");
    let answered = |kind, status: Option<i64>| {
        spans.iter().filter(|span| span.kind == kind && span.status() == status).count() as u64
    };
    let ends = (answered(Kind::Server, Some(200)), answered(Kind::Client, None));
    assert_eq!(ends, (count, count), "{:?}", report.ledger);
    say(&format!("late readers over TLS: {count} answers to nobody"));
}

fn is_answered(span: &Span, status: i64) -> bool {
    // A client's 413 is a failure by its status.
    let failure = span.text("error.type");
    span.status() == Some(status) && (failure.is_empty() || failure == status.to_string())
}
