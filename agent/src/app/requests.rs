//! When metrics of requests are due: to the outputs, and to whoever asks `/metrics`.

use super::clock::boot_ns;
use super::shared::Shared;
use crate::export::Fanout;
use agent_core::trace::Assembler;
use std::time::Duration;

/// The interval, and what of it is over.
pub struct RequestReport {
    interval_ns: u64,
    reported_ns: u64,
}

impl RequestReport {
    /// From now on.
    pub fn new(interval: Duration) -> RequestReport {
        let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        RequestReport { interval_ns, reported_ns: boot_ns() }
    }

    /// Reports, when that is due at `now`.
    pub fn tick(&mut self, now: u64, assembler: &mut Assembler, out: &mut Fanout, shared: &Shared) {
        if now.saturating_sub(self.reported_ns) >= self.interval_ns {
            self.report(now, assembler, out, shared);
        }
    }

    /// Reports now.
    pub fn report(
        &mut self,
        now: u64,
        assembler: &mut Assembler,
        out: &mut Fanout,
        shared: &Shared,
    ) {
        self.reported_ns = now;
        if let Some(metrics) = assembler.request_metrics() {
            shared.publish_requests(metrics.text());
        }
        let unix_ns = now.saturating_add_signed(assembler.unix_offset(now));
        assembler.report_requests(unix_ns, out);
    }
}
