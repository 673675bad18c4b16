//! Evidence by thread: one request at a time, or none.

use super::script::*;
use crate::message::{Role, Thread};
use crate::trace::{AssemblerConfig, LinkerSwitches};

/// client 100 → server 101 → server 102, sequential on one thread of 101.
fn nested(script: &mut Script) -> (Call, Call) {
    let (mut front, mut back) = (script.tcp(), script.tcp());
    let outer = script.call(&mut front, 100, thread(100, 1), thread(101, 2));
    let inner = script.call(&mut back, 200, thread(101, 2), thread(102, 3));
    script.reply(inner, 300);
    script.reply(outer, 400);
    (outer, inner)
}

#[test]
fn a_call_made_while_its_thread_serves_one_request_is_its_child() {
    let mut script = Script::default();
    let (outer, inner) = nested(&mut script);
    let seen = script.run();
    let call = seen.span(inner.client);
    assert_eq!(call.parent, Some(outer.server));
    assert_eq!((call.method(), call.remote), ("thread", false));
    let root = seen.span(outer.client).trace;
    assert!(seen.spans.iter().all(|span| span.trace == root), "one trace");
    assert_eq!(seen.links(), [("", 1), ("connection", 2), ("thread", 1)].into());
}

#[test]
fn with_the_linker_off_nothing_is_linked() {
    let mut script = Script::default();
    nested(&mut script);
    let linker = LinkerSwitches { connections: false, headers: false, threads: false };
    let seen = script.run_with(AssemblerConfig { linker, ..AssemblerConfig::default() });
    assert_eq!(seen.links(), [("", 4)].into());
}

#[test]
fn a_request_beside_which_others_were_shed_is_no_evidence() {
    for (why, shed_until, linked) in
        [("before it began", 50, true), ("while it was open", 150, false)]
    {
        let mut script = Script::default();
        let (outer, inner) = nested(&mut script);
        let mut runner = Runner::new(AssemblerConfig::default());
        runner.assembler.shed_until(shed_until * US);
        script.steps.into_iter().for_each(|step| runner.deliver(step));
        let parent = runner.finish().span(inner.client).parent;
        assert_eq!(parent, linked.then_some(outer.server), "shed {why}");
    }
}

#[test]
fn swapped_threads_give_no_link() {
    let mut script = Script::default();
    let (_, inner) = nested(&mut script);
    for step in &mut script.steps {
        if let What::Started(started) = &mut step.what
            && started.span == inner.client
        {
            started.thread.tid = 77;
        }
    }
    assert_eq!(script.run().span(inner.client).parent, None);
}

#[test]
fn a_call_after_the_response_or_from_another_thread_is_a_root() {
    for (why, at, by) in [
        ("before", 50, thread(101, 2)),
        ("after", 500, thread(101, 2)),
        ("a timer's thread", 200, thread(101, 9)),
        ("the same thread number elsewhere", 200, thread(103, 2)),
    ] {
        let mut script = Script::default();
        let (mut front, mut back) = (script.tcp(), script.tcp());
        let outer = script.call(&mut front, 100, thread(100, 1), thread(101, 2));
        let inner = script.call(&mut back, at, by, thread(102, 3));
        script.reply(outer, 400);
        script.reply(inner, 600);
        assert_eq!(script.run().span(inner.client).parent, None, "{why}");
    }
}

#[test]
fn a_thread_that_ever_served_two_at_a_time_is_no_evidence_until_it_ends() {
    for (why, exits, linked) in [("it lives on", false, false), ("a new thread", true, true)] {
        let mut script = Script::default();
        let (mut one, mut two, mut back) = (script.tcp(), script.tcp(), script.tcp());
        let event_loop = thread(101, 2);
        let first = script.call(&mut one, 100, thread(100, 1), event_loop);
        let second = script.call(&mut two, 150, thread(100, 9), event_loop);
        let during = script.call(&mut back, 200, event_loop, thread(102, 3));
        script.reply(during, 250);
        script.reply(first, 300);
        script.reply(second, 400);
        if exits {
            script.exit(450, event_loop, false);
        }
        let third = script.call(&mut one, 500, thread(100, 1), event_loop);
        let later = script.call(&mut back, 600, event_loop, thread(102, 3));
        script.reply(later, 700);
        script.reply(third, 800);
        let seen = script.run();
        assert_eq!(seen.span(during.client).parent, None, "{why}: during the overlap");
        assert_eq!(seen.span(later.client).parent.is_some(), linked, "{why}");
    }
}

