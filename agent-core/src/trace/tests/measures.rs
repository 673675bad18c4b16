//! Metrics of requests say what happened, whatever is kept of the spans.

use super::script::*;
use crate::message::Role;
use crate::metric::Temporality;
use crate::request::{Bucketed, RequestLimits};
use crate::trace::{AssemblerConfig, Sampling};

/// A chain of three services, `count` times; some of the last one's answers are failures.
fn chain(count: u64) -> Script {
    let mut script = Script::default();
    for n in 0..count {
        let at = 100 + n * 10_000;
        let (mut first, mut second) = (script.tcp(), script.tcp());
        let outer = script.call(&mut first, at, thread(100, 1), thread(101, 2));
        let inner = script.call(&mut second, at + 100, thread(101, 2), thread(102, 3));
        let status = if n % 4 == 0 { 503 } else { 200 };
        script.server_end(inner, at + 300, status);
        script.client_end(inner, at + 310, status);
        script.reply(outer, at + 400);
    }
    script
}

/// Name, labels, value.
type Counter = (&'static str, String, u64);

fn run(count: u64, ratio: f64) -> (Seen, Vec<Bucketed>, Vec<Counter>) {
    run_script(&chain(count), ratio)
}

fn run_script(script: &Script, ratio: f64) -> (Seen, Vec<Bucketed>, Vec<Counter>) {
    let request_metrics = Some((RequestLimits::default(), Temporality::Cumulative));
    let config = AssemblerConfig {
        request_metrics,
        sampling: Sampling { ratio, ..Sampling::default() },
        ..Default::default()
    };
    let mut runner = script.play(config);
    for ring in 0..runner.rings {
        runner.tick(ring, u64::MAX);
    }
    let (histograms, numbers) = runner.assembler.request_metrics().expect("asked for").text();
    let numbers = numbers
        .into_iter()
        .map(|number| (number.name, format!("{:?}", number.labels), number.value))
        .collect();
    (runner.finish(), histograms, numbers)
}

fn counted(histograms: &[Bucketed], name: &str, service: &str, status: &str) -> u64 {
    let has = |one: &&Bucketed, key, value: &str| {
        one.labels.iter().any(|(name, text)| *name == key && text == value)
    };
    let found = histograms.iter().filter(|one| {
        one.name == name
            && has(one, "service_name", service)
            && has(one, "http.response.status_code", status)
    });
    found.flat_map(|one| &one.counts).sum()
}

#[test]
fn counts_do_not_depend_on_sampling() {
    const COUNT: u64 = 40;
    for ratio in [1.0, 0.3, 0.0] {
        let (seen, histograms, _) = run(COUNT, ratio);
        let count = |name, service, status| counted(&histograms, name, service, status);
        let (server, client) = ("http.server.request.duration", "http.client.request.duration");
        assert_eq!(count(client, "p100", "200"), COUNT, "at {ratio}");
        assert_eq!(count(server, "p101", "200"), COUNT, "at {ratio}");
        assert_eq!(count(client, "p101", "503"), COUNT / 4, "at {ratio}");
        assert_eq!(count(server, "p102", "503"), COUNT / 4, "at {ratio}");
        assert_eq!(count(server, "p102", "200"), COUNT * 3 / 4, "at {ratio}");
        assert_eq!(ratio == 0.0, seen.spans.is_empty());
    }
}

#[test]
fn durations_are_those_of_the_spans() {
    let (seen, histograms, _) = run(8, 1.0);
    let of_spans: f64 = seen.spans.iter().map(|span| (span.end - span.start) as f64 / 1e9).sum();
    let own = histograms.iter().filter(|one| one.name.starts_with("http."));
    let of_metrics: f64 = own.map(|one| one.sum).sum();
    assert!((of_spans - of_metrics).abs() < 1e-9, "{of_spans} and {of_metrics}");
}

#[test]
fn each_request_is_counted_once_between_its_services() {
    let (_, histograms, numbers) = run(20, 0.0);
    let total = "traces_service_graph_request_total";
    let failed = "traces_service_graph_request_failed_total";
    let of = |name: &str, from: &str, to: &str| {
        let labels = format!("{:?}", [("client", from.to_owned()), ("server", to.to_owned())]);
        numbers.iter().filter(|one| one.0 == name && one.1 == labels).map(|one| one.2).sum::<u64>()
    };
    assert_eq!((of(total, "p100", "p101"), of(failed, "p100", "p101")), (20, 0));
    assert_eq!((of(total, "p101", "p102"), of(failed, "p101", "p102")), (20, 5));
    assert_eq!(numbers.iter().filter(|one| one.0 == total).count(), 2);
    for name in ["server", "client"] {
        let name = format!("traces_service_graph_request_{name}_seconds");
        let all = histograms.iter().filter(|one| one.name == name).flat_map(|one| &one.counts);
        assert_eq!(all.sum::<u64>(), 40, "{name}");
    }
}

#[test]
fn a_request_whose_end_nobody_saw_is_in_no_histogram() {
    let mut script = Script::default();
    let mut link = script.tcp();
    script.call(&mut link, 100, thread(100, 1), thread(101, 2));
    let request_metrics = Some((RequestLimits::default(), Temporality::Cumulative));
    let seen = script.run_with(AssemblerConfig { request_metrics, ..Default::default() });
    assert_eq!(seen.spans.len(), 2);
    let entries = seen.ledger.iter().filter(|entry| entry.stage == "request_metrics");
    let counts: Vec<_> =
        entries.map(|entry| (entry.unit, entry.side.label(), entry.count)).collect();
    assert_eq!(
        counts[..3],
        [("requests", "in", 2), ("requests", "out", 0), ("requests", "end_unobserved", 2)]
    );
}

/// A request whose bytes came at 110 and were taken at 400, when the process ran `shopd`: a socket that was
/// handed over by exec, or a process forked for this connection. What it asks itself is that program's, too.
#[test]
fn what_waited_is_whose_who_took_it_in_span_metric_and_edge() {
    for forked in [false, true] {
        let mut script = Script::default();
        let server = if forked { thread(500, 500) } else { thread(101, 101) };
        if forked {
            script.fork(200, thread(101, 101), (500, 500));
        }
        script.exec(300, server, "/usr/bin/shopd", "shopd\0");
        let (link, mut below) = (script.tcp(), script.tcp());
        let asked = started(Role::Client, &link, 100 * US, thread(100, 1));
        let mut taken = started(Role::Server, &link, 110 * US, server);
        taken.taken_ns = 400 * US;
        let (client_id, server_id) = (asked.span, taken.span);
        script.send(asked);
        script.send(taken);
        let inner = script.call(&mut below, 500, server, thread(102, 2));
        script.reply(inner, 600);
        script.end(server_id, link.server, 700, Some(200), None);
        script.end(client_id, link.client, 710, Some(200), None);
        let (seen, histograms, numbers) = run_script(&script, 1.0);
        let served = seen.span(server_id);
        assert_eq!((served.start, served.service.as_str()), (110 * US, "shopd"));
        assert_eq!(seen.span(inner.client).service, "shopd");
        assert_eq!(counted(&histograms, "http.server.request.duration", "shopd", "200"), 1);
        assert_eq!(counted(&histograms, "http.client.request.duration", "shopd", "200"), 1);
        for (from, to) in [("p100", "shopd"), ("shopd", "p102")] {
            let labels = format!("{:?}", [("client", from.to_owned()), ("server", to.to_owned())]);
            assert!(numbers.iter().any(|one| one.1 == labels), "{from} {to}: {numbers:?}");
        }
    }
}

/// One that has been taken is whose who took it then, whatever the process executes while it is open.
#[test]
fn what_was_taken_before_an_exec_is_the_program_before() {
    let mut script = Script::default();
    let mut link = script.tcp();
    let call = script.call(&mut link, 100, thread(100, 1), thread(101, 101));
    script.exec(300, thread(101, 101), "/usr/bin/shopd", "shopd\0");
    script.reply(call, 700);
    assert_eq!(run_script(&script, 1.0).0.span(call.server).service, "p101");
}
