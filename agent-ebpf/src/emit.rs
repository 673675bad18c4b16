//! The only way out of the kernel: reserve, fill, submit; what is lost is counted here, once.

use agent_common::record::{Header, VERSION};
use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
};

use crate::{kernel::atomic, maps::COUNTERS};

/// `CLOCK_BOOTTIME`, ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: reads a clock; takes no pointer and has no precondition.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Adds to a counter.
#[inline(always)]
pub fn count(index: u32, by: u64) {
    if let Some(bank) = bank() {
        bank.add(index, by);
    }
}

/// Adds to two counters, each an index and how much.
#[inline(always)]
pub fn count_both(one: (u32, u64), other: (u32, u64)) {
    if let Some(bank) = bank() {
        bank.add(one.0, one.1);
        bank.add(other.0, other.1);
    }
}

/// This CPU's counters.
#[derive(Clone, Copy)]
struct Bank(*mut u64);

#[inline(always)]
fn bank() -> Option<Bank> {
    COUNTERS.get_ptr_mut(0).map(|bank| Bank(bank.cast()))
}

impl Bank {
    #[inline(always)]
    fn counter(self, index: u32) -> *mut u64 {
        // SAFETY: indices are below `counter::COUNT`; the verifier checks that.
        unsafe { self.0.add(index as usize) }
    }

    #[inline(always)]
    fn add(self, index: u32, by: u64) {
        // SAFETY: this CPU's live slot; the atomic add keeps increments of a program that
        // interrupts this one.
        unsafe { atomic::add(self.counter(index), by) };
    }
}

/// Next sequence number of a ring on this CPU. Atomic, since an interrupt may emit as well.
#[inline(always)]
pub fn next_sequence(tried: u32) -> u64 {
    match bank() {
        // SAFETY: as in `Bank::add`.
        Some(bank) => unsafe { atomic::fetch_add(bank.counter(tried), 1) },
        None => 0,
    }
}

/// Next sequence number where no interrupt emits: kernels before 5.12 have no atomic fetch-and-add.
#[inline(always)]
pub fn next_sequence_plain(tried: u32) -> u64 {
    let Some(bank) = bank() else { return 0 };
    let counter = bank.counter(tried);
    // SAFETY: this CPU's live slot; programs of the process ring run with preemption off and not
    // in interrupts.
    unsafe {
        let sequence = counter.read_volatile();
        counter.write_volatile(sequence + 1);
        sequence
    }
}

/// Adds 1 to a counter where no interrupt counts, without a fetch.
#[inline(always)]
pub fn count_plain(index: u32) {
    next_sequence_plain(index);
}

/// Fills the constant part of a header and the CPU.
#[inline(always)]
pub fn header(kind: u8, sequence: u64, boot_ns: u64) -> Header {
    Header { version: VERSION, kind, cpu: this_cpu(), seq: sequence, boot_ns, ..Header::default() }
}

#[inline(always)]
fn this_cpu() -> u16 {
    // SAFETY: takes no pointer and has no precondition.
    unsafe { bpf_get_smp_processor_id() as u16 }
}

/// Leave the reader asleep: it polls.
pub const QUIET: u64 = BPF_RB_NO_WAKEUP as u64;
/// Wake the reader.
pub const URGENT: u64 = BPF_RB_FORCE_WAKEUP as u64;
