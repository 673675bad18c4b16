//! Which traces are kept, and how often each counts.

use super::script::*;
use crate::message::{Head, Name};
use crate::route::RouteConfig;
use crate::trace::{AssemblerConfig, Rules, Sampling, Slow};
use std::collections::BTreeMap;

const ERRORS: Rules = Rules { errors: true, slow: None, events: false, floor: 0 };
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn kept(ratio: f64, rules: Rules) -> AssemblerConfig {
    let sampling = Sampling { ratio, rules, ..Sampling::default() };
    AssemblerConfig { sampling, ..AssemblerConfig::default() }
}

/// How many requests a span stands for, by its `th`.
fn adjusted(span: &Owned) -> f64 {
    let own = span.state.split(',').find_map(|member| member.strip_prefix("ot=th:"));
    let digits = own.and_then(|own| own.split(';').next()).expect("a threshold");
    let threshold = u64::from_str_radix(&format!("{digits:0<14}"), 16).expect("digits");
    1.0 / (1.0 - threshold as f64 / (1_u64 << 56) as f64)
}

/// Requests of p100 to p101, which asks p102; every 40th of these fails.
fn chains(count: u64) -> Script {
    let mut script = Script::default();
    for n in 0..count {
        let (mut near, mut far) = (script.tcp(), script.tcp());
        let at = n * 1000;
        let outer = script.call(&mut near, at, thread(100, 100), thread(101, 1010));
        let inner = script.call(&mut far, at + 50, thread(101, 1010), thread(102, 102));
        let status = if n % 40 == 7 { 500 } else { 200 };
        script.server_end(inner, at + 100, status);
        script.client_end(inner, at + 110, status);
        script.reply(outer, at + 200);
        for link in [near, far] {
            script.gone(link.client, at + 300);
            script.gone(link.server, at + 300);
        }
    }
    script
}

#[test]
fn every_trace_with_an_error_is_whole_and_the_counts_add_up() {
    let seen = chains(4000).run_with(kept(0.05, ERRORS));
    let mut traces: BTreeMap<_, Vec<&Owned>> = BTreeMap::new();
    for span in &seen.spans {
        traces.entry(span.trace).or_default().push(span);
    }
    let failed = traces.values().filter(|spans| spans.iter().any(|span| span.error)).count();
    assert_eq!(failed, 100, "of every 40th");
    for spans in traces.values() {
        assert_eq!(spans.len(), 4, "{spans:?}");
        let is_error = spans.iter().any(|span| span.error);
        assert!(spans.iter().all(|span| (span.state == "ot=th:0") == is_error), "{spans:?}");
    }
    let sum: f64 = seen.spans.iter().map(adjusted).sum();
    // Of 3,900 other traces some 195 are kept, 14 more or less; each stands for 20, four spans each.
    assert!((sum - 16_000.0).abs() < 4.0 * 4.0 * 14.0 * 20.0, "{sum}");
    let errors: f64 = seen.spans.iter().filter(|span| span.error).map(adjusted).sum();
    assert!((errors - 200.0).abs() < 1e-9, "errors are not estimated: {errors}");
    assert_eq!(seen.count("kept_for_error"), 100);
    assert_eq!((seen.count("decided_overdue"), seen.count("decided_early")), (0, 0));
    let plain = chains(4000).run_with(AssemblerConfig::default());
    assert_eq!(seen.count("open"), plain.count("open"), "trees that something still refers to");
    assert_eq!(seen.spans.len() as u64 + seen.count("sampled_out"), 16_000);
    assert_eq!(seen.count("kept_by_ratio") + seen.count("dropped"), 3900);
}

