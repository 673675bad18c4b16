//! Two runs see the same for a moment, and share it.

use super::script::*;
use crate::ledger::Side;
use crate::trace::{AssemblerConfig, Window};
use std::collections::BTreeMap;

/// From here on the next run sees everything, µs.
const NEXT_SEES: u64 = 5_000;
/// Here it takes over, µs.
const TAKEN: u64 = 10_000;

/// So long before, its programs are attached one after the other, µs.
const ATTACHING: u64 = 700;
/// So long after that the first one's still are, µs.
const DETACHED: u64 = 400;

/// What each of two runs gives out of `script`.
fn both(script: &Script) -> (Seen, Seen) {
    let mut first = script.clone();
    first.steps.retain(|step| step.at <= (TAKEN + DETACHED) * US);
    let window = Window { until_ns: TAKEN * US, next_sees_ns: NEXT_SEES * US, ..Window::default() };
    let mut next = script.clone();
    // Connections are told of anew.
    next.steps.retain(|step| step.at == 0 || step.at >= (NEXT_SEES - ATTACHING) * US);
    let first = first.play_with(AssemblerConfig::default(), window);
    let window = Window { from_ns: TAKEN * US, sees_ns: NEXT_SEES * US, ..Window::default() };
    let next = next.play_with(AssemblerConfig::default(), window);
    for runner in [&first, &next] {
        let entries = runner.assembler.ledger();
        let sum = |sides: fn(&Side) -> bool| -> u64 {
            let counted = entries.iter().filter(|e| e.stage == "trace" && sides(&e.side));
            counted.filter(|e| ["requests", "execs"].contains(&e.unit)).map(|e| e.count).sum()
        };
        let known = |side: &Side| matches!(side, Side::Out | Side::Held | Side::Lost(_));
        assert_eq!(sum(|side| *side == Side::In), sum(known));
    }
    (first.finish(), next.finish())
}

#[test]
fn each_request_has_one_span_with_the_same_ids_whoever_reports_it() {
    let mut script = Script::default();
    let mut calls = Vec::new();
    // Short ones all the time; of the long ones some began before the next run saw anything.
    for n in 0..40 {
        let mut link = script.tcp();
        let at = 100 + n * 450;
        let call = script.call(&mut link, at, thread(100, 1 + n as u32), thread(101, 100));
        // Of the longest some are open at the end of the first run, and some end as it is detached.
        script.reply(call, at + [4_000, 90, 90, 6_100, 90, 90, 9_000, 90][n as usize % 8]);
        calls.push(call);
    }
    let whole = script.run();
    let (first, next) = both(&script);
    let mut times = BTreeMap::new();
    for span in first.spans.iter().chain(&next.spans) {
        *times.entry(span.id).or_insert(0) += 1;
    }
    for call in &calls {
        for id in [call.client, call.server] {
            assert_eq!(times.get(&id), Some(&1), "{id:?}");
        }
    }
    assert_eq!(times.len(), whole.spans.len());
    assert!(first.spans.len() > 20 && next.spans.len() > 20, "both report");
    for span in first.spans.iter().chain(&next.spans) {
        assert_eq!(span.trace, whole.span(span.id).trace);
        assert_eq!(span.parent, whole.span(span.id).parent);
    }
}

#[test]
fn an_exec_is_told_once() {
    let mut script = Script::default();
    for n in 0..30 {
        script.exec(100 + n * 600, thread(102, 102), "/bin/true", "true\0");
    }
    let (first, next) = both(&script);
    assert_eq!(first.logs.len() + next.logs.len(), 30);
    assert!(!first.logs.is_empty() && !next.logs.is_empty());
}
