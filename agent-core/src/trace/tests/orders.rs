//! The output is that of the contents, not of their deliveries.

use super::script::*;
use crate::trace::AssemblerConfig;
use proptest::prelude::*;
use std::collections::VecDeque;

const RINGS: usize = 4;

/// Services that call each other, fork and exec; connections on rings 1 to 3.
fn busy() -> Script {
    let mut script = Script::default();
    for round in 0..12 {
        let at = 100 + round * 170;
        let (mut front, mut back) = (script.tcp(), script.tcp());
        let worker = thread(101, 2 + round as u32 % 4);
        let outer = script.call(&mut front, at, thread(100, 1), worker);
        let inner = script.call(&mut back, at + 50, worker, thread(102, 3));
        let child = 500 + round as u32;
        script.fork(at + 60, worker, (child, child));
        script.exec(at + 70, thread(child, child), "/bin/sh", "sh\0");
        script.reply(inner, at + 100);
        script.reply(outer, at + 250 + round * 31 % 200);
    }
    for step in &mut script.steps {
        if step.ring != 0 {
            let cookie = match &step.what {
                What::Opened(cookie, _) | What::Gone(cookie) => *cookie,
                What::Started(started) => started.cookie,
                What::Finished(finished) => finished.cookie,
                _ => 0,
            };
            step.ring = 1 + cookie as usize % 3;
        }
    }
    script.steps.sort_by_key(|step| step.at);
    script
}

fn sorted(mut seen: Seen) -> (Vec<Owned>, Vec<OwnedLog>) {
    seen.spans.sort_by_key(|span| span.id);
    seen.logs.sort_by_key(|log| log.attributes.get("process.pid").cloned());
    (seen.spans, seen.logs)
}

fn config() -> AssemblerConfig {
    AssemblerConfig { rings: RINGS, ..AssemblerConfig::default() }
}

#[test]
fn the_busy_script_has_links_of_every_kind() {
    let seen = busy().run_with(config());
    assert_eq!(seen.spans.len(), 48);
    assert!(seen.links()["thread"] >= 6, "{:?}", seen.links());
    assert!(seen.logs.iter().any(|log| log.cause.is_some()));
    assert_eq!(seen.count("late"), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_of_the_rings_gives_the_same_spans(
        choices in proptest::collection::vec((0..RINGS, any::<bool>()), 400..900),
    ) {
        let script = busy();
        let expected = sorted(script.run_with(config()));
        let mut queues: [VecDeque<Step>; RINGS] = Default::default();
        for step in script.steps {
            queues[step.ring].push_back(step);
        }
        let mut runner = Runner::new(config());
        for (ring, tick) in choices {
            // Everything before the next one of this ring has been delivered.
            let next = queues[ring].front().map_or(u64::MAX / 2, |step| step.at);
            if tick {
                runner.tick(ring, next);
            } else if let Some(step) = queues[ring].pop_front() {
                runner.deliver(step);
            }
        }
        for step in queues.into_iter().flatten() {
            runner.deliver(step);
        }
        prop_assert_eq!(sorted(runner.finish()), expected);
    }
}

#[test]
fn what_comes_too_late_is_still_given_out_and_counted() {
    let mut script = Script::default();
    let mut link = script.tcp();
    let call = script.call(&mut link, 100, thread(100, 1), thread(101, 2));
    script.reply(call, 300);
    let mut runner = Runner::new(AssemblerConfig::default());
    for ring in 0..2 {
        runner.tick(ring, 1_000_000 * US);
    }
    for step in script.steps {
        runner.deliver(step);
    }
    runner.tick(1, 1_000_001 * US);
    let seen = runner.finish();
    assert_eq!(seen.spans.len(), 2);
    assert_eq!(seen.count("late"), 6);
}
