//! Nothing grows without bound, and what leaves early is counted.

use super::script::*;
use crate::message::Role;
use crate::trace::{AssemblerConfig, Limits};

#[test]
fn floods_stay_within_the_limits_and_every_request_is_accounted_for() {
    let limits = Limits {
        open_requests: 50,
        held_bytes: 1 << 20,
        requests_per_connection: 4,
        connections: 20,
        threads: 10,
        processes: 10,
        undecided_bytes: 4000,
        queued: 100,
    };
    let mut runner = Runner::new(AssemblerConfig { limits, ..AssemblerConfig::default() });
    let mut script = Script::default();
    for n in 0..2000_u32 {
        let link = if n % 3 == 0 { script.tcp() } else { script.link() };
        for step in script.steps.drain(..) {
            runner.deliver(step);
        }
        for copy in 0..6 {
            let by = thread(200 + n % 40, n);
            let mut request = started(Role::Server, &link, u64::from(n) * 100 * US, by);
            request.span.0[0] = copy;
            request.position += u64::from(copy);
            script.send(request);
        }
        script.fork(u64::from(n) * 100, thread(200 + n % 40, n), (n + 1000, n + 1000));
        script.exec(u64::from(n) * 100 + 1, thread(n + 1000, n + 1000), "/bin/sh", "sh\0");
        for step in script.steps.drain(..) {
            runner.deliver(step);
        }
        if n % 10 == 0 {
            for ring in 0..2 {
                runner.tick(ring, u64::from(n) * 100 * US);
            }
            assert!(runner.assembler.open_requests() <= 50);
            assert!(runner.assembler.held_bytes() <= 1 << 20);
        }
    }
    let seen = runner.finish();
    let refused = seen.count("too_many_on_connection");
    assert!(refused > 0 && seen.count("evicted") > 0);
    assert_eq!(seen.spans.len() as u64 + refused, 12_000);
    assert_eq!(seen.recycled, 12_000);
    let known = |unit: &str| {
        let labels = ["known", "held"];
        let mut entries = seen.ledger.iter();
        let entry = entries.find(|e| e.unit == unit && labels.contains(&e.side.label()));
        entry.map_or(u64::MAX, |entry| entry.count)
    };
    assert!(known("connections") <= 20 && known("threads") <= 10 && known("processes") <= 10);
    assert_eq!(seen.logs.len(), 2000);
}

#[test]
fn heads_that_weigh_too_much_make_the_oldest_leave() {
    let limits = Limits { held_bytes: 64 << 10, ..Limits::default() };
    let mut runner = Runner::new(AssemblerConfig { limits, ..AssemblerConfig::default() });
    let mut script = Script::default();
    for n in 0..100 {
        let link = script.link();
        let mut request = started(Role::Server, &link, n * US, thread(101, n as u32 + 1));
        request.head.text.reserve(4096);
        script.send(request);
    }
    for step in script.steps {
        runner.deliver(step);
    }
    for ring in 0..2 {
        runner.tick(ring, 1_000_000 * US);
    }
    assert!(runner.assembler.held_bytes() <= 64 << 10);
    assert!(runner.assembler.open_requests() > 5);
    assert_eq!(runner.finish().spans.len(), 100);
}

#[test]
fn short_connections_and_processes_leave_nothing_behind() {
    let mut script = Script::default();
    for n in 0..3000_u64 {
        let mut link = script.tcp();
        let at = 100 + n * 1000;
        let server = thread(1000 + n as u32, 1000 + n as u32);
        let call = script.call(&mut link, at, thread(100, 1), server);
        script.reply(call, at + 200);
        script.gone(link.client, at + 300);
        script.gone(link.server, at + 300);
        script.exit(at + 400, server, true);
    }
    script.exit(100_000_000, thread(99, 99), true);
    let seen = script.run();
    for (unit, most) in [("connections", 0), ("threads", 1), ("processes", 20)] {
        let labels = ["known", "held"];
        let mut entries = seen.ledger.iter();
        let entry = entries.find(|e| e.unit == unit && labels.contains(&e.side.label()));
        let count = entry.map_or(u64::MAX, |entry| entry.count);
        assert!(count <= most, "{count} {unit}");
    }
    assert_eq!((seen.spans.len(), seen.count("open")), (6000, 0));
}