#[test]
fn without_rules_the_same_traces_are_kept_as_with_them() {
    let script = chains(500);
    let ids = |rules| {
        let seen = script.run_with(kept(0.2, rules));
        let by_ratio = seen.spans.into_iter().filter(|span| span.state != "ot=th:0");
        by_ratio.map(|span| (span.trace, span.id)).collect::<std::collections::BTreeSet<_>>()
    };
    let (plain, ruled) = (ids(Rules::default()), ids(ERRORS));
    assert!(ruled.is_subset(&plain) && ruled.len() > 200, "{} {}", ruled.len(), plain.len());
}

#[test]
fn the_threshold_is_said_where_something_is_dropped_or_was_said_before() {
    let mut script = Script::default();
    let mut link = script.tcp();
    for (n, state) in ["", "a=b", "ot=th:8;rv:ffffffffffffff,a=b"].into_iter().enumerate() {
        let at = 1000 * n as u64;
        let headers = [(Name::Traceparent, PARENT), (Name::Tracestate, state)];
        let call = script.call_with(&mut link, at, thread(100, 1), thread(101, 2), &headers);
        script.reply(call, at + 100);
    }
    let states = |config| {
        let mut all: Vec<_> = script.run_with(config).spans;
        all.retain(|span| span.server);
        all.into_iter().map(|span| span.state).collect::<Vec<_>>()
    };
    assert_eq!(states(kept(1.0, ERRORS)), ["", "a=b", "ot=th:0;rv:ffffffffffffff,a=b"]);
    let th = "ot=th:fd70a3d70a3d7";
    let few = states(kept(0.01, Rules::default()));
    assert_eq!(few, [format!("{th};rv:ffffffffffffff,a=b")], "by rv, not by the trace id");
}

#[test]
fn slow_traces_and_the_first_of_each_minute_are_kept() {
    let mut script = Script::default();
    let mut link = script.tcp();
    for n in 0..120_u64 {
        let at = n * 1_000_000;
        let call = script.call(&mut link, at, thread(100, 1), thread(101, 2));
        script.reply(call, at + if n == 50 { 700_000 } else { 900 });
    }
    let slow = Rules { slow: Some(Slow::Above(500_000_000)), ..Rules::default() };
    let seen = script.run_with(kept(0.0, slow));
    assert_eq!((seen.spans.len(), seen.count("kept_for_slow")), (2, 1));
    let floor = Rules { floor: 3, ..Rules::default() };
    let seen = script.run_with(kept(0.0, floor));
    // Both ends are watched: that of the client is the root.
    assert_eq!((seen.spans.len(), seen.count("kept_for_floor")), (2 * 2 * 3, 2 * 3));
    assert!(seen.spans.iter().all(|span| span.state == "ot=th:0"));
}

#[test]
fn a_request_that_ran_a_program_is_kept() {
    let mut script = Script::default();
    let mut link = script.tcp();
    for n in 0..10_u64 {
        let at = n * 1000;
        let call = script.call(&mut link, at, thread(100, 1), thread(101, 101));
        if n == 4 {
            script.fork(at + 50, thread(101, 101), (300, 300));
            script.exec(at + 60, thread(300, 300), "/bin/sh", "sh\0");
        }
        script.reply(call, at + 100);
    }
    let rules = Rules { events: true, ..Rules::default() };
    let seen = script.run_with(kept(0.0, rules));
    assert_eq!((seen.spans.len(), seen.count("kept_for_event")), (2, 1));
    let cause = seen.logs[0].cause.expect("a cause");
    assert!(seen.spans.iter().any(|span| (span.trace, span.id) == cause));
}

