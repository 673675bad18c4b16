//! Stage 5: requests of all rings to spans of settled traces, and execs to log records.
//!
//! ```text
//! ring 0 ─ fork exec exit ─┐
//! ring 1 ─ Signal ─────────┤ order ─► core ┬ threads  who works for which request
//! ring n ─ Signal ─────────┘  (watermark)  ├ link     parent of a client span
//!                                          ├ join     both ends of one connection
//!                     facts, clock ────────┤ settle   trace id, sampling, wall clock
//!                                          └ emit     spans and log records ─► Output
//! ```
//!
//! The output depends on the contents of the rings, the facts and the clock samples only, not on
//! how their deliveries interleave: a replay gives the same spans.
//!
//! Sampling ([`sampling`]) looks at the trace's randomness (`>= threshold`, as OpenTelemetry's `th`) and, where
//! rules are given, at what happened in it; not at an incoming sampled flag: that says what the program's own
//! tracer did. The flag goes out as it came.

mod address;
mod attributes;
mod bounded;
mod config;
mod conn;
mod context;
mod core;
mod counts;
mod doubt;
mod emit;
mod exec;
pub(crate) mod fuzzing;
mod goroutines;
mod held;
mod index;
mod join;
mod link;
mod measure;
mod order;
mod request;
mod sampling;
mod settle;
mod suspicion;
mod text;
mod threads;
mod window;

#[cfg(test)]
mod tests;

pub use config::{AssemblerConfig, KNOWN_METHODS, Limits, LinkerSwitches};
pub use sampling::{Rules, Sampling, Slow};
pub use window::Window;

use self::core::{Core, Sinks};
use crate::event::{Event, ProcessKey};
use crate::ledger::Entry;
use crate::message::{Signal, Started};
use crate::process::kubernetes::PodChange;
use crate::process::{HostFacts, ProcessFacts, SharedResource};
use crate::request::RequestMetrics;
use crate::route::Routes;
use crate::span::Output;
use order::{ExecCopy, Item, Order};
use std::collections::BTreeMap;

/// Longest argument block kept of an exec: what the kernel side captures at most.
const MAX_ARGS: usize = 4096;

/// Puts requests together to traces.
///
/// Feed it everything that the rings deliver; [`Assembler::tick`] lets it work.
pub struct Assembler {
    order: Order,
    core: Core,
}

impl Assembler {
    /// An assembler for the host of which `host` tells.
    pub fn new(config: AssemblerConfig, host: HostFacts) -> Self {
        let order = Order::new(config.rings, config.slack_ns);
        Assembler { order, core: Core::new(config, host) }
    }

    /// Takes what the shard of `ring` (1 and above) found, in the order of that ring.
    pub fn signal(&mut self, ring: usize, signal: Signal) {
        self.order.push(ring, order::known_at(&signal), Item::Signal(signal));
    }

    /// Takes a fork, exec or exit from ring 0; other events are none of its business.
    pub fn process_event(&mut self, event: &Event<'_>) {
        let at = event.header().boot_ns;
        match event {
            Event::Fork(fork) => self.order.push(0, at, Item::Fork(**fork)),
            Event::Exit(exit) => self.order.push(0, at, Item::Exit(**exit)),
            Event::Exec(exec, args) => {
                let args = args.get(..MAX_ARGS).unwrap_or(args);
                let copy = match self.core.spare_execs.pop() {
                    Some(mut copy) => {
                        copy.exec = **exec;
                        copy.args.clear();
                        copy.args.extend_from_slice(args);
                        copy
                    }
                    None => Box::new(ExecCopy { exec: **exec, args: args.to_vec() }),
                };
                self.order.push(0, at, Item::Exec(copy));
            }
            Event::Connection(..)
            | Event::Payload(..)
            | Event::Closing(_)
            | Event::Shed(_)
            | Event::ThreadContext(_) => {}
        }
    }

    /// Takes what is known of a process from `facts.since_ns` on. May come at any time; spans
    /// given out before keep what was known then.
    pub fn facts(&mut self, facts: ProcessFacts) {
        self.core.processes.insert(facts);
    }

    /// A pod has come, gone or changed. Spans given out before keep what was known then.
    pub fn pod(&mut self, change: PodChange) {
        self.core.processes.pod(change);
    }

    /// Resource of a process as it was at `at_ns` (boot time).
    pub fn resource(&mut self, process: ProcessKey, at_ns: u64) -> SharedResource {
        self.core.processes.resource(process, at_ns)
    }

