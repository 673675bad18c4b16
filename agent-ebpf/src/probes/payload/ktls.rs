//! Plaintext of sockets on which the kernel does TLS (`TCP_ULP` "tls").
//!
//! TCP's positions count ciphertext there, so plaintext has counters of its own, as that of TLS libraries,
//! and is reported as such. What a watched library moves it reports itself: here it is only counted.

use agent_common::{
    counter,
    record::{Header, Payload, direction, flag as record_flag, kind},
    settings::feature,
};

use super::{connection::introduce, work};
use crate::{
    emit::{count, count_both, header, now},
    filter,
    kernel::{
        ktls::{self, Directions},
        sock::{Sock, Stream},
        task::{Task, current_ids},
    },
    settings::enabled,
    socket::{SocketState, flag},
    tls::{self, Ends, OpenCall},
};

/// What is to be done with a call.
mod then {
    /// It moves TLS records, or no TLS: go on as ever.
    pub const GO_ON: u32 = 0;
    /// Nothing.
    pub const NOTHING: u32 = 1;
    /// Report its bytes.
    pub const REPORT: u32 = 2;
    /// A library's call is under way, which reports them: say which socket it uses.
    pub const TELL: u32 = 3;
}

/// Nothing is to be written of a call.
const NO_RECORD: u32 = u32::MAX;

/// Nothing can be: its plaintext has no room.
const NO_ROOM: u32 = u32::MAX - 1;

/// Deals with a call that moved plaintext through a socket on which the kernel does TLS: true.
#[inline(always)]
pub fn takes(
    sock: Sock,
    stream: Stream,
    state: &mut SocketState,
    slot: u32,
    sending: bool,
    ret: i32,
) -> bool {
    if !enabled(feature::KTLS) || stream != Stream::Tcp || ret <= 0 {
        return false;
    }
    // Muted, and not for its TLS.
    if state.flags & (flag::MUTED | flag::TLS) == flag::MUTED {
        return false;
    }
    if !sock.tcp().is_some_and(|tcp| tcp.has_upper()) {
        return false;
    }
    match examine(sock, state, slot, sending, ret as u32) {
        then::GO_ON => return false,
        then::NOTHING => return true,
        then::TELL => {
            tell(sock, state, slot, sending);
            return true;
        }
        _ => {}
    }
    let file = sock.file();
    if work::is_control(slot, file, sending) {
        return true;
    }
    let want = ktls_record(slot, u32::from(state.flags & flag::KTLS == 0));
    state.flags |= flag::KTLS | flag::TLS | flag::MUTED;
    match want {
        NO_RECORD => return true,
        NO_ROOM => {
            tls::no_room(state);
            return true;
        }
        _ => {}
    }
    let Some(work) = work::of(slot) else { return true };
    if !state.has(flag::COMPLETE) {
        introduce(sock, stream, state, &work.record);
    }
    work.note_nowhere();
    if want > 0 {
        work::locate(slot, file, sending, false);
    }
    work::store(slot, want, false);
    true
}

/// The library's call that is under way uses this socket. (Beside [`examine`], not in it: the stacks of
/// functions that call each other add up.)
#[inline(always)]
fn tell(sock: Sock, state: &mut SocketState, slot: u32, sending: bool) {
    let Some(work) = work::of(slot) else { return };
    let (_, _, thread) = current_ids();
    let record = &work.record;
    let arrived = if sending { (0, 0) } else { (record.first_ns, record.last_ns) };
    let ends = Ends::of(sock, state);
    tls::used(state, thread, arrived, ends);
}

/// Whether the kernel encrypts in this direction, and what of the record does not depend on the streams of
/// plaintext.
///
/// Not inlined: its stack is needed rarely.
#[inline(never)]
fn examine(sock: Sock, state: &mut SocketState, slot: u32, sending: bool, len: u32) -> u32 {
    let Some(tcp) = sock.tcp() else { return then::GO_ON };
    let Some(directions) = ktls::directions(tcp) else { return then::GO_ON };
    let Directions { sends, receives, is_known } = directions;
    if !(if sending { sends } else { receives }) {
        return then::GO_ON;
    }
    count(counter::KTLS_CALLS, 1);
    let (tgid, tid, thread) = current_ids();
    let boot_ns = now();
    let (mut first_ns, mut last_ns, mut flags) = (boot_ns, boot_ns, 0);
    if sending {
        if let Some(began) = state.end_send_of(tid) {
            (first_ns, last_ns, flags) = (began, began, record_flag::TRUE_FIRST);
        }
    } else {
        // By the ciphertext: a call may end in the middle of what arrived.
        let received = state.end_receive(sock, tcp, len);
        if received.first.is_true {
            first_ns = received.first.ns;
            flags |= record_flag::TRUE_FIRST;
        }
        if received.last.is_true {
            last_ns = received.last.ns;
            flags |= record_flag::TRUE_LAST;
        }
    }
    if state.has(flag::LEFT_OUT) || filter::is_own(tgid) {
        return then::NOTHING;
    }
    if !filter::watches(tgid, &mut state.judged) {
        return then::NOTHING;
    }
    let librarys = OpenCall::of(thread).is_some();
    if !librarys && (!enabled(feature::TLS) || !is_known || !sends || !receives) {
        count_both((counter::KTLS_UNREPORTED, 1), (counter::MUTED_BYTES, u64::from(len)));
        if !is_known {
            // Nobody knows whose positions these are.
            state.flags |= flag::MUTED;
        }
        return then::NOTHING;
    }
    // A connection of which the beginning was seen has had no plaintext before.
    if !librarys && !state.has(flag::CONNECTED | flag::ACCEPTED) {
        state.flags |= flag::KTLS;
    }
    let Some(work) = work::of(slot) else { return then::NOTHING };
    let task = Task::current();
    work.record = Payload {
        header: Header {
            direction: if sending { direction::SEND } else { direction::RECEIVE },
            flags: flags | record_flag::PLAINTEXT | record_flag::COUNTED,
            tgid,
            tid: task.tid(),
            start_ns: task.process_start(),
            total_len: len,
            ..header(kind::PAYLOAD, 0, boot_ns)
        },
        cookie: state.cookie,
        position: 0,
        opposite: 0,
        first_ns,
        last_ns,
        context: 0,
    };
    if librarys { then::TELL } else { then::REPORT }
}

/// Gives the record its place in the streams of plaintext, and says how many bytes to write with it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ktls_record(slot: u32, from_start: u32) -> u32 {
    if !enabled(feature::KTLS) || !enabled(feature::TLS) {
        return NO_RECORD;
    }
    let Some(work) = work::of(slot) else { return NO_RECORD };
    let record = &mut work.record;
    tls::ensure_socket(record.cookie, from_start != 0);
    let Some(socket) = tls::socket(record.cookie) else { return NO_ROOM };
    socket.used = tls::moment(record.header.boot_ns);
    let len = u64::from(record.header.total_len);
    let sending = record.header.direction == direction::SEND;
    if sending {
        (record.position, record.opposite) = (socket.send_position, socket.receive_position);
        socket.send_position += len;
    } else {
        (record.position, record.opposite) = (socket.receive_position, socket.send_position);
        socket.receive_position += len;
    }
    socket.refresh_verdict(record.cookie);
    if socket.has(tls::flag::MUTED) {
        count_both((counter::MUTED_CALLS, 1), (counter::MUTED_BYTES, len));
        return NO_RECORD;
    }
    if socket.turn(sending) {
        record.header.flags |= record_flag::TURN;
    }
    socket.allowance(record.header.total_len)
}