#[test]
fn what_takes_too_long_or_too_much_room_is_decided_early_and_counted() {
    let mut script = Script::default();
    let mut outer = script.tcp();
    // One request that calls for 20 s, with an error at the end.
    let call = script.call(&mut outer, 0, thread(100, 1), thread(101, 101));
    for n in 0..20_u64 {
        let mut link = script.tcp();
        let at = 1000 + n * 1_000_000;
        let inner = script.call(&mut link, at, thread(101, 101), thread(102, 1));
        script.reply(inner, at + 100);
    }
    script.server_end(call, 20_000_000, 500);
    script.client_end(call, 20_000_010, 500);
    let seen = script.run_with(kept(0.0, ERRORS));
    assert_eq!(seen.count("decided_overdue"), 1);
    assert!((2..30).contains(&seen.spans.len()), "from the error on: {}", seen.spans.len());
    let mut config = kept(0.0, ERRORS);
    config.limits.undecided_bytes = 5000;
    let seen = script.run_with(config);
    assert_eq!(seen.count("decided_early"), 1);
    assert_eq!(seen.spans.len() as u64 + seen.count("sampled_out"), 42);
    let mut config = kept(0.0, ERRORS);
    config.sampling.wait_ns = 60_000_000_000;
    assert_eq!(script.run_with(config).spans.len(), 42, "with time and room all of it is kept");
}

#[test]
fn trees_of_one_declared_trace_are_kept_together() {
    let mut script = Script::default();
    let (mut one, mut two) = (script.tcp(), script.tcp());
    let headers = [(Name::Traceparent, PARENT)];
    let first = script.call_with(&mut one, 0, thread(100, 1), thread(101, 1), &headers);
    let second = script.call_with(&mut two, 50, thread(100, 2), thread(102, 1), &headers);
    script.reply(first, 100);
    script.server_end(second, 300, 503);
    script.client_end(second, 310, 503);
    let mut later = script.tcp();
    let third = script.call_with(&mut later, 5000, thread(100, 1), thread(101, 1), &headers);
    script.reply(third, 5100);
    let seen = script.run_with(kept(0.0, ERRORS));
    assert_eq!(seen.spans.len(), 6, "what follows an error, too: {:?}", seen.spans);
}

#[test]
fn a_service_keeps_its_rate() {
    let sampling = Sampling { rate: Some(50), ..Sampling::default() };
    let config = AssemblerConfig { sampling, ..AssemblerConfig::default() };
    let seen = chains(10_000).run_with(config);
    let kept = seen.spans.len() as f64 / 4.0;
    // 10 s at 1,000 a second.
    assert!((400.0..900.0).contains(&kept), "{kept} in 10 s at 50 a second");
    let sum: f64 = seen.spans.iter().map(adjusted).sum();
    assert!((sum / 40_000.0 - 1.0).abs() < 0.2, "{sum} of 40000");
}

#[test]
fn a_route_is_learnt_and_named_only_when_that_is_asked_for() {
    let mut script = Script::default();
    let mut link = script.tcp();
    for n in 0..3_u64 {
        let call = script.call(&mut link, n * 1000, thread(100, 1), thread(101, 2));
        script.reply(call, n * 1000 + 100);
    }
    for (n, step) in script.steps.iter_mut().enumerate() {
        if let What::Started(started) = &mut step.what {
            started.head = Head::default();
            started.head.set(Name::Method, b"GET");
            started.head.set(Name::Path, format!("/users/{n}").as_bytes());
        }
    }
    let routes = RouteConfig { learn: true, ..RouteConfig::default() };
    let seen = script.run_with(AssemblerConfig { routes, ..AssemblerConfig::default() });
    for span in &seen.spans {
        let expected = if span.server { "GET /users/{id}" } else { "GET" };
        assert_eq!(span.name, expected);
        assert_eq!(span.get("http.route"), if span.server { "/users/{id}" } else { "" });
    }
    let plain = script.run();
    assert!(plain.spans.iter().all(|span| span.name == "GET" && span.get("http.route").is_empty()));
}