#[test]
fn requests_that_waited_for_a_busy_thread_do_not_overlap() {
    let mut script = Script::default();
    let (mut one, two, mut back) = (script.tcp(), script.tcp(), script.tcp());
    let worker = thread(101, 2);
    let first = script.call(&mut one, 100, thread(100, 1), worker);
    script.reply(first, 300);
    // Readable at 160 while the worker was busy, taken at 400.
    let client = started(Role::Client, &two, 150 * US, thread(100, 9));
    let mut server = started(Role::Server, &two, 160 * US, worker);
    server.taken_ns = 400 * US;
    let (client_id, server_id) = (client.span, server.span);
    script.send(client);
    script.send(server);
    let inner = script.call(&mut back, 500, worker, thread(102, 3));
    script.reply(inner, 550);
    script.end(server_id, two.server, 600, Some(200), None);
    script.end(client_id, two.client, 610, Some(200), None);
    let seen = script.run();
    assert_eq!(seen.span(inner.client).parent, Some(server_id));
    assert_eq!(seen.span(server_id).start, 160 * US);
}

#[test]
fn an_end_that_becomes_known_late_is_no_overlap() {
    let mut script = Script::default();
    let (mut one, mut two, mut back) = (script.tcp(), script.tcp(), script.tcp());
    let worker = thread(101, 2);
    let first = script.call(&mut one, 100, thread(100, 1), worker);
    script.reply(first, 200);
    // The response ends with the connection, which closes only at 350.
    for step in script.steps.iter_mut().rev().take(2) {
        step.at = 350 * US;
    }
    let second = script.call(&mut two, 300, thread(100, 9), worker);
    let inner = script.call(&mut back, 400, worker, thread(102, 3));
    script.reply(inner, 500);
    script.reply(second, 600);
    assert_eq!(script.run().span(inner.client).parent, Some(second.server));
}

#[test]
fn goroutines_take_the_place_of_threads() {
    let mut script = Script::default();
    let (mut one, mut two, mut back) = (script.tcp(), script.tcp(), script.tcp());
    let goroutine = |context| Thread { context, ..thread(101, 2) };
    let first = script.call(&mut one, 100, thread(100, 1), goroutine(71));
    let second = script.call(&mut two, 110, thread(100, 9), goroutine(72));
    let moved = Thread { tid: 55, ..goroutine(71) };
    let inner = script.call(&mut back, 200, moved, thread(102, 3));
    script.reply(inner, 300);
    script.reply(first, 400);
    script.reply(second, 400);
    assert_eq!(script.run().span(inner.client).parent, Some(first.server));
}

#[test]
fn a_number_used_again_by_another_process_inherits_nothing() {
    let mut script = Script::default();
    let (mut front, mut back) = (script.tcp(), script.tcp());
    let outer = script.call(&mut front, 100, thread(100, 1), thread(101, 101));
    script.exit(150, thread(101, 101), true);
    let mut other = thread(101, 101);
    other.process.start_ns = 160_000 * US;
    let inner = script.call(&mut back, 200, other, thread(102, 3));
    script.reply(inner, 300);
    let seen = script.run();
    assert_eq!(seen.span(inner.client).parent, None);
    assert_eq!(seen.span(inner.client).service, "unknown_service");
    assert_eq!(seen.span(outer.server).get("kernspan.end"), "unobserved");
}

#[test]
fn a_lost_end_is_made_up_when_the_socket_goes_and_is_no_error() {
    let mut script = Script::default();
    let mut link = script.tcp();
    let call = script.call(&mut link, 100, thread(100, 1), thread(101, 2));
    script.client_end(call, 200, 200);
    script.gone(link.server, 300);
    let seen = script.run();
    let server = seen.span(call.server);
    assert_eq!((server.end, server.error), (300 * US, false));
    assert_eq!(server.get("kernspan.end"), "unobserved");
    assert_eq!(seen.count("end_lost"), 1);
}

#[test]
fn a_thread_that_calls_out_on_its_own_is_no_evidence() {
    // An event loop: it serves one request at a time and runs a timer that calls out as well.
    let mut script = Script::default();
    let (mut link, mut back, mut timer) = (script.tcp(), script.tcp(), script.tcp());
    let event_loop = thread(101, 2);
    let first = script.call(&mut link, 100, thread(100, 1), event_loop);
    script.reply(first, 200);
    let idle = script.call(&mut timer, 300, event_loop, thread(103, 4));
    script.reply(idle, 350);
    let second = script.call(&mut link, 400, thread(100, 1), event_loop);
    let from_timer = script.call(&mut timer, 420, event_loop, thread(103, 4));
    script.reply(from_timer, 430);
    let from_handler = script.call(&mut back, 440, event_loop, thread(102, 3));
    script.reply(from_handler, 450);
    script.reply(second, 500);
    let seen = script.run();
    for call in [idle, from_timer, from_handler] {
        assert_eq!(seen.span(call.client).parent, None);
    }
}

