//! The trace context that a thread has published (OTEP 4947), from the memory of its program: no hook in
//! the program.
//!
//! The thread pointer leads to the variable `otel_thread_ctx_v1`, that to the record. Only the thread itself
//! writes it, and it is in the kernel now; still it is a stranger's memory: what does not make sense is no
//! context.

use agent_common::{
    counter,
    record::{Header, ThreadContext, flag, kind},
    runtime::{MAX_MODULES, Publisher, vector},
    settings::feature,
};

use super::{load, task::Task, user::read_user};
use crate::{
    emit::{count, header, reserve, wakeup},
    maps::{GO_GENERATION, PUBLISHERS},
    settings::{enabled, offset},
};

/// `valid` of a record that is complete.
const VALID: u8 = 1;

/// The record up to its attributes, which are not read: 16 bytes of a trace's id, 8 of a span's, `valid`,
/// `trace-flags`, and the attributes' size. Byte-packed, and only aligned to two.
type Published = [u32; 7];

/// No such slot of a thread yet (glibc, `TLS_DTV_UNALLOCATED`).
const UNALLOCATED: u64 = u64::MAX;

/// Process `tgid` publishes.
#[inline(always)]
pub fn publishes(tgid: u32) -> bool {
    PUBLISHERS.get_ptr(tgid).is_some()
}

/// A new process has its parent's memory, and its variables where its parent has them.
#[inline(always)]
pub fn inherit(parent: u32, child: u32) {
    if !enabled(feature::THREAD_CONTEXT) {
        return;
    }
    // SAFETY: the value is copied out.
    if let Some(publisher) = unsafe { PUBLISHERS.get(parent) }.copied() {
        let _ = PUBLISHERS.insert(child, publisher, 0);
    }
}

/// The process is gone, or its memory is: userspace finds out what runs in it now.
#[inline(always)]
pub fn forget(tgid: u32) {
    if enabled(feature::THREAD_CONTEXT) {
        let _ = PUBLISHERS.remove(tgid);
    }
}

/// Writes down what the current thread has published while it sends the request that the record of the
/// socket `cookie` at `boot_ns` begins with. True when it has: that record has to say so.
#[inline(always)]
pub fn note(cookie: u64, boot_ns: u64, flags: u16) -> bool {
    note_thread_context(cookie, boot_ns, u32::from(flags)) != 0
}

/// [`note`]. A global function: the verifier looks at it once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note_thread_context(cookie: u64, boot_ns: u64, flags: u32) -> u32 {
    if !enabled(feature::THREAD_CONTEXT) || GO_GENERATION.get(0).copied().unwrap_or(0) == 0 {
        return 0;
    }
    let task = Task::current();
    let tgid = task.tgid();
    // SAFETY: the value is copied out.
    let Some(publisher) = (unsafe { PUBLISHERS.get(tgid) }).copied() else { return 0 };
    let Some(place) = place(task, &publisher) else { return 0 };
    let Some(published) = published(place) else { return 0 };
    let Some((sequence, mut slot)) = reserve(cookie, size_of::<ThreadContext>()) else { return 1 };
    let [ids @ .., rest] = published;
    let [_, trace_flags, ..] = rest.to_ne_bytes();
    let record = slot.as_mut_ptr().cast::<ThreadContext>();
    let header = Header {
        flags: flags as u16 & flag::PLAINTEXT,
        tgid,
        tid: task.tid(),
        start_ns: task.process_start(),
        ..header(kind::THREAD_CONTEXT, sequence, boot_ns)
    };
    // SAFETY: the slot is as long as the record and 8-byte aligned; the verifier checks both.
    unsafe {
        (&raw mut (*record).header).write(header);
        (&raw mut (*record).cookie).write(cookie);
        // The span's id follows the trace's, in both.
        (&raw mut (*record).trace_id).cast::<[u32; 6]>().write(ids);
        (&raw mut (*record).trace_flags).cast::<u64>().write(u64::from(trace_flags));
    }
    slot.submit(wakeup(cookie));
    count(counter::PUBLISHED_CONTEXTS, 1);
    1
}

/// Address of the thread's variable.
#[inline(always)]
fn place(task: Task, publisher: &Publisher) -> Option<u64> {
    let thread: u64 = load(task.0, offset!(task_fsbase));
    if publisher.vector == vector::NONE {
        return Some(thread.wrapping_add_signed(publisher.offset));
    }
    let module = u64::from(publisher.module);
    if module == 0 || module > u64::from(MAX_MODULES) {
        return None;
    }
    // Both have it in the word behind the thread pointer.
    let slots: u64 = read_user(thread.wrapping_add(8))?;
    let glibc = publisher.vector == vector::GLIBC;
    let most = if glibc { slots.wrapping_sub(16) } else { slots };
    // The thread has not used the module yet: there may be no slot, or nothing in it.
    if read_user::<u64>(most)? < module {
        return None;
    }
    let width = if glibc { 16 } else { 8 };
    let variables: u64 = read_user(slots.wrapping_add(module * width))?;
    if variables == 0 || variables == UNALLOCATED {
        return None;
    }
    Some(variables.wrapping_add_signed(publisher.offset))
}

/// The record to which the variable at `place` points, if it is valid and names a span.
#[inline(always)]
fn published(place: u64) -> Option<Published> {
    let address: u64 = read_user(place)?;
    if address == 0 {
        return None;
    }
    let published: Published = read_user(address)?;
    // Again: whoever lets two threads write one record shall not have a mixture read.
    let after: u32 = read_user(address.wrapping_add(24))?;
    let [.., span_1, span_2, rest] = published;
    let trace = published[0] | published[1] | published[2] | published[3];
    let valid = rest.to_ne_bytes()[0] == VALID && after.to_ne_bytes()[0] == VALID;
    if !valid || trace == 0 || span_1 | span_2 == 0 {
        return None;
    }
    Some(published)
}
