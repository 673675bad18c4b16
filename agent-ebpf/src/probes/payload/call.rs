//! What every attachment does with a call that moved bytes: filters first, then position and times,
//! then whose bytes.

use agent_common::{
    counter,
    record::{Header, Payload, direction, flag as record_flag, kind},
    settings::feature,
};

use super::{connection::introduce, write};
use crate::{
    emit::{count, count_both, header, now},
    filter,
    kernel::{
        messages::{self, Moved},
        registers,
        sock::{Sock, Stream},
        task::Task,
        user::{Buffer, Pieces, gather},
    },
    settings::enabled,
    socket::{self, Moment, SocketState, Source, flag},
};

/// Flags of a receive (include/linux/socket.h): the bytes stay in the queue, come out of band, or
/// from the error queue: they are no part of the stream.
const MSG_OOB: i32 = 1;
const MSG_PEEK: i32 = 2;
const MSG_ERRQUEUE: i32 = 0x2000;
/// The bytes of a TCP stream are thrown away: the buffer was not written.
const MSG_TRUNC: i32 = 0x20;

/// A call that is known to concern a watched stream.
struct Call {
    sock: Sock,
    stream: Stream,
    task: Task,
    tgid: u32,
    sending: bool,
    scratch: u32,
}

/// A send returned `ret`.
#[inline(always)]
pub fn sent(sock: Sock, ret: i32, scratch: u32) {
    let Some((state, call)) = watched(sock, true, scratch) else { return };
    if ret <= 0 {
        state.cancel_send(call.task.tid());
        call.moved_nothing(state, ret);
        return;
    }
    let len = ret as u32;
    if is_muted(state, len) {
        call.advance_muted(state, len);
        return;
    }
    let boot_ns = now();
    let sent = match call.stream {
        Stream::Tcp => {
            let Some(tcp) = sock.tcp() else { return };
            state.receive_position =
                socket::extend(state.receive_position, socket::next_read(sock, tcp));
            state.end_send(call.task.tid(), tcp, len)
        }
        Stream::Unix => state.end_send_unix(sock, call.thread(), len),
    };
    let mut flags = if sent.raced { record_flag::RACED } else { 0 };
    if sent.first.is_true {
        flags |= record_flag::TRUE_FIRST;
    }
    let first_ns = known_or(sent.first, boot_ns);
    let record = Payload {
        header: Header { direction: direction::SEND, flags, ..header(kind::PAYLOAD, 0, boot_ns) },
        cookie: state.cookie,
        position: sent.position,
        opposite: state.receive_position,
        first_ns,
        last_ns: first_ns,
        context: 0,
    };
    call.report(state, record, len, sent.source);
}

/// A receive returned `ret`.
#[inline(always)]
pub fn received(sock: Sock, ret: i32, call_flags: i32, scratch: u32) {
    if call_flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE) != 0 {
        return;
    }
    let Some((state, call)) = watched(sock, false, scratch) else { return };
    if ret <= 0 {
        call.moved_nothing(state, ret);
    }
    if ret < 0 {
        return;
    }
    let len = ret as u32;
    if ret == 0 && (!sock.ended() || !state.has(flag::KNOWN) || state.has(flag::END_SEEN)) {
        return;
    }
    if is_muted(state, len) {
        call.advance_muted(state, len);
        return;
    }
    let boot_ns = now();
    let received = match call.stream {
        Stream::Tcp => {
            let Some(tcp) = sock.tcp() else { return };
            state.send_position = socket::extend(state.send_position, tcp.write_seq());
            state.end_receive(sock, tcp, len)
        }
        Stream::Unix => state.end_receive_unix(sock, len),
    };
    let mut flags = 0;
    if ret == 0 {
        flags |= record_flag::END;
        state.flags |= flag::END_SEEN;
    }
    if received.first.is_true {
        flags |= record_flag::TRUE_FIRST;
    }
    if received.last.is_true {
        flags |= record_flag::TRUE_LAST;
    }
    let record = Payload {
        header: Header {
            direction: direction::RECEIVE,
            flags,
            ..header(kind::PAYLOAD, 0, boot_ns)
        },
        cookie: state.cookie,
        position: received.position,
        opposite: state.send_position,
        first_ns: known_or(received.first, boot_ns),
        last_ns: known_or(received.last, boot_ns),
        context: 0,
    };
    let thrown_away = call_flags & MSG_TRUNC != 0;
    let source = if thrown_away { Source::Nowhere } else { Source::Registers };
    call.report(state, record, len, source);
}

#[inline(always)]
fn known_or(moment: Moment, otherwise: u64) -> u64 {
    if moment.is_true { moment.ns } else { otherwise }
}

// --- filters ---

