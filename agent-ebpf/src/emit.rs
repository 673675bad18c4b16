//! The only way out of the kernel: reserve, fill, submit; what is lost is counted here, once.

use agent_common::{
    counter,
    record::{Header, VERSION},
    settings::{MAX_PAYLOAD_RINGS, feature, payload_ring},
};
use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_boot_ns},
    maps::{RingBuf, ring_buf::RingBufBytes},
};

use crate::{
    kernel::atomic,
    maps::{COUNTERS, PAYLOAD_RING_1, PAYLOAD_RING_2, PAYLOAD_RING_3, PAYLOAD_RING_4, SLEEPERS},
    settings::{enabled, setting},
};

/// `CLOCK_BOOTTIME`, ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: reads a clock; takes no pointer and has no precondition.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// The kernel's ticks (`jiffies`): a load, where the clock is a call of 40 ns and more.
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: takes no pointer and has no precondition.
    unsafe { bpf_jiffies64() }
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
fn next_sequence(ring: u32) -> u64 {
    next_of(counter::tried(ring))
}

/// Adds 1 to a counter and gives what it was. Atomic, since an interrupt may count as well.
#[inline(always)]
pub fn next_of(index: u32) -> u64 {
    if crate::UNTYPED && !enabled(feature::ATOMIC_FETCH) {
        return next_sequence_plain(index);
    }
    match bank() {
        // SAFETY: as in `Bank::add`.
        Some(bank) => unsafe { atomic::fetch_add(bank.counter(index), 1) },
        None => 0,
    }
}

/// Numbers a record of the socket `cookie` and reserves `len` bytes, a constant, in its payload ring.
#[inline(always)]
pub fn reserve(cookie: u64, len: usize) -> Option<(u64, RingBufBytes<'static>)> {
    let ring = ring_of(cookie);
    let sequence = next_sequence(ring);
    let slot = payload_map(ring).reserve_bytes(len, 0);
    if slot.is_none() {
        count(counter::lost(ring), 1);
    }
    slot.map(|slot| (sequence, slot))
}

/// Bytes that wait in the payload ring of the socket `cookie`.
#[inline(always)]
pub fn waiting(cookie: u64) -> u64 {
    payload_map(ring_of(cookie)).query(u64::from(BPF_RB_AVAIL_DATA))
}

/// How a record of the socket `cookie` is submitted: its reader polls, unless nothing came for long.
#[inline(always)]
pub fn wakeup(cookie: u64) -> u64 {
    match SLEEPERS.get(ring_of(cookie) - 1) {
        Some(1) => URGENT,
        _ => QUIET,
    }
}

/// With one ring the verifier removes the other branch: all that is left is one load.
#[inline(always)]
fn ring_of(cookie: u64) -> u32 {
    if setting!(payload_rings) <= 1 {
        return 1;
    }
    // Read again: the compiler must not work on the cookie before it knows that it has to.
    payload_ring(cookie, setting!(payload_rings)).min(MAX_PAYLOAD_RINGS)
}

#[inline(always)]
fn payload_map(ring: u32) -> &'static RingBuf {
    match ring {
        2 => &PAYLOAD_RING_2,
        3 => &PAYLOAD_RING_3,
        4 => &PAYLOAD_RING_4,
        _ => &PAYLOAD_RING_1,
    }
}

/// Next sequence number where no interrupt emits: kernels before 5.12 have no atomic fetch-and-add.
/// There the payload rings are numbered like this as well: kprobes' programs do not interrupt each other,
/// and what the one raw tracepoint of theirs writes while it interrupts one may share a number.
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

/// Number of this CPU.
#[inline(always)]
pub fn this_cpu() -> u16 {
    // SAFETY: takes no pointer and has no precondition.
    unsafe { bpf_get_smp_processor_id() as u16 }
}

/// Leave the reader asleep: it polls.
pub const QUIET: u64 = BPF_RB_NO_WAKEUP as u64;
/// Wake the reader.
pub const URGENT: u64 = BPF_RB_FORCE_WAKEUP as u64;
