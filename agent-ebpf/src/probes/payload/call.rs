//! What every attachment does with a call that moved bytes: filters first ([`super::watched`]), then position
//! and times, then whose bytes.

use agent_common::{
    record::{Header, Payload, direction, flag as record_flag, kind},
    settings::feature,
};

use super::{
    connection::introduce,
    in_kernel,
    watched::{Call, is_closed, known_or, watched},
    work::{self, Work, way},
};
use crate::{
    UNTYPED,
    emit::{header, now},
    kernel::{
        goroutine::{self, Runtime},
        messages::{self, Moved},
        published, registers,
        sock::{Sock, Stream},
        user::Buffer,
    },
    probes::flow::datagram,
    settings::{enabled, setting},
    shed,
    socket::{self, SocketState, Source, flag},
    tls::{self, Ends, OpenCall},
};

/// Flags of a receive (include/linux/socket.h): the bytes stay in the queue, come out of band, or
/// from the error queue: they are no part of the stream.
const MSG_OOB: i32 = 1;
const MSG_PEEK: i32 = 2;
const MSG_ERRQUEUE: i32 = 0x2000;
/// The bytes of a TCP stream are thrown away: the buffer was not written.
const MSG_TRUNC: i32 = 0x20;

/// Nothing waits (include/uapi/asm-generic/errno-base.h).
const EAGAIN: i32 = 11;

/// Flows need programs with types. Said here as well, so that the stack of the others has no room for them.
#[inline(always)]
fn counts_datagrams() -> bool {
    !UNTYPED && enabled(feature::FLOW)
}

/// A send returned `ret`.
#[inline(always)]
pub fn sent(sock: Sock, ret: i32, scratch: u32) {
    if counts_datagrams() && datagram::moved(sock, ret, true, 0) {
        return;
    }
    let Some((state, call)) = watched(sock, true, ret, scratch) else { return };
    if ret <= 0 {
        state.cancel_send(call.task.tid());
        call.moved_nothing(state, ret);
        return;
    }
    let len = ret as u32;
    let boot_ns = now();
    let sent = match call.stream {
        Stream::Tcp => {
            let Some(tcp) = sock.tcp() else { return };
            state.receive_position =
                socket::extend(state.receive_position, socket::next_read(sock, tcp));
            state.end_send(call.task.tid(), tcp, len)
        }
        Stream::Unix => state.end_send_unix(sock, call.thread(), len),
        Stream::Mptcp => state.end_send_mptcp(sock, len),
    };
    let mut flags = if sent.raced { record_flag::RACED } else { 0 };
    if sent.first.is_true {
        flags |= record_flag::TRUE_FIRST;
    }
    let first_ns = known_or(sent.first, boot_ns);
    // Written where it stays: the stack is short.
    let Some(work) = work::of(scratch) else { return };
    work.record = Payload {
        header: Header { direction: direction::SEND, flags, ..header(kind::PAYLOAD, 0, boot_ns) },
        cookie: state.cookie,
        position: sent.position,
        opposite: state.receive_position,
        first_ns,
        last_ns: first_ns,
        context: 0,
    };
    call.report(state, work, len, sent.source);
}