/// The filters, in order of cost. Takes up the socket's verdict.
#[inline(always)]
fn watched(sock: Sock, sending: bool, scratch: u32) -> Option<(&'static mut SocketState, Call)> {
    let task = Task::current();
    let tgid = task.tgid();
    if filter::is_own(tgid) {
        leave_out_own(sock);
        return None;
    }
    if sock.0.is_null() {
        return None;
    }
    let Some(stream) = sock.stream() else {
        count(counter::OTHER_SOCKETS, 1);
        return None;
    };
    if !filter::watches(tgid) {
        return None;
    }
    let state = socket::get(sock, stream, true)?;
    if state.has(flag::LEFT_OUT) {
        return None;
    }
    state.refresh_verdict();
    Some((state, Call { sock, stream, task, tgid, sending, scratch }))
}

/// The agent's own call: its connection is left out at both ends.
#[inline(always)]
fn leave_out_own(sock: Sock) {
    count(counter::OWN_CALLS, 1);
    if sock.0.is_null() || sock.stream() != Some(Stream::Tcp) {
        return;
    }
    let Some(state) = socket::get(sock, Stream::Tcp, true) else { return };
    if !state.has(flag::LEFT_OUT) {
        state.flags |= flag::LEFT_OUT;
        filter::note_own(sock);
    }
}

#[inline(always)]
fn is_muted(state: &SocketState, len: u32) -> bool {
    let muted = state.has(flag::MUTED);
    if muted {
        count_both((counter::MUTED_CALLS, 1), (counter::MUTED_BYTES, u64::from(len)));
    }
    muted
}

// --- the call's bytes ---

impl Call {
    /// Process and thread, as one number.
    #[inline(always)]
    fn thread(&self) -> u64 {
        u64::from(self.tgid) << 32 | u64::from(self.task.tid())
    }

    #[inline(always)]
    fn moved(&self, state: &SocketState, len: u32) -> Moved {
        Moved { thread: self.thread(), cookie: state.cookie, len, sending: self.sending }
    }

    /// The message iterator is known when a send begins: registers are not asked.
    #[inline(always)]
    fn knows_iterator(&self) -> bool {
        self.sending && self.stream == Stream::Tcp && enabled(feature::SEND_SOURCE)
    }

    /// The message of a sendmmsg or recvmmsg counts even when it moved nothing; an error ends the
    /// call.
    #[inline(always)]
    fn moved_nothing(&self, state: &SocketState, ret: i32) {
        if self.knows_iterator() {
            return;
        }
        if ret < 0 {
            messages::forget(self.thread());
            return;
        }
        if let Some(Buffer::Messages { array, count }) =
            registers::buffer(self.task, self.sock.file(), self.sending)
        {
            messages::pass(self.moved(state, 0), array, count);
        }
    }

    /// Own counters go on while muted; TCP's positions are read from the socket.
    #[inline(always)]
    fn advance_muted(&self, state: &mut SocketState, len: u32) {
        if self.stream == Stream::Unix {
            if self.sending {
                state.send_position += u64::from(len);
            } else {
                state.receive_position += u64::from(len);
            }
        }
    }

    /// Completes a record and writes it, after the connection's own where that is due.
    #[inline(always)]
    fn report(&self, state: &mut SocketState, mut record: Payload, len: u32, source: Source) {
        let header = &mut record.header;
        header.tgid = self.tgid;
        header.tid = self.task.tid();
        header.start_ns = self.task.process_start();
        header.total_len = len;
        if self.stream == Stream::Unix {
            header.flags |= record_flag::COUNTED;
        }
        if !state.has(flag::COMPLETE) {
            introduce(self.sock, self.stream, state, &record);
        }
        if len > 0 && state.turn(self.sending) {
            record.header.flags |= record_flag::TURN;
        }
        let want = if len > 0 { state.allowance(len) } else { 0 };
        // Looked for even when nothing is wanted: each message of sendmmsg and recvmmsg counts.
        let pieces = if len == 0 { None } else { self.pieces(state, len, source) };
        match pieces {
            _ if want == 0 => write::bare(&mut record),
            Some(Pieces::One(address)) => write::flat(&mut record, want, address),
            Some(Pieces::Many { vector, count, in_kernel }) => {
                match gather(self.scratch, vector, count, in_kernel, want) {
                    Some((room, have)) if have > 0 => write::gathered(&mut record, have, room),
                    _ => write::unreachable(&mut record),
                }
            }
            None => write::unreachable(&mut record),
        }
    }

    /// Where the call keeps its bytes, `None` when nothing proves it.
    #[inline(always)]
    fn pieces(&self, state: &SocketState, len: u32, source: Source) -> Option<Pieces> {
        match source {
            Source::Nowhere => None,
            Source::Iterator(pieces) => Some(pieces.simplified()),
            Source::Registers => {
                let buffer = registers::buffer(self.task, self.sock.file(), self.sending)?;
                // The messages before this one of a sendmmsg were not followed.
                if self.knows_iterator() && matches!(buffer, Buffer::Messages { .. }) {
                    return None;
                }
                buffer.pieces(self.moved(state, len))
            }
        }
    }
}
