//! Atomic additions. `core`'s atomics stop at loads and stores on BPF, the instruction set does not.

use core::arch::asm;

/// Adds `by` to `*to`. Every kernel.
///
/// # Safety
/// `to` is a live, aligned map value.
#[inline(always)]
pub unsafe fn add(to: *mut u64, by: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) to, in(reg) by) };
}

/// Adds `by` to `*to` and gives what was there before. Linux 5.12 and later.
///
/// # Safety
/// `to` is a live, aligned map value.
#[inline(always)]
pub unsafe fn fetch_add(to: *mut u64, by: u64) -> u64 {
    let mut value = by;
    // SAFETY: the caller's promise.
    unsafe { asm!("{1} = atomic_fetch_add((u64 *)({0} + 0), {1})", in(reg) to, inout(reg) value) };
    value
}
