//! Functions of TLS libraries: entry and return.
//!
//! One program each for all functions of all libraries; [`Site`], which the attachment carries, says
//! what the function does and where its arguments are.

use agent_common::{
    counter,
    record::{Header, Payload, direction, flag as record_flag, kind},
    settings::{MAX_CAPTURE, feature},
    tls::{FINGERPRINT, Site, note},
};
use aya_ebpf::{
    EbpfContext,
    helpers::generated::bpf_get_attach_cookie,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use super::{payload::write, tls_go};
use crate::{
    emit::{count, count_both, header, now, ticks},
    filter,
    kernel::{
        published,
        registers::{Called, Returned},
        stack,
        task::{Task, current_ids},
        user::read_user,
    },
    maps::{TLS_CALLS, TLS_OBJECTS, TLS_WIRE},
    settings::enabled,
    shed,
    tls::{CONFLICT, ObjectKey, OpenCall, TlsSocket, WireKey, flag, moment, socket, tell, went},
};

/// A call within a call begins this soon, ns. One that is older was left without its return (a jump, an
/// exception).
pub(super) const NESTED_NS: u64 = 2_000_000_000;

/// The same in ticks of the kernel's, which cost nothing to ask: 2 s where it has 250 a second, as most have; half
/// a second with 1000, 5 s with 100.
pub(super) const NESTED_TICKS: u64 = 500;

/// Bytes that OpenSSL, BoringSSL and LibreSSL take whole or not at all: the least that a program may set for a
/// record (SSL_CTX_set_max_send_fragment(3)). No address is as low.
const TAKEN_WHOLE: u64 = 512;

#[uprobe]
#[inline(always)]
fn tls_entry(ctx: ProbeContext) -> u32 {
    stack::stay_on_the_tasks();
    // SAFETY: the context is the program's own.
    let site = Site(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    entered(site, Called::of(&ctx));
    0
}

#[uretprobe]
#[inline(always)]
fn tls_return(ctx: RetProbeContext) -> u32 {
    stack::stay_on_the_tasks();
    left(Returned::of(&ctx));
    0
}

#[inline(always)]
fn entered(site: Site, called: Called) {
    let (tgid, _, thread) = current_ids();
    if filter::is_own(tgid) || !filter::selects_now(tgid) {
        return;
    }
    let handle = called.argument(site.handle());
    if site.is_ciphertext() {
        let way = if site.is_past_all() { went::PAST_ALL } else { went::BUFFER };
        return buffered(tgid, thread, way, called.argument(site.buffer()));
    }
    if site.forgets() {
        let _ = TLS_OBJECTS.remove(ObjectKey { tgid: u64::from(tgid), handle });
        return;
    }
    // Of a receive nobody asks when it began.
    let began_ns = if site.receives() { 0 } else { now() };
    let tick = ticks();
    // SAFETY: a live map value that only this thread uses.
    let known = unsafe { TLS_CALLS.get_ptr_mut(thread).and_then(|call| call.as_mut()) };
    if let Some(outer) = &known
        && outer.stack != 0
        && called.stack < outer.stack
        && tick.wrapping_sub(outer.tick) < NESTED_TICKS
    {
        if outer.handle == handle {
            // One function of the library calls another.
            return;
        }
        if let Some(outer) = known {
            outer.inner_stack = called.stack;
        }
        count(counter::TLS_NESTED, 1);
        return;
    }
    let call = OpenCall {
        handle,
        buffer: called.argument(site.buffer()),
        count_at: count_at(site, &called),
        site,
        stack: called.stack,
        inner_stack: 0,
        began_ns,
        tick,
        cookie: 0,
        went: 0,
    };
    match known {
        Some(known) => *known = call,
        None => {
            let _ = TLS_CALLS.insert(thread, call, 0);
        }
    }
}

/// Where the call says how many bytes it moved, or how many these will be if it succeeds.
#[inline(always)]
fn count_at(site: Site, called: &Called) -> u64 {
    if site.counts_by_pointer() && !site.receives() {
        let len = called.argument(site.buffer() + 1);
        if len <= TAKEN_WHOLE {
            return len;
        }
    }
    called.argument(site.count())
}

/// The library puts ciphertext into a buffer: whoever sends it is the socket of the call's object.
#[inline(always)]
fn buffered(tgid: u32, thread: u64, way: u64, address: u64) {
    let Some(call) = OpenCall::of(thread) else { return };
    call.went |= way;
    let object = ObjectKey { tgid: u64::from(tgid), handle: call.handle };
    if call.cookie != 0 || TLS_OBJECTS.get_ptr(object).is_some() {
        return;
    }
    let Some(bytes) = read_user::<[u64; FINGERPRINT / 8]>(address) else { return };
    let _ = TLS_WIRE.insert(WireKey { tgid: object.tgid, bytes }, call.handle, 0);
}

#[inline(always)]
fn left(returned: Returned) {
    let (tgid, _, thread) = current_ids();
    // SAFETY: a live map value that only this thread uses.
    let call = unsafe { TLS_CALLS.get_ptr_mut(thread).and_then(|call| call.as_mut()) };
    let Some(call) = call else { return };
    // The return took its address off the stack.
    let stack = returned.stack.wrapping_sub(8);
    if call.inner_stack != 0 && stack == call.inner_stack {
        call.inner_stack = 0;
        return;
    }
    if call.stack == 0 || stack != call.stack {
        return;
    }
    call.stack = 0;
    call.inner_stack = 0;
    let moved = moved(call, returned);
    if moved > 0 && call.cookie == 0 && !call.site.receives() && !call.site.is_perhaps() {
        sent_nowhere(call, tgid);
    }
    let cookie = match call.cookie {
        0 => {
            let key = ObjectKey { tgid: u64::from(tgid), handle: call.handle };
            // SAFETY: the value is copied out.
            unsafe { TLS_OBJECTS.get(key) }.copied().unwrap_or(0)
        }
        CONFLICT => 0,
        cookie => cookie,
    };
    let Some(socket) = (if cookie == 0 { None } else { socket(cookie) }) else {
        if moved > 0 && !call.site.is_perhaps() {
            let bytes = (counter::TLS_UNMATCHED_BYTES, u64::from(moved));
            count_both((counter::TLS_UNMATCHED_CALLS, 1), bytes);
        }
        return;
    };
    if moved == 0 {
        return gave_nothing(call, socket);
    }
    report(call, cookie, socket, moved, Asked::Thread, &mut Payload::default());
}

/// A call that sent, and neither through a socket nor into a buffer of the library's: its program has buffers of
/// its own. Userspace has more places probed as long as there are such: see `agent/src/uprobe/bio.rs`.
#[inline(always)]
fn sent_nowhere(call: &OpenCall, tgid: u32) {
    if call.went & (went::BUFFER | went::LEFT_OUT) != 0 {
        return;
    }
    let key = ObjectKey { tgid: u64::from(tgid), handle: call.handle };
    // Without that, a socket that is known is where it went, unseen.
    if call.went & went::PAST_ALL != 0 || TLS_OBJECTS.get_ptr(key).is_none() {
        tell(note::OWN_BUFFERS, tgid);
    }
}

/// Bytes of plaintext that the call moved.
#[inline(always)]
fn moved(call: &OpenCall, returned: Returned) -> u32 {
    let site = call.site;
    if site.is_silent() {
        return 0;
    }
    let moved = if site.counts_by_pointer() {
        if returned.value as i32 != 1 {
            return 0;
        }
        match call.count_at {
            len @ 0..=TAKEN_WHOLE => len as i64,
            address => read_user::<u64>(address).unwrap_or(0) as i64,
        }
    } else if site.is_wide() {
        returned.value as i64
    } else {
        i64::from(returned.value as i32)
    };
    // More than a call can move is no number of bytes.
    if moved <= 0 || moved > i64::from(i32::MAX) { 0 } else { moved as u32 }
}

/// A call that has to be made again, or a handshake's.
#[inline(always)]
fn gave_nothing(call: &OpenCall, socket: &mut TlsSocket) {
    // What arrived may have been of a handshake: a later time is better than too early a one.
    socket.first_ns = 0;
    if !call.site.receives() && !call.site.is_silent() && socket.tried_ns == 0 {
        socket.tried_ns = call.began_ns;
    }
}

/// Plaintext that a call has moved.
#[derive(Clone, Copy)]
pub struct Moving {
    pub sending: bool,
    pub began_ns: u64,
    pub len: u32,
    pub asked: Asked,
}

/// Who says for whom a program works.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// What its thread has published.
    Thread,
    /// Its goroutine.
    Goroutine,
    /// Nobody: the stacks of functions that call each other add up to 512 bytes before 6.13.
    Nobody,
}

/// Writes what the call moved, by way of `record`.
#[inline(always)]
pub(super) fn report(
    call: &OpenCall,
    cookie: u64,
    socket: &mut TlsSocket,
    len: u32,
    asked: Asked,
    record: &mut Payload,
) {
    let moving = Moving { sending: !call.site.receives(), began_ns: call.began_ns, len, asked };
    let Some(want) = prepare(&moving, cookie, socket, record) else { return };
    if call.site.is_unseen() {
        return write::unreachable(record);
    }
    match want {
        0 => write::bare(record),
        want => write_all(record, want, call.buffer),
    }
}

/// Moves the socket's positions on. Fills in the record, and gives how many bytes belong to it; `None` when
/// none is wanted.
#[inline(always)]
pub fn prepare(
    moving: &Moving,
    cookie: u64,
    socket: &mut TlsSocket,
    record: &mut Payload,
) -> Option<u32> {
    let boot_ns = now();
    let Moving { sending, began_ns, len, .. } = *moving;
    let (position, opposite) = if sending {
        (socket.send_position, socket.receive_position)
    } else {
        (socket.receive_position, socket.send_position)
    };
    let after = position + u64::from(len);
    socket.used = moment(boot_ns);
    let (first_ns, last_ns) = if sending {
        socket.send_position = after;
        let first = if socket.tried_ns == 0 { began_ns } else { socket.tried_ns };
        socket.tried_ns = 0;
        (first, first)
    } else {
        socket.receive_position = after;
        let last = if socket.last_ns == 0 { boot_ns } else { socket.last_ns };
        let first = if socket.first_ns == 0 { last } else { socket.first_ns };
        socket.first_ns = 0;
        (first, last)
    };
    socket.refresh_verdict(cookie);
    if socket.has(flag::MUTED) {
        count_both((counter::MUTED_CALLS, 1), (counter::MUTED_BYTES, u64::from(len)));
        return None;
    }
    let task = Task::current();
    let mut flags = record_flag::PLAINTEXT | record_flag::COUNTED | record_flag::TRUE_FIRST;
    if !sending {
        flags |= record_flag::TRUE_LAST;
    }
    let turned = socket.turn(sending);
    if turned {
        flags |= record_flag::TURN;
    }
    *record = Payload {
        header: Header {
            direction: if sending { direction::SEND } else { direction::RECEIVE },
            flags,
            tgid: task.tgid(),
            tid: task.tid(),
            start_ns: task.process_start(),
            total_len: len,
            ..header(kind::PAYLOAD, 0, boot_ns)
        },
        cookie,
        position,
        opposite,
        first_ns,
        last_ns,
        context: 0,
    };
    if enabled(feature::SHEDDING) {
        if turned {
            shed::begin_plain(socket, sending, record);
        }
        if shed::takes(&mut socket.shed, record) {
            return None;
        }
    }
    if moving.asked == Asked::Goroutine {
        record.context = tls_go::context(record.header.tgid, socket, sending, turned);
    } else if moving.asked == Asked::Thread
        && turned
        && sending
        && !socket.has(flag::ANSWERS)
        && published::note(cookie, boot_ns, record_flag::PLAINTEXT)
    {
        record.header.flags |= record_flag::PUBLISHED;
    }
    Some(socket.allowance(len))
}

/// Records that a call's bytes may take: four hold the longest TLS record.
const MAX_RECORDS: u32 = 4;

/// Writes `want` of the call's bytes, in several records where one does not hold them: each says how far
/// it goes, the last has the rest of the call.
#[inline(always)]
fn write_all(record: &mut Payload, want: u32, address: u64) {
    let mut left = want;
    let mut at = address;
    let mut number = 1;
    let whole = record.header.total_len;
    let mut told = 0;
    while number < MAX_RECORDS && left > MAX_CAPTURE {
        record.header.total_len = MAX_CAPTURE;
        write::flat(record, MAX_CAPTURE, at, core::ptr::null_mut());
        record.position += u64::from(MAX_CAPTURE);
        record.header.flags &= !(record_flag::TURN | record_flag::PUBLISHED | record_flag::SHED);
        left -= MAX_CAPTURE;
        told += MAX_CAPTURE;
        at += u64::from(MAX_CAPTURE);
        number += 1;
    }
    record.header.total_len = whole - told;
    write::flat(record, left, at, core::ptr::null_mut());
}
