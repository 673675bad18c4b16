//! Functions of Go's `crypto/tls`: their beginnings, and where they end.
//!
//! One program for all places; [`Site`], which the attachment carries, says what is there. Never on a
//! function's return by way of its stack (uretprobe): Go moves stacks. A beginning may be seen twice, when
//! the stack is moved behind it: the second is the same call.

use agent_common::{
    counter,
    record::Payload,
    settings::feature,
    tls::{Site, go},
};
use aya_ebpf::{
    EbpfContext, helpers::generated::bpf_get_attach_cookie, macros::uprobe, programs::ProbeContext,
};

use super::{
    payload::work,
    tls::{Asked, NESTED_NS, report},
};
use crate::{
    emit::{count, count_both, now},
    filter,
    kernel::{goroutine, registers::GoRegisters, stack, task::current_ids, user::read_user},
    maps::{GO_PROCESSES, TLS_GO_CALLS, TLS_OBJECTS},
    settings::{enabled, setting},
    tls::{CONFLICT, ObjectKey, OpenCall, TlsSocket, bind, flag, socket},
    tls_go::{ALL_COUNT, GoCall, GoCallKey, call_of, state},
};

/// Where a function with a frame pointer finds the room that its caller left for its first argument.
const FIRST_ARGUMENT: u64 = 16;

#[uprobe]
#[inline(always)]
fn tls_go(ctx: ProbeContext) -> u32 {
    stack::stay_on_the_tasks();
    // SAFETY: the context is the program's own.
    let site = Site(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    let (tgid, _, _) = current_ids();
    if !enabled(feature::TLS_GO) || filter::is_own(tgid) || !filter::selects_now(tgid) {
        return 0;
    }
    let registers = GoRegisters::of(&ctx);
    // SAFETY: a live map value, of which constants are read.
    let program = unsafe { GO_PROCESSES.get(tgid) };
    let goid = program.and_then(|program| goroutine::number_of(program, registers.g));
    let Some(goid) = goid else {
        // Not known yet, or not to be known.
        if site.place() == go::COPIED {
            unmatched(registers.third);
        }
        return 0;
    };
    let key = GoCallKey { tgid: u64::from(tgid), goid };
    match site.place() {
        go::READ => entered(key, state::READ, &registers),
        go::WRITE => entered(key, state::WRITE, &registers),
        go::HANDSHAKE => entered(key, state::HANDSHAKE, &registers),
        go::CLOSE => closes(key, registers.first),
        _ => left(site, key, &registers),
    }
    0
}

#[inline(always)]
fn entered(key: GoCallKey, state: u32, registers: &GoRegisters) {
    let handle = registers.first;
    let began_ns = now();
    let mut known = call_of(key);
    if let Some(outer) = &mut known
        && matches!(outer.state, state::READ | state::WRITE)
    {
        if outer.handle == handle && state == state::HANDSHAKE {
            // Part of the call.
            outer.received = ALL_COUNT;
            return;
        }
        if outer.handle != handle && began_ns.wrapping_sub(outer.began_ns) < NESTED_NS {
            outer.inner = handle;
            count(counter::TLS_NESTED, 1);
            return;
        }
    }
    let call = GoCall {
        handle,
        buffer: registers.second,
        len: registers.third,
        began_ns,
        cookie: 0,
        state,
        received: 0,
        inner: 0,
    };
    match known {
        Some(known) => *known = call,
        None => {
            let _ = TLS_GO_CALLS.insert(key, call, 0);
        }
    }
}

/// The object is gone, and with it a call that ended unseen.
#[inline(always)]
fn closes(key: GoCallKey, handle: u64) {
    let _ = TLS_OBJECTS.remove(ObjectKey { tgid: key.tgid, handle });
    if let Some(call) = call_of(key).filter(|call| call.handle == handle) {
        call.state = state::NONE;
    }
}

#[inline(always)]
fn left(site: Site, key: GoCallKey, registers: &GoRegisters) {
    let place = site.place();
    let Some(call) = call_of(key) else {
        match place {
            go::COPIED => unmatched(registers.third),
            go::WRITTEN => unmatched(0),
            _ => {}
        }
        return;
    };
    if call.inner != 0 {
        call.inner = 0;
        return;
    }
    let was = call.state;
    call.state = state::NONE;
    let receives = match (place, was) {
        (go::COPIED | go::RETURN, state::READ) => true,
        (go::WRITTEN | go::RETURN, state::WRITE) => false,
        // A read that is older than the probes, or whose beginning the kernel did not show; a write does not
        // wait for long.
        (go::COPIED, _) => {
            if was != state::UNSEEN {
                // Of a call before.
                call.cookie = 0;
                call.received = 0;
            }
            adopt(site, call, key, registers);
            true
        }
        // A write whose beginning is not known: nobody knows its bytes any more, nor how many.
        (go::WRITTEN, state::UNSEEN) => return unmatched(0),
        _ => return,
    };
    let (buffer, moved) = match place {
        go::COPIED => (registers.second, registers.third),
        go::WRITTEN if registers.second == 0 => (call.buffer, call.len),
        go::WRITTEN => (call.buffer, 0),
        _ => (call.buffer, registers.first),
    };
    moved_by(key, call, receives, (buffer, moved), &mut Payload::default());
}

/// [`crate::tls_go::wrote`]. A global function: the verifier looks at it once by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tls_go_wrote(slot: u32, cookie: u64, thread: u64, goid: u64) -> u32 {
    if !enabled(feature::TLS_GO) {
        return 0;
    }
    let Some(work) = work::of(slot) else { return 0 };
    let key = GoCallKey { tgid: thread >> 32, goid };
    if let Some(call) = call_of(key).filter(|call| call.cookie == cookie) {
        call.state = state::WROTE;
        // What that was for has been written.
        moved_by(key, call, false, (call.buffer, call.len), &mut work.record);
    }
    0
}