#[test]
fn a_thread_with_two_calls_open_at_a_time_is_no_evidence_from_then_on() {
    let mut script = Script::default();
    let (mut link, mut back, mut timer) = (script.tcp(), script.tcp(), script.tcp());
    let event_loop = thread(101, 2);
    let served = script.call(&mut link, 100, thread(100, 1), event_loop);
    let handler = script.call(&mut back, 150, event_loop, thread(102, 3));
    let beside = script.call(&mut timer, 200, event_loop, thread(103, 4));
    script.reply(beside, 250);
    script.reply(handler, 300);
    let after = script.call(&mut back, 350, event_loop, thread(102, 3));
    script.reply(after, 400);
    script.reply(served, 500);
    let seen = script.run();
    assert_eq!(seen.span(beside.client).parent, None);
    assert_eq!(seen.span(after.client).parent, None);
}

#[test]
fn a_thread_that_called_out_on_its_own_before_it_served_is_no_evidence() {
    for (why, calls, linked) in [
        ("settings fetched at the start", [100, 600_000], true),
        ("a timer", [100, 1_100_200], false),
    ] {
        let mut script = Script::default();
        let (mut link, mut back, mut own) = (script.tcp(), script.tcp(), script.tcp());
        let worker = thread(101, 2);
        for at in calls {
            let call = script.call(&mut own, at, worker, thread(103, 4));
            script.reply(call, at + 50);
        }
        let served = script.call(&mut link, 2_000_000, thread(100, 1), worker);
        let call = script.call(&mut back, 2_000_100, worker, thread(102, 3));
        script.reply(call, 2_000_150);
        script.reply(served, 2_000_200);
        assert_eq!(script.run().span(call.client).parent.is_some(), linked, "{why}");
    }
}

#[test]
fn a_thread_that_goes_to_and_fro_between_connections_of_its_own_is_no_evidence() {
    let (this, other) = (thread(101, 2), thread(101, 7));
    for (why, readers, linked) in [
        ("an event loop", [(0, this), (1, this), (0, this)], false),
        ("one connection after the other", [(0, this), (1, this), (1, this)], true),
        (
            "a pool: another thread reads the first as well",
            [(0, other), (1, this), (0, this)],
            true,
        ),
    ] {
        let mut script = Script::default();
        let (mut links, mut back) = ([script.tcp(), script.tcp()], script.tcp());
        // Read by `this` first in each case.
        let first = script.call(&mut links[0], 50, thread(100, 1), this);
        script.reply(first, 80);
        let mut at = 100;
        let mut last = None;
        for (link, reader) in readers {
            let served = script.call(&mut links[link], at, thread(100, 1), reader);
            let call = script.call(&mut back, at + 20, reader, thread(102, 3));
            script.reply(call, at + 40);
            script.reply(served, at + 60);
            last = Some(call);
            at += 100;
        }
        let call = last.expect("three requests");
        assert_eq!(script.run().span(call.client).parent.is_some(), linked, "{why}");
    }
}

#[test]
fn a_runtime_of_event_loops_is_no_evidence() {
    for (program, linked) in [("/usr/bin/node", false), ("/usr/bin/python3", true)] {
        let mut script = Script::default();
        script.exec(1, thread(101, 101), program, "node\0app\0");
        let (_, inner) = nested(&mut script);
        assert_eq!(script.run().span(inner.client).parent.is_some(), linked, "{program}");
    }
}

#[test]
fn the_main_thread_of_a_python_program_is_evidence_only_after_a_while() {
    const SECOND: u64 = 1_000_000;
    for (why, program, tid, linked) in [
        ("asyncio or a blocking worker", "/usr/bin/python3", 101, [false, true]),
        ("a thread of its own", "/usr/bin/python3", 102, [true, true]),
        ("nginx", "/usr/sbin/nginx", 101, [true, true]),
    ] {
        let mut script = Script::default();
        script.exec(1, thread(101, 101), program, "x\0app\0");
        let (mut link, mut back) = (script.tcp(), script.tcp());
        let server = thread(101, tid);
        let calls = [SECOND, 7 * SECOND].map(|at| {
            let served = script.call(&mut link, at, thread(100, 1), server);
            let call = script.call(&mut back, at + 100, server, thread(102, 3));
            script.reply(call, at + 200);
            script.reply(served, at + 300);
            call
        });
        let seen = script.run();
        let found = calls.map(|call| seen.span(call.client).parent.is_some());
        assert_eq!(found, linked, "{why}");
    }
}