/// A receive returned `ret`.
#[inline(always)]
pub fn received(sock: Sock, ret: i32, call_flags: i32, scratch: u32) {
    if counts_datagrams() && datagram::moved(sock, ret, false, call_flags) {
        return;
    }
    if call_flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE) != 0 {
        in_kernel::forget();
        return;
    }
    if ret < 0 && ret != -EAGAIN {
        in_kernel::forget();
    }
    let Some((state, call)) = watched(sock, false, ret, scratch) else { return };
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
    let boot_ns = now();
    let received = match call.stream {
        Stream::Tcp => {
            let Some(tcp) = sock.tcp() else { return };
            state.send_position = socket::extend(state.send_position, tcp.write_seq());
            state.end_receive(sock, tcp, len)
        }
        Stream::Unix => state.end_receive_unix(sock, len),
        Stream::Mptcp => state.end_receive_mptcp(sock, len),
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
    let Some(work) = work::of(scratch) else { return };
    work.record = Payload {
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
    call.report(state, work, len, source);
}

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
    fn moved_nothing(&self, state: &mut SocketState, ret: i32) {
        if self.knows_iterator() {
            return;
        }
        if ret < 0 {
            // Most errors only say that nothing waits, of sockets that never saw such a call.
            if state.messages != 0 {
                messages::forget(self.thread());
            }
            return;
        }
        if let Some(Buffer::Messages { array, count, compat }) =
            registers::buffer(self.task, self.sock.file(), self.sending)
        {
            state.messages = 1;
            messages::pass(self.moved(state, 0), array, count, compat);
        }
    }

    /// Completes a record and writes it, after the connection's own where that is due.
    #[inline(always)]
    fn report(&self, state: &mut SocketState, work: &mut Work, len: u32, source: Source) {
        let record = &mut work.record;
        let header = &mut record.header;
        header.tgid = self.tgid;
        header.tid = self.task.tid();
        header.start_ns = self.task.process_start();
        header.total_len = len;
        if self.stream == Stream::Unix {
            header.flags |= record_flag::COUNTED;
        }
        if is_closed(self.sock, self.stream, state) {
            header.flags |= record_flag::AFTER_CLOSE;
        }
        if len > 0 && state.turn(self.sending) {
            record.header.flags |= record_flag::TURN;
            if self.is_librarys(state) {
                shed::spare(&mut state.shed);
            } else if enabled(feature::SHEDDING) {
                shed::begin(state, self.sending, record);
            }
        }
        if enabled(feature::SHEDDING) && shed::takes(&mut state.shed, record) {
            if state.messages != 0 {
                self.registered(state);
            }
            return;
        }
        if !state.has(flag::COMPLETE) {
            introduce(self.sock, self.stream, state, record);
        }
        if (enabled(feature::GO) || enabled(feature::THREAD_CONTEXT)) && len > 0 {
            self.contexts(state, record);
        }
        let want = if len > 0 { state.allowance(len) } else { 0 };
        let in_packets = !self.sending && matches!(source, Source::Registers);
        // Looked for even when nothing is wanted: each message of sendmmsg and recvmmsg counts.
        if len > 0 {
            self.locate(state, work, len, source);
        }
        work::store(self.scratch, want, in_packets);
        if enabled(feature::TLS)
            && len > 0
            && (state.has(flag::TLS) || work::is_librarys(self.scratch))
        {
            state.flags |= flag::TLS;
            let (ends, thread) = (Ends::of(self.sock, state), self.thread());
            if self.sending {
                tls::sent(self.scratch, state, thread, ends);
            } else {
                let arrived = (work.record.first_ns, work.record.last_ns);
                // Read back from the record: what is kept in a register across all of the above is, on one
                // way through it, a pointer to the verifier.
                // SAFETY: a live value.
                let len = unsafe { (&raw const work.record.header.total_len).read_volatile() };
                tls::received(state, thread, arrived, ends, len);
            }
        }
    }

    /// A TLS library that is watched moves the bytes, as far as is known before they are looked at.
    #[inline(always)]
    fn is_librarys(&self, state: &SocketState) -> bool {
        enabled(feature::TLS) && (state.has(flag::TLS) || OpenCall::of(self.thread()).is_some())
    }

    /// The goroutine, where it says for whom a request is sent, or who serves it: not asked for
    /// responses, nor for what follows the first call of a request that is sent. And the trace context
    /// that is published while a request is sent.
    #[inline(always)]
    fn contexts(&self, state: &mut SocketState, record: &mut Payload) {
        let turned = record.header.flags & record_flag::TURN != 0;
        let asked = if self.sending {
            turned && !state.has(flag::ACCEPTED)
        } else {
            enabled(feature::GO) && !state.has(flag::CONNECTED)
        };
        if !asked {
            return;
        }
        match goroutine::runtime(self.tgid, &mut state.not_go) {
            Runtime::Unknown => {}
            Runtime::Go if self.sending => record.context = goroutine::sends(self.tgid),
            Runtime::Go => {
                // Go's server has a goroutine wait for the first byte of the next request; another one
                // reads the rest.
                let begins = turned || state.head_left + 1 == setting!(head_bytes);
                record.context = goroutine::receives(self.tgid, begins);
            }
            Runtime::Publisher => {
                // Of an encrypted request the plaintext has it.
                if self.sending
                    && !self.is_librarys(state)
                    && published::note(state.cookie, record.header.boot_ns, 0)
                {
                    record.header.flags |= record_flag::PUBLISHED;
                }
            }
        }
    }

    /// Notes where the call keeps its bytes.
    #[inline(always)]
    fn locate(&self, state: &mut SocketState, work: &mut Work, len: u32, source: Source) {
        work.note_nowhere();
        match source {
            Source::Nowhere => {}
            Source::Iterator(pieces) => {
                work.note(pieces.simplified());
            }
            Source::Registers => {
                let known = self.registered(state);
                if !self.sending && known == way::NONE && enabled(feature::PACKETS) {
                    self.taken(work, len);
                }
            }
        }
    }

    /// Notes where the registers say that it keeps them.
    #[inline(always)]
    fn registered(&self, state: &mut SocketState) -> u32 {
        let known =
            work::locate(self.scratch, self.sock.file(), self.sending, self.knows_iterator());
        if known & way::MESSAGES != 0 {
            state.messages = 1;
        }
        known & !way::MESSAGES
    }

    /// Notes what this receive took from packets.
    #[inline(always)]
    fn taken(&self, work: &mut Work, len: u32) {
        let (socket, sequence) = match self.stream {
            Stream::Tcp => (self.sock.0 as u64, work.record.position as u32),
            Stream::Unix => (self.sock.peer(), 0),
            Stream::Mptcp => return,
        };
        let header = &work.record.header;
        if let Some(have) = in_kernel::taken(header, self.thread(), socket, sequence, len) {
            work.note_taken(have);
        }
    }
}
