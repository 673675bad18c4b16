//! Keeps to the CPU budget (`--max-cpu`): measures what the agent costs, and lets the kernel side
//! shed as many of the requests that begin as it takes.
//!
//! What it costs is the CPU time of its own process, and what its programs take inside the watched
//! ones. The kernel measures the latter only while it is asked to, at a price: so it is asked for a
//! moment now and then, and the time of one call is taken for that of the others.

use super::clock::boot_ns;
use super::shared::{Shared, Thread};
use super::threads::spawn;
use crate::cli::Failure;
use crate::probe::control::Purse;
use crate::probe::run_time::RunTimes;
use agent_common::counter;
use agent_common::settings::MAX_PAYLOAD_RINGS;
use agent_core::ledger::{Entry, Side};
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two decisions: ten of them make the second within which all is kept again.
const STEP: Duration = Duration::from_millis(100);

/// Steps between two measurements of the kernel side, each as long as a step.
const STEPS_BETWEEN: u32 = 50;

/// Boot time (ns) until when nobody decides: two runs are there, and attaching costs more than a budget allows.
static PAUSED_UNTIL: AtomicU64 = AtomicU64::new(0);

/// Nobody decides before `boot_ns`.
pub fn pause_until(boot_ns: u64) {
    PAUSED_UNTIL.store(boot_ns, Ordering::Relaxed);
}

/// Least part of the requests that is kept: less would show nothing of what goes on.
const LEAST: f64 = 1.0 / 256.0;

/// Parts of the budget: above the first less is kept, below the second more, below the third much
/// more.
const ENOUGH: f64 = 1.0;
const ROOM: f64 = 0.85;
const PLENTY: f64 = 0.5;

/// How much that was not used is kept, in budgets of a step: half a second's. The agent's own work comes in
/// bursts (a look at all that is mapped, an export), which on an idle machine must not cost a request.
const MOST_SAVED: f64 = 5.0;

/// Decides how much is kept. All numbers are parts of 1.
#[derive(Clone, Copy, Debug)]
pub struct Governor {
    /// Of one processor.
    budget: f64,
    /// What is used of the budget, smoothed.
    used: f64,
    /// Of the requests that begin.
    keep: f64,
    /// What was not used lately, in budgets of a step.
    saved: f64,
}

impl Governor {
    /// With so much of one processor to spend.
    pub fn new(budget: f64) -> Governor {
        Governor { budget, used: 0.0, keep: 1.0, saved: 0.0 }
    }

    /// The agent used `cpu` of one processor since the last step.
    pub fn step(&mut self, cpu: f64) {
        let used = cpu / self.budget;
        let over = used - ENOUGH;
        let is_paid = over > 0.0 && over <= self.saved;
        self.saved = (self.saved - over).clamp(0.0, MOST_SAVED);
        if is_paid {
            return;
        }
        self.used = if used > self.used { used } else { 0.5 * (self.used + used) };
        if self.used > ENOUGH {
            // What it costs without any request cannot be saved: at most halved, and seen again.
            self.keep *= (0.9 / self.used).max(0.5);
        } else if self.used < PLENTY {
            self.keep = self.keep * 4.0 + 0.05;
        } else if self.used < ROOM {
            self.keep = self.keep * 1.2 + 0.005;
        }
        self.keep = self.keep.clamp(LEAST, 1.0);
    }

    /// For [`agent_common::settings::Budget::shed`].
    pub fn shed(&self) -> u32 {
        if self.keep >= 1.0 {
            return 0;
        }
        // The cast saturates.
        ((1.0 - self.keep) * (f64::from(u32::MAX) + 1.0)) as u32
    }
}

/// Starts the thread that keeps to `budget` (of one processor).
///
/// # Errors
/// The system's, when it starts no thread.
pub fn start(
    budget: f64,
    purse: Purse,
    programs: RunTimes,
    shared: Arc<Shared>,
) -> Result<JoinHandle<()>, Failure> {
    let governor = Governor::new(budget);
    let kernel = KernelSide { programs, per_call_ns: 0.0, until_next: 0 };
    spawn("kernspan-budget", move || Watch { governor, purse, kernel, shared }.run())
}

struct Watch {
    governor: Governor,
    purse: Purse,
    kernel: KernelSide,
    shared: Arc<Shared>,
}

/// What a call costs in the kernel.
struct KernelSide {
    programs: RunTimes,
    /// Time of all programs for one call of a watched program.
    per_call_ns: f64,
    /// Steps until it is measured again.
    until_next: u32,
}

/// Sums since the start.
#[derive(Clone, Copy, Default)]
struct Sums {
    at: u64,
    own_ns: u64,
    calls: u64,
}

impl Watch {
    fn run(mut self) {
        let mut before = self.sums();
        while !self.shared.stop.load(Ordering::Acquire) {
            let measuring = self.kernel.begin();
            std::thread::sleep(STEP);
            let now = self.sums();
            let calls = now.calls.saturating_sub(before.calls);
            if let Some(measuring) = measuring {
                self.kernel.end(measuring, calls);
            }
            let elapsed = now.at.saturating_sub(before.at).max(1) as f64;
            let own = now.own_ns.saturating_sub(before.own_ns) as f64;
            let cpu = (own + self.kernel.per_call_ns * calls as f64) / elapsed;
            before = now;
            if now.at < PAUSED_UNTIL.load(Ordering::Relaxed) {
                continue;
            }
            let had = self.governor.shed();
            self.governor.step(cpu);
            let shed = self.governor.shed();
            if shed != had
                && let Err(error) = self.purse.shed(shed)
            {
                tracing::debug!("the kernel side does not hear of its budget: {error}");
            }
            self.publish();
        }
    }