#[test]
fn an_answer_that_shows_nothing_names_no_route() {
    let routes = RouteConfig { learn: true, ..RouteConfig::default() };
    let config = AssemblerConfig { routes, ..AssemblerConfig::default() };
    for (status, expected) in
        [(200, "/any"), (304, "/any"), (302, ""), (303, ""), (404, ""), (502, "")]
    {
        let mut script = Script::default();
        let mut link = script.tcp();
        let call = script.call(&mut link, 0, thread(100, 1), thread(101, 2));
        script.server_end(call, 100, status);
        script.client_end(call, 110, status);
        for step in &mut script.steps {
            if let What::Started(started) = &mut step.what {
                started.head = Head::default();
                started.head.set(Name::Method, b"POST");
                started.head.set(Name::Path, b"/any");
            }
        }
        let seen = script.run_with(config.clone());
        let served = seen.spans.iter().find(|span| span.server).expect("a server's span");
        assert_eq!(served.get("http.route"), expected, "{status}");
    }
}

/// Requests to six places of p101, in turn, each of which takes its own time; the last to `/a` takes 30 ms.
fn places(count: u64) -> Script {
    let mut script = Script::default();
    let mut link = script.tcp();
    for n in 0..count {
        let at = n * 50_000;
        let call = script.call(&mut link, at, thread(100, 1), thread(101, 2));
        let took = if n == count - 6 { 30_000 } else { 1000 + n % 6 * 8000 + n % 7 };
        script.reply(call, at + took);
    }
    let mut n = 0;
    for step in &mut script.steps {
        if let What::Started(started) = &mut step.what {
            started.head = Head::default();
            started.head.set(Name::Method, b"GET");
            // Both ends of each.
            let (place, request) = (["a", "b", "c", "d", "e", "f"][n / 2 % 6], n / 2);
            started.head.set(Name::Path, format!("/{place}/{request}").as_bytes());
            n += 1;
        }
    }
    script
}

#[test]
fn rules_are_by_route_where_nobody_asked_for_routes() {
    let floor = kept(0.0, Rules { floor: 1, ..Rules::default() });
    let seen = places(60).run_with(floor);
    let served: Vec<&Owned> = seen.spans.iter().filter(|span| span.server).collect();
    assert_eq!(served.len(), 6, "the first of each route: {served:?}");
    assert!(seen.spans.iter().all(|span| span.get("http.route").is_empty() && span.name == "GET"));
    // 30 ms are nothing special for p101, whose other places take up to 41; for this one they are.
    let slow = kept(0.0, Rules { slow: Some(Slow::Usual), ..Rules::default() });
    let seen = places(6000).run_with(slow);
    let slowest = seen.spans.iter().filter(|span| span.server && span.get("url.path") == "/a/5994");
    assert_eq!(slowest.count(), 1, "{} spans", seen.spans.len());
    assert!(seen.spans.len() < 300, "{} spans", seen.spans.len());
}

/// A trace from outside with a request that stays open, so that it is decided before those that come later.
fn late_error(number: u64) -> Script {
    let parent = format!("00-4bf92f3577b34da6{:016x}-00f067aa0ba902b7-01", (number * 5) << 47);
    let headers = [(Name::Traceparent, parent.as_str())];
    let mut script = Script::default();
    let (mut long, mut link) = (script.tcp(), script.tcp());
    let open = script.call_with(&mut long, 0, thread(100, 1), thread(101, 2), &headers);
    for (at, status) in [(1000, 200), (40_000_000, 500)] {
        let call = script.call_with(&mut link, at, thread(100, 3), thread(101, 4), &headers);
        script.server_end(call, at + 100, status);
        script.client_end(call, at + 110, status);
    }
    script.reply(open, 60_000_000);
    script
}

#[test]
fn what_a_rule_keeps_late_counts_once_whatever_the_number_said_before() {
    let mut early = 0;
    for number in 0..100 {
        let seen = late_error(number).run_with(kept(0.5, ERRORS));
        let late: Vec<f64> = seen.spans.iter().filter(|span| span.error).map(adjusted).collect();
        assert_eq!(late, [1.0, 1.0], "{number}");
        early += seen.spans.iter().filter(|span| !span.error).count();
        assert_eq!(seen.count("decided_overdue"), 1);
    }
    assert!((100..600).contains(&early), "{early}: some of them by their number");
}