    /// The same, of a process that something is known of.
    pub fn known_resource(&mut self, process: ProcessKey, at_ns: u64) -> Option<SharedResource> {
        self.core.processes.facts(process, at_ns)?;
        Some(self.core.processes.resource(process, at_ns))
    }

    /// Unix minus boot time at `boot_ns`, ns.
    pub fn unix_offset(&self, boot_ns: u64) -> i64 {
        self.core.trees.clock.offset(boot_ns)
    }

    /// Requests that were shed before they came here were open until `boot_ns`: what began before
    /// then is no evidence by its thread.
    pub fn shed_until(&mut self, boot_ns: u64) {
        self.core.threads.doubt.everywhere(boot_ns);
    }

    /// Another run takes over, or this one has done so: what of it is reported.
    pub fn reports(&mut self, window: Window) {
        self.core.window = window;
    }

    /// Takes a sample of the wall clock: Unix minus boot time, ns, at `boot_ns`.
    pub fn clock(&mut self, boot_ns: u64, unix_minus_boot_ns: i64) {
        self.core.trees.clock.sample(boot_ns, unix_minus_boot_ns);
    }

    /// `ring` has delivered everything that was written before `boot_ns`. Processes what no ring
    /// can precede any more. Used boxes go to `recycle`.
    pub fn tick(
        &mut self,
        ring: usize,
        boot_ns: u64,
        out: &mut impl Output,
        recycle: &mut impl FnMut(Box<Started>),
    ) {
        self.order.delivered(ring, boot_ns);
        let watermark = self.order.watermark();
        let mut sinks = Sinks { out, recycle, last: false };
        while self.order.queued() > self.core.config.limits.queued {
            let Some((key, item)) = self.order.pop(u64::MAX) else { break };
            self.core.counts.forced += 1;
            self.core.process(key, item, &mut sinks);
        }
        self.run(watermark, &mut sinks);
        self.core.advance(watermark, &mut sinks);
        self.core.processes.forget_ended(watermark);
    }

    /// Nothing follows: processes what waits, and gives out what is still open, ended at the last
    /// known time and marked as unobserved.
    pub fn finish(&mut self, out: &mut impl Output, recycle: &mut impl FnMut(Box<Started>)) {
        let mut sinks = Sinks { out, recycle, last: true };
        self.run(u64::MAX, &mut sinks);
        self.core.finish(&mut sinks);
    }

    fn run(&mut self, until: u64, sinks: &mut Sinks<'_>) {
        while let Some((key, item)) = self.order.pop(until) {
            self.core.process(key, item, sinks);
        }
    }

    /// Requests that are being answered, by service.
    pub fn in_flight(&mut self) -> BTreeMap<String, u64> {
        self.core.in_flight()
    }

    /// Gives the metrics of requests out.
    pub fn report_requests(&mut self, unix_ns: u64, out: &mut dyn Output) {
        self.core.report_requests(unix_ns, out);
    }

    /// Metrics of requests, when they are kept.
    pub fn request_metrics(&self) -> Option<&RequestMetrics> {
        self.core.metrics.as_ref()
    }

    /// Counts of this stage and of its process table.
    pub fn ledger(&self) -> Vec<Entry> {
        let core = &self.core;
        let mut others = counts::Others {
            requests_held: core.requests.len() as u64 + core.sampler.held(),
            queued: self.order.queued() as u64,
            waiting: core.held.len() as u64,
            trees: core.trees.len() as u64,
            late: self.order.late,
            connections: core.conns.len() as u64,
            connections_evicted: core.conns.evicted,
            threads: core.threads.len() as u64,
            threads_evicted: core.threads.evicted,
            threads_barred: core.threads.barred,
            ..counts::Others::default()
        };
        others.execs_held =
            core.counts.execs - core.counts.exec_logs - core.counts.execs_handed_over;
        let mut entries = core.counts.entries(&others);
        entries.extend(core.processes.ledger());
        entries.extend(core.sampler.ledger());
        entries.extend(core.routes.iter().flat_map(Routes::ledger));
        entries.extend(core.metrics.iter().flat_map(RequestMetrics::ledger));
        entries
    }

    /// Requests that started and are not given out.
    pub fn open_requests(&self) -> usize {
        self.core.requests.len()
    }

    /// Bytes of their heads.
    pub fn held_bytes(&self) -> usize {
        self.core.bytes
    }
}