    fn sums(&self) -> Sums {
        let own = clock_gettime(ClockId::ProcessCPUTime);
        let own_ns = own.tv_sec as u64 * 1_000_000_000 + own.tv_nsec as u64;
        Sums { at: boot_ns(), own_ns, calls: calls(&self.shared.kernel_counters()) }
    }

    fn publish(&self) {
        let thousandths = |part: f64| (part * 1000.0) as u64;
        let entry = |what, count| Entry {
            stage: "budget",
            unit: "thousandths",
            side: Side::Info(what),
            count,
        };
        let entries = vec![
            entry("used_of_budget", thousandths(self.governor.used)),
            entry("requests_kept", thousandths(self.governor.keep)),
        ];
        self.shared.publish(Thread::Budget, entries);
    }
}

impl KernelSide {
    /// Begins a measurement when it is time for one.
    fn begin(&mut self) -> Option<crate::probe::run_time::Measuring> {
        if self.until_next > 0 {
            self.until_next -= 1;
            return None;
        }
        self.until_next = STEPS_BETWEEN;
        self.programs.begin()
    }

    fn end(&mut self, measuring: crate::probe::run_time::Measuring, calls: u64) {
        let ns = self.programs.end(measuring);
        // A few calls say little, and cost little.
        if calls >= 100 {
            self.per_call_ns = ns as f64 / calls as f64;
        }
    }
}

/// Calls of watched programs that the kernel side dealt with, by its counters.
fn calls(counters: &[u64]) -> u64 {
    let rings = (1..=MAX_PAYLOAD_RINGS).map(counter::tried);
    let others = [
        counter::MUTED_CALLS,
        counter::FILTERED_CALLS,
        counter::OWN_CALLS,
        counter::OTHER_SOCKETS,
        counter::SHED_CALLS,
    ];
    let of = |index: u32| counters.get(index as usize).copied().unwrap_or(0);
    rings.chain(others).map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which keeping all would cost `load` of one processor.
    fn run(governor: &mut Governor, load: f64, fixed: f64, steps: u32) -> f64 {
        let mut cpu = 0.0;
        for _ in 0..steps {
            cpu = fixed + load * governor.keep;
            governor.step(cpu);
        }
        cpu
    }

    #[test]
    fn nothing_is_shed_within_the_budget() {
        let mut governor = Governor::new(0.05);
        run(&mut governor, 0.04, 0.005, 100);
        assert_eq!(governor.shed(), 0);
    }

    #[test]
    fn ten_times_the_budget_is_brought_down_to_it_and_all_is_kept_again_within_a_second() {
        let mut governor = Governor::new(0.05);
        let cpu = run(&mut governor, 0.5, 0.005, 100);
        assert!((0.03..0.06).contains(&cpu), "{cpu}");
        let kept = governor.keep;
        assert!((0.05..0.12).contains(&kept), "{kept}");
        let shed = f64::from(governor.shed()) / f64::from(u32::MAX);
        assert!((shed - (1.0 - kept)).abs() < 1e-6, "{shed}");
        run(&mut governor, 0.0, 0.005, 9);
        assert_eq!(governor.shed(), 0, "{governor:?}");
    }

    #[test]
    fn a_burst_of_own_work_costs_no_request() {
        let mut governor = Governor::new(0.05);
        run(&mut governor, 0.0, 0.01, 10);
        // 20 ms in one step: four budgets of a step.
        governor.step(0.2);
        assert_eq!(governor.shed(), 0, "{governor:?}");
        // Again at once: nothing is left of what was saved.
        governor.step(0.2);
        assert!(governor.shed() > 0, "{governor:?}");
    }

    #[test]
    fn what_is_saved_does_not_let_a_load_run_over() {
        let mut governor = Governor::new(0.05);
        run(&mut governor, 0.0, 0.0, 100);
        let used: f64 = (0..20).map(|_| run(&mut governor, 0.5, 0.005, 1)).sum();
        assert!(used / 20.0 < 0.1, "{used}: two seconds of ten times the budget");
        let used: f64 = (0..100).map(|_| run(&mut governor, 0.5, 0.005, 1)).sum();
        assert!(used / 100.0 < 0.055, "{used}");
    }

    #[test]
    fn what_cannot_be_saved_leaves_a_little() {
        let mut governor = Governor::new(0.01);
        run(&mut governor, 0.5, 0.2, 100);
        assert_eq!(governor.keep, LEAST);
    }

    #[test]
    fn calls_are_those_that_cost() {
        let mut counters = vec![0; counter::COUNT as usize];
        counters[counter::tried(1) as usize] = 3;
        counters[counter::tried(4) as usize] = 4;
        counters[counter::MUTED_CALLS as usize] = 10;
        counters[counter::MUTED_BYTES as usize] = 1000;
        assert_eq!(calls(&counters), 17);
        assert_eq!(calls(&[]), 0, "a replay has none");
    }
}