/// Reports what a call moved: where that is, and how much.
#[inline(always)]
fn moved_by(
    key: GoCallKey,
    call: &GoCall,
    receives: bool,
    (buffer, moved): (u64, u64),
    record: &mut Payload,
) {
    // More than a call can move is no number of bytes.
    if moved == 0 || moved > i32::MAX as u64 {
        return;
    }
    let cookie = match call.cookie {
        0 => {
            let object = ObjectKey { tgid: key.tgid, handle: call.handle };
            // SAFETY: the value is copied out.
            unsafe { TLS_OBJECTS.get(object) }.copied().unwrap_or(0)
        }
        CONFLICT => 0,
        cookie => cookie,
    };
    let Some(socket) = (if cookie == 0 { None } else { socket(cookie) }) else {
        return unmatched(moved);
    };
    if receives && call.received == 0 {
        // It was there before: with what came last.
        socket.first_ns = 0;
    }
    let site = if receives { Site::receive(0, 0, true) } else { Site::send(0, 0, true) };
    let done = OpenCall {
        handle: call.handle,
        buffer,
        count_at: 0,
        site,
        stack: 0,
        inner_stack: 0,
        began_ns: call.began_ns,
        tick: 0,
        cookie,
        went: 0,
    };
    report(&done, cookie, socket, moved as u32, Asked::Goroutine, record);
}

/// The call that ends began unseen: whose it is its frame says, and what it used its goroutine.
#[inline(always)]
fn adopt(site: Site, call: &mut GoCall, key: GoCallKey, registers: &GoRegisters) {
    let frame = registers.frame + FIRST_ARGUMENT;
    let handle = if site.is_framed() { read_user::<u64>(frame).unwrap_or(0) } else { 0 };
    call.handle = handle;
    if handle != 0 && call.cookie != 0 && call.cookie != CONFLICT {
        let object = ObjectKey { tgid: key.tgid, handle };
        if !bind(object, call.cookie) {
            let _ = TLS_OBJECTS.remove(object);
            count(counter::TLS_CONFLICTS, 1);
            call.cookie = CONFLICT;
        }
    }
}

#[inline(always)]
fn unmatched(len: u64) {
    count_both((counter::TLS_UNMATCHED_CALLS, 1), (counter::TLS_UNMATCHED_BYTES, len));
}

/// The goroutine, where it says for whom a request is sent, or who serves it: as of plaintext on a socket
/// (`payload::call`).
#[inline(always)]
pub(super) fn context(tgid: u32, socket: &TlsSocket, sending: bool, turned: bool) -> u64 {
    if !enabled(feature::GO) {
        return 0;
    }
    if sending {
        if !turned || socket.has(flag::ANSWERS) {
            return 0;
        }
        return goroutine::sends(tgid);
    }
    if socket.has(flag::ASKS) {
        return 0;
    }
    goroutine::receives(tgid, turned || socket.head_left + 1 == setting!(head_bytes))
}
