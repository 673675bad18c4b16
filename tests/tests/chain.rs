//! What the README's first command shows: four programs that know nothing of tracing, one trace.

use kernspan_tests::agent::Agent;
use kernspan_tests::client::curl;
use kernspan_tests::nginx::{Location, Nginx};
use kernspan_tests::otlp::{Kind, Span};
use kernspan_tests::process::{cpu_time, free_ports, waited_for_processors};
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, say, scaled};
use std::collections::HashMap;
use std::time::{Duration, Instant};

#[test]
fn four_programs_are_one_trace_of_six_spans_with_one_root() {
    let Some(scenario) = Scenario::begin("chain", &["nginx", "curl"]) else { return };
    let [web, first, second] = free_ports();
    let (ports, call) = ([first.to_string(), second.to_string()], format!("b:{second}"));
    let serve = |name: &str, port: &str, more: &[&str]| {
        let own = ["--name", name, "--port", port];
        Python::serve(&scenario, name, "links.py", &[&own, more].concat(), &[])
    };
    let services = [serve("b", &ports[1], &[]), serve("a", &ports[0], &["--call", &call])];
    let listen = format!("127.0.0.1:{web}");
    let nginx = Nginx::start(&scenario, &listen, &[("/a/", Location::Tcp(first))], &[]);
    let agent = Agent::run(&scenario, &[]);
    let requests = scaled(20, 200) as usize;
    for number in 0..requests {
        curl(&scenario, &[], &[format!("http://{listen}/a/r{number}")], 1);
    }
    let report = agent.stop();
    drop(services);
    assert_eq!(nginx.stop().len(), requests);

    let mut traces: HashMap<&str, Vec<&Span>> = HashMap::new();
    for span in &report.telemetry.spans {
        traces.entry(&span.trace).or_default().push(span);
    }
    let chains: Vec<_> = traces.values().filter(|spans| spans.len() == 6).collect();
    assert_eq!(chains.len(), requests, "{} traces in all", traces.len());
    for spans in chains {
        let [root] = spans.iter().filter(|span| span.parent.is_empty()).collect::<Vec<_>>()[..]
        else {
            panic!("not one root: {:?}", spans.iter().map(|span| span.brief()).collect::<Vec<_>>());
        };
        assert_eq!(root.kind, Kind::Client, "{}", root.brief());
        let known = |id: &str| spans.iter().any(|span| span.id == id);
        assert!(spans.iter().all(|span| span.parent.is_empty() || known(&span.parent)));
    }
}

#[test]
fn it_starts_within_a_second_and_stops_within_two() {
    let Some(scenario) = Scenario::begin("start and stop", &[]) else { return };
    let runs = 5;
    // The best of a few, without the time in which a program waited for a processor: what else this machine
    // does is no cost of the agent. That leaves little on a machine that is never idle; there the agent's CPU
    // time tells.
    let started = (0..runs).map(|_| {
        let (begin, waited) = (Instant::now(), waited_for_processors());
        let agent = Agent::run(&scenario, &[]);
        let (took, cpu) = (begin.elapsed(), cpu_time(agent.pid()));
        let others = waited_for_processors().saturating_sub(waited);
        // Demands the two seconds.
        let _ = agent.stop();
        (took.saturating_sub(others).max(cpu), took, cpu)
    });
    let (best, took, cpu) = started.min().unwrap_or((Duration::MAX, Duration::MAX, Duration::MAX));
    let told = format!("ready after {took:?} with {cpu:?} of CPU time at best of {runs}");
    say(&told);
    assert!(best <= Duration::from_secs(1), "{told}");
}
