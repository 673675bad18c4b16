//! Where pages lie: userspace sends one page with a marker in front, and the program finds the base
//! addresses under which the marker can be read.
//!
//! The current task's own memory lies in the map of physical memory, which begins at a multiple of 1 GiB
//! below it; the `struct page` of the message lies in the array of pages, which begins at such a multiple
//! below that one. So there are few candidates: as many as the machine has GiB of memory, times one for
//! each 64 GiB. Attached only for the test, and for the agent's own sends.

use agent_common::settings::{PageBases, PageTest};
use aya_ebpf::{
    helpers::generated::bpf_get_current_task,
    macros::{btf_tracepoint, fentry},
    programs::{BtfTracePointContext, FEntryContext},
};

use crate::{
    filter,
    kernel::{iterator::first_extent, pages::Extent, probe, task::current_ids},
    maps::PAGE_TEST,
};

/// Bases lie at multiples of 1 GiB (`PUD_SIZE`, arch/x86/mm/kaslr.c).
const STEP: u64 = 1 << 30;

/// Candidates in one run.
const RUN: u64 = 256;

/// `tcp_sendmsg_locked(const struct sock *sk, const struct msghdr *msg, …)`, since 6.16.
#[btf_tracepoint(function = "tcp_sendmsg_locked")]
fn page_test_tracepoint(ctx: BtfTracePointContext) -> i32 {
    test(ctx.arg::<*const u8>(1));
    0
}

/// The function of the same name, for kernels before.
#[fentry(function = "tcp_sendmsg_locked")]
fn page_test_fentry(ctx: FEntryContext) -> i32 {
    test(ctx.arg::<*const u8>(1));
    0
}

#[inline(always)]
fn test(message: *const u8) {
    let (tgid, _, _) = current_ids();
    if !filter::is_own(tgid) {
        return;
    }
    let Some(test) = PAGE_TEST.get_ptr_mut(0) else { return };
    // SAFETY: a live map value; userspace waits while its own send runs.
    let test = unsafe { &mut *test };
    let Some(extent) = first_extent(message) else { return };
    // Only a page that begins where its bytes begin has the marker there.
    if test.marker == 0 || extent.offset != 0 {
        return;
    }
    test.seen += 1;
    search(test, extent);
}

#[inline(always)]
fn search(test: &mut PageTest, extent: Extent) {
    // SAFETY: takes no pointer and has no precondition. As a number: it may be calculated with.
    let task = unsafe { bpf_get_current_task() };
    let mut tries = 0;
    while tries < RUN {
        let candidate = test.next;
        test.next = candidate + 1;
        tries += 1;
        let Some(pages) = candidate.checked_div(test.memory_steps) else { return };
        let memory = candidate - pages * test.memory_steps;
        let bases = PageBases {
            memory: (task & !(STEP - 1)).wrapping_sub(memory * STEP),
            pages: (extent.page & !(STEP - 1)).wrapping_sub(pages * STEP),
        };
        let Some(address) = extent.address(bases) else { continue };
        if probe::<u64>(address) == test.marker {
            test.found = bases;
            return;
        }
    }
}
