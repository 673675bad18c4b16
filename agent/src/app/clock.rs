//! The clocks, read in one place: everything behind takes time as an argument.

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME`, ns: the clock of the kernel side's records.
pub fn boot_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// Unix time minus boot time, ns, with the boot time at which it was taken.
///
/// The boot clock is read on both sides of the wall clock, so that a preemption between the reads
/// shifts the offset by no more than half its length.
pub fn unix_offset() -> (u64, i64) {
    let before = boot_ns();
    let unix = nanoseconds(ClockId::Realtime);
    let after = boot_ns();
    let boot = before + (after - before) / 2;
    (boot, (unix as i128 - boot as i128) as i64)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
