//! Execs and what caused them.

use super::script::*;
use crate::id::SpanId;
use crate::message::Thread;

const SH: (&str, &str) = ("/bin/sh", "sh\0-c\0ls\0");

fn causes(script: &Script) -> Vec<Option<SpanId>> {
    let seen = script.run();
    seen.logs.iter().map(|log| log.cause.map(|(_, span)| span)).collect()
}

/// 101 serves a request on thread 2 from 100 to 400.
fn serving(script: &mut Script) -> Call {
    let mut link = script.tcp();
    let call = script.call(&mut link, 100, thread(100, 1), thread(101, 2));
    script.reply(call, 400);
    call
}

#[test]
fn a_command_run_by_a_handler_carries_its_ids_and_so_does_what_that_runs() {
    let mut script = Script::default();
    let call = serving(&mut script);
    script.fork(200, thread(101, 2), (500, 500));
    script.exec(210, thread(500, 500), SH.0, SH.1);
    // The shell works on after the response.
    script.fork(600, thread(500, 500), (501, 501));
    script.exec(610, thread(501, 501), "/bin/ls", "ls\0");
    let seen = script.run();
    let server = seen.span(call.server);
    assert_eq!(seen.logs.len(), 2);
    for log in &seen.logs {
        assert_eq!(log.cause, Some((server.trace, call.server)), "{}", log.body);
        assert_eq!((log.flags, server.flags), (3, 3), "{}", log.body);
    }
    let shell = &seen.logs[0];
    assert!(shell.body.contains("sh -c ls"), "{}", shell.body);
    for (key, value) in [
        ("process.executable.path", "/bin/sh"),
        ("process.executable.name", "sh"),
        ("process.command_args", "sh -c ls"),
        ("process.pid", "500"),
        ("process.parent_pid", "1"),
        ("process.user.id", "1000"),
    ] {
        assert_eq!(shell.attributes.get(key).map(String::as_str), Some(value), "{key}");
    }
}

#[test]
fn execs_beside_a_request_have_no_cause() {
    for (why, at, by) in [
        ("another thread", 200, thread(101, 3)),
        ("another process", 200, thread(103, 2)),
        ("before", 50, thread(101, 2)),
        ("after the response", 500, thread(101, 2)),
    ] {
        let mut script = Script::default();
        serving(&mut script);
        script.fork(at, by, (500, 500));
        script.exec(at + 5, thread(500, 500), SH.0, SH.1);
        assert_eq!(causes(&script), [None], "{why}");
    }
}

#[test]
fn a_thread_made_for_a_request_works_for_it_only_while_it_is_open() {
    let mut script = Script::default();
    let call = serving(&mut script);
    script.fork(150, thread(101, 2), (101, 7));
    for (at, child) in [(200, 500), (500, 501)] {
        script.fork(at, thread(101, 7), (child, child));
        script.exec(at + 5, thread(child, child), SH.0, SH.1);
    }
    assert_eq!(causes(&script), [Some(call.server), None]);
}

#[test]
fn a_forked_worker_that_outlives_its_request_passes_nothing_on() {
    let mut script = Script::default();
    let call = serving(&mut script);
    script.fork(150, thread(101, 2), (500, 500));
    for (at, child) in [(200, 501), (500, 502)] {
        script.fork(at, thread(500, 500), (child, child));
        script.exec(at + 5, thread(child, child), SH.0, SH.1);
    }
    assert_eq!(causes(&script), [Some(call.server), None]);
}

#[test]
fn a_child_that_execs_only_after_the_response_still_names_its_request() {
    let mut script = Script::default();
    let call = serving(&mut script);
    script.fork(390, thread(101, 2), (500, 500));
    script.exec(450, thread(500, 500), SH.0, SH.1);
    assert_eq!(causes(&script), [Some(call.server)]);
}

#[test]
fn a_daemon_that_a_handler_started_works_for_itself_a_minute_after_the_request() {
    const MINUTE: u64 = 60_000_000;
    let mut script = Script::default();
    let call = serving(&mut script);
    // sh forks the daemon and ends; the daemon forks again (setsid), and executes its program.
    script.fork(200, thread(101, 2), (500, 500));
    script.exec(210, thread(500, 500), SH.0, SH.1);
    script.fork(220, thread(500, 500), (501, 501));
    script.fork(230, thread(501, 501), (502, 502));
    script.exit(240, thread(501, 501), true);
    script.exit(250, thread(500, 500), true);
    script.exec(1000, thread(502, 502), "/usr/sbin/cron", "cron\0");
    let (soon, late) = (400 + MINUTE - 1000, 400 + MINUTE + 1000);
    for (at, child) in [(soon, 503), (late, 504)] {
        script.fork(at, thread(502, 502), (child, child));
        script.exec(at + 5, thread(child, child), SH.0, SH.1);
    }
    // A child of the time before that executes again: the end holds for it, too.
    script.exec(late + 10, thread(503, 503), "/bin/ls", "ls\0");
    let cause = Some(call.server);
    assert_eq!(causes(&script), [cause, cause, cause, None, None]);
}

#[test]
fn a_long_request_is_the_cause_until_its_own_end() {
    let mut script = Script::default();
    let mut link = script.tcp();
    let call = script.call(&mut link, 100, thread(100, 1), thread(101, 2));
    script.fork(200, thread(101, 2), (500, 500));
    script.exec(210, thread(500, 500), SH.0, SH.1);
    let hour = 3_600_000_000;
    script.fork(hour, thread(500, 500), (501, 501));
    script.exec(hour + 5, thread(501, 501), SH.0, SH.1);
    script.reply(call, hour + 100);
    assert_eq!(causes(&script), [Some(call.server); 2]);
}

#[test]
fn a_process_that_serves_requests_of_its_own_works_for_those() {
    let mut script = Script::default();
    serving(&mut script);
    script.fork(200, thread(101, 2), (104, 104));
    script.exec(210, thread(104, 104), "/usr/sbin/daemon", "daemon\0");
    let mut link = script.tcp();
    let own = script.call(&mut link, 500, thread(100, 1), thread(104, 104));
    script.fork(550, thread(104, 104), (500, 500));
    script.exec(560, thread(500, 500), SH.0, SH.1);
    script.reply(own, 600);
    script.fork(700, thread(104, 104), (501, 501));
    script.exec(710, thread(501, 501), SH.0, SH.1);
    assert_eq!(causes(&script)[1..], [Some(own.server), None]);
}

#[test]
fn a_thread_that_served_two_at_a_time_causes_nothing() {
    let mut script = Script::default();
    serving(&mut script);
    let mut other = script.tcp();
    let second = script.call(&mut other, 120, thread(100, 9), thread(101, 2));
    script.fork(200, thread(101, 2), (500, 500));
    script.exec(210, thread(500, 500), SH.0, SH.1);
    script.reply(second, 450);
    assert_eq!(causes(&script), [None]);
}

#[test]
fn an_exec_in_the_middle_changes_who_the_process_is() {
    let mut script = Script::default();
    let (mut one, mut two) = (script.tcp(), script.tcp());
    let by = Thread { ..thread(100, 100) };
    let before = script.call(&mut one, 100, by, thread(101, 2));
    script.exec(150, by, "/usr/bin/second", "second\0");
    let after = script.call(&mut two, 200, by, thread(101, 2));
    script.reply(before, 300);
    script.reply(after, 300);
    let seen = script.run();
    let (old, new) = (seen.span(before.client), seen.span(after.client));
    assert_ne!(old.service, new.service);
}
