//! Evidence by goroutine: its own request, or that of the one that made it.

use super::script::*;
use crate::message::Thread;
use agent_common::runtime::{MADE_SINCE, UNKNOWN, pack};

/// A goroutine of process 101, on any thread of it.
fn goroutine(number: u64, maker: u64) -> Thread {
    Thread { context: pack(number, maker), ..thread(101, 40 + number as u32) }
}

/// The same, made since its maker began to read its latest request.
fn made_since(number: u64, maker: u64) -> Thread {
    let made = goroutine(number, maker);
    Thread { context: made.context | MADE_SINCE, ..made }
}

/// What calls while goroutine 70 serves a request, and whether the request is found to be its cause.
#[test]
fn a_goroutine_works_for_what_its_maker_serves_if_it_was_made_since() {
    for (why, calling, linked) in [
        ("the goroutine itself", goroutine(70, 1), true),
        ("one that it made for the request", made_since(80, 70), true),
        ("one that it had made before", goroutine(80, 70), false),
        ("another one's", made_since(80, 71), false),
        ("a worker that was there from the start", goroutine(9, 1), false),
        ("one that cannot be told", Thread { context: UNKNOWN, ..thread(101, 2) }, false),
        ("a thread without a goroutine, of C code", thread(101, 2), false),
        (
            "the same number in another process",
            Thread { process: process(103), ..made_since(80, 70) },
            false,
        ),
    ] {
        let mut script = Script::default();
        let (mut front, mut back) = (script.tcp(), script.tcp());
        let outer = script.call(&mut front, 100, thread(100, 1), goroutine(70, 1));
        let inner = script.call(&mut back, 200, calling, thread(102, 3));
        script.reply(inner, 300);
        script.reply(outer, 400);
        let seen = script.run();
        let call = seen.span(inner.client);
        assert_eq!(call.parent, linked.then_some(outer.server), "{why}");
        if linked {
            assert_eq!(call.method(), "goroutine", "{why}");
        }
    }
}

#[test]
fn what_a_goroutine_works_for_passes_on_to_those_that_it_makes() {
    for (why, first, linked) in [
        ("one that is known to work for it", true, true),
        ("one that never used a socket", false, false),
    ] {
        let mut script = Script::default();
        let (mut front, mut back, mut other) = (script.tcp(), script.tcp(), script.tcp());
        let outer = script.call(&mut front, 100, thread(100, 1), goroutine(70, 1));
        if first {
            let between = script.call(&mut back, 150, made_since(80, 70), thread(102, 3));
            script.reply(between, 180);
        }
        let inner = script.call(&mut other, 200, goroutine(90, 80), thread(102, 3));
        script.reply(inner, 300);
        script.reply(outer, 400);
        let parent = script.run().span(inner.client).parent;
        assert_eq!(parent, linked.then_some(outer.server), "{why}");
    }
}

/// A pool that the first request has started serves others later.
#[test]
fn a_request_that_is_over_hands_nothing_on() {
    let mut script = Script::default();
    let (mut front, mut back) = (script.tcp(), script.tcp());
    let first = script.call(&mut front, 100, thread(100, 1), goroutine(70, 1));
    let own = script.call(&mut back, 120, made_since(80, 70), thread(102, 3));
    script.reply(own, 150);
    script.reply(first, 200);
    let second = script.call(&mut front, 300, thread(100, 1), goroutine(70, 1));
    let later = script.call(&mut back, 320, goroutine(80, 70), thread(102, 3));
    script.reply(later, 350);
    script.reply(second, 400);
    let after = script.call(&mut back, 500, goroutine(80, 70), thread(102, 3));
    script.reply(after, 550);
    let seen = script.run();
    assert_eq!(seen.span(own.client).parent, Some(first.server));
    assert_eq!(seen.span(later.client).parent, None);
    assert_eq!(seen.span(after.client).parent, None);
}

/// All at once on two threads, as goroutines are.
#[test]
fn requests_side_by_side_stay_apart() {
    let mut script = Script::default();
    let mut calls = Vec::new();
    for n in 0..20 {
        let (mut front, mut back) = (script.tcp(), script.tcp());
        let server = Thread { tid: 2 + n as u32 % 2, ..goroutine(100 + n, 1) };
        let outer = script.call(&mut front, 100 + n, thread(100, 1), server);
        let maker = Thread { tid: 3, ..made_since(200 + n, 100 + n) };
        let inner = script.call(&mut back, 200 + n, maker, thread(102, 3));
        calls.push((outer, inner));
    }
    for (outer, inner) in &calls {
        script.reply(*inner, 300);
        script.reply(*outer, 400);
    }
    let seen = script.run();
    for (outer, inner) in calls {
        assert_eq!(seen.span(inner.client).parent, Some(outer.server));
    }
}
