//! Bytes that a call moved through a socket.
//!
//! | program | hook | kernels |
//! |---|---|---|
//! | `send_tracepoint`, `receive_tracepoint` | `sock_send_length`, `sock_recv_length`: after every socket send and receive, in the caller's context | 6.3 and later |
//! | `…_fexit` | fexit on `inet_sendmsg` and its like | with fentry |
//!
//! Not the system calls: there a hook taxes every call of every process, and a table of
//! descriptors would have to be kept right through dup, fork, exec and SCM_RIGHTS.

use agent_common::{
    counter,
    record::{Connection, Header, Payload, direction, flag as record_flag, kind, role},
};
use aya_ebpf::{
    macros::{btf_tracepoint, fexit},
    programs::{BtfTracePointContext, FExitContext},
};

use crate::{
    emit::{QUIET, count, header, next_sequence, now},
    filter,
    kernel::{
        load,
        messages::{self, Moved},
        registers,
        sock::{PATH_LEN, Sock, Stream},
        task::{Task, current_ids},
        user::{Buffer, Pieces, copy_flat, copy_scratch, gather},
    },
    maps::PAYLOAD_RING,
    settings::offset,
    socket::{self, Moment, SocketState, flag},
};

/// Flags of a receive (include/linux/socket.h): the bytes stay in the queue, come out of band, or
/// from the error queue: they are no part of the stream.
const MSG_OOB: i32 = 1;
const MSG_PEEK: i32 = 2;
const MSG_ERRQUEUE: i32 = 0x2000;
/// The bytes of a TCP stream are thrown away: the buffer was not written.
const MSG_TRUNC: i32 = 0x20;

/// `sock_send_length(struct sock *sk, int ret, int flags)`.
#[btf_tracepoint(function = "sock_send_length")]
fn send_tracepoint(ctx: BtfTracePointContext) -> i32 {
    sent(Sock(ctx.arg::<*const u8>(0)), ctx.arg(1), 0);
    0
}

/// `sock_recv_length(struct sock *sk, int ret, int flags)`.
#[btf_tracepoint(function = "sock_recv_length")]
fn receive_tracepoint(ctx: BtfTracePointContext) -> i32 {
    received(Sock(ctx.arg::<*const u8>(0)), ctx.arg(1), ctx.arg(2), 1);
    0
}

macro_rules! fexit_send {
    ($name:ident, $function:literal, $ret:literal, $scratch:literal) => {
        #[fexit(function = $function)]
        fn $name(ctx: FExitContext) -> i32 {
            sent(socket_arg(&ctx), ctx.arg($ret), $scratch);
            0
        }
    };
}

macro_rules! fexit_receive {
    ($name:ident, $function:literal, $scratch:literal) => {
        #[fexit(function = $function)]
        fn $name(ctx: FExitContext) -> i32 {
            received(socket_arg(&ctx), ctx.arg(4), ctx.arg(3), $scratch);
            0
        }
    };
}

// int X_sendmsg(struct socket *, struct msghdr *, size_t); the return value follows the arguments.
fexit_send!(inet_send_fexit, "inet_sendmsg", 3, 2);
fexit_send!(inet6_send_fexit, "inet6_sendmsg", 3, 3);
fexit_send!(unix_send_fexit, "unix_stream_sendmsg", 3, 4);
// ssize_t inet_sendpage(struct socket *, struct page *, int, size_t, int), until 6.5.
fexit_send!(inet_sendpage_fexit, "inet_sendpage", 5, 5);
fexit_send!(unix_sendpage_fexit, "unix_stream_sendpage", 5, 6);
// int X_recvmsg(struct socket *, struct msghdr *, size_t, int flags).
fexit_receive!(inet_receive_fexit, "inet_recvmsg", 7);
fexit_receive!(inet6_receive_fexit, "inet6_recvmsg", 8);
fexit_receive!(unix_receive_fexit, "unix_stream_recvmsg", 9);

#[inline(always)]
fn socket_arg(ctx: &FExitContext) -> Sock {
    Sock(load(ctx.arg::<*const u8>(0), offset!(socket_sk)))
}

/// The message of a sendmmsg or recvmmsg counts even when it moved nothing; an error ends the call.
#[inline(always)]
fn moved_nothing(sock: Sock, state: &SocketState, call: &Call, ret: i32) {
    if ret < 0 {
        messages::forget(call.thread);
        return;
    }
    if let Some(Buffer::Messages { array, count }) =
        registers::buffer(call.task, sock.file(), call.sending)
    {
        messages::pass(call.moved(state, 0), array, count);
    }
}

/// What is common to both directions once a call is known to concern a watched stream.
struct Call {
    task: Task,
    tgid: u32,
    tid: u32,
    thread: u64,
    sending: bool,
    scratch: u32,
}

impl Call {
    #[inline(always)]
    fn moved(&self, state: &SocketState, len: u32) -> Moved {
        Moved { thread: self.thread, cookie: state.cookie, len, sending: self.sending }
    }
}

/// A send returned `ret`.
#[inline(always)]
fn sent(sock: Sock, ret: i32, scratch: u32) {
    let Some((stream, state, call)) = watched(sock, true, scratch) else { return };
    if ret <= 0 {
        state.cancel_send(call.tid);
        moved_nothing(sock, state, &call, ret);
        return;
    }
    let len = ret as u32;
    if is_muted(state, len) {
        advance_muted(state, stream, true, len);
        return;
    }
    let boot_ns = now();
    let sent = match stream {
        Stream::Tcp => {
            let Some(tcp) = sock.tcp() else { return };
            state.receive_position =
                socket::extend(state.receive_position, socket::next_read(sock, tcp));
            state.end_send(call.tid, tcp, len)
        }
        Stream::Unix => state.end_send_unix(sock, call.thread, len),
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
    report(sock, stream, state, &call, record, len, true);
}

/// A receive returned `ret`.
#[inline(always)]
fn received(sock: Sock, ret: i32, call_flags: i32, scratch: u32) {
    if call_flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE) != 0 {
        return;
    }
    let Some((stream, state, call)) = watched(sock, false, scratch) else { return };
    if ret <= 0 {
        moved_nothing(sock, state, &call, ret);
    }
    if ret < 0 {
        return;
    }
    let len = ret as u32;
    if ret == 0 && (!sock.ended() || !state.has(flag::KNOWN) || state.has(flag::END_SEEN)) {
        return;
    }
    if is_muted(state, len) {
        advance_muted(state, stream, false, len);
        return;
    }
    let boot_ns = now();
    let received = match stream {
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
    report(sock, stream, state, &call, record, len, call_flags & MSG_TRUNC == 0);
}

#[inline(always)]
fn known_or(moment: Moment, otherwise: u64) -> u64 {
    if moment.is_true { moment.ns } else { otherwise }
}

/// The filters, in order of cost. Takes up the socket's verdict.
#[inline(always)]
fn watched(
    sock: Sock,
    sending: bool,
    scratch: u32,
) -> Option<(Stream, &'static mut SocketState, Call)> {
    let (tgid, tid, thread) = current_ids();
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
    Some((stream, state, Call { task: Task::current(), tgid, tid, thread, sending, scratch }))
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
        count(counter::MUTED_CALLS, 1);
        count(counter::MUTED_BYTES, u64::from(len));
    }
    muted
}

/// Own counters go on while muted; TCP's positions are read from the socket.
#[inline(always)]
fn advance_muted(state: &mut SocketState, stream: Stream, sending: bool, len: u32) {
    if stream == Stream::Unix {
        if sending {
            state.send_position += u64::from(len);
        } else {
            state.receive_position += u64::from(len);
        }
    }
}

/// Completes a record and writes it, after the connection's own where that is due.
#[inline(always)]
fn report(
    sock: Sock,
    stream: Stream,
    state: &mut SocketState,
    call: &Call,
    mut record: Payload,
    len: u32,
    readable: bool,
) {
    let header = &mut record.header;
    header.tgid = call.tgid;
    header.tid = call.tid;
    header.start_ns = call.task.process_start();
    header.total_len = len;
    if stream == Stream::Unix {
        header.flags |= record_flag::COUNTED;
    }
    if !state.has(flag::COMPLETE) {
        introduce(sock, stream, state, &record);
    }
    if len > 0 && state.turn(call.sending) {
        record.header.flags |= record_flag::TURN;
    }
    let want = if len > 0 { state.allowance(len) } else { 0 };
    // Looked for even when nothing is wanted: each message of sendmmsg and recvmmsg counts.
    let pieces = if len == 0 || !readable {
        None
    } else {
        registers::buffer(call.task, sock.file(), call.sending)
            .and_then(|buffer| buffer.pieces(call.moved(state, len)))
    };
    match pieces {
        _ if want == 0 => write_bare(&mut record),
        Some(Pieces::One(address)) => write_flat(&mut record, want, address),
        Some(Pieces::Many { vector, count: pieces }) => {
            match gather(call.scratch, vector, pieces, want) {
                Some((room, have)) if have > 0 => write_gathered(&mut record, have, room),
                _ => write_unreachable(&mut record),
            }
        }
        None => write_unreachable(&mut record),
    }
}

// --- size classes ---

const FIXED: usize = size_of::<Payload>();

/// Writes with the smallest class that holds `want`, copied from one user buffer.
#[inline(always)]
fn write_flat(record: &mut Payload, want: u32, address: u64) {
    match want {
        0..=128 => class_flat::<128>(record, want, address),
        129..=256 => class_flat::<256>(record, want, address),
        257..=512 => class_flat::<512>(record, want, address),
        513..=1024 => class_flat::<1024>(record, want, address),
        _ => class_flat::<4096>(record, if want > 4096 { 4096 } else { want }, address),
    }
}

/// The same from a gathered scratch room.
#[inline(always)]
fn write_gathered(record: &mut Payload, have: u32, room: *const u8) {
    match have {
        0..=256 => class_gathered::<256>(record, have, room),
        257..=1024 => class_gathered::<1024>(record, have, room),
        _ => class_gathered::<4096>(record, if have > 4096 { 4096 } else { have }, room),
    }
}

#[inline(always)]
fn class_flat<const ROOM: usize>(record: &mut Payload, len: u32, address: u64) {
    write::<ROOM>(record, len, |to| match ROOM {
        128 => copy_flat::<128>(to, len, address),
        256 => copy_flat::<256>(to, len, address),
        512 => copy_flat::<512>(to, len, address),
        1024 => copy_flat::<1024>(to, len, address),
        _ => copy_flat::<4096>(to, len, address),
    });
}

#[inline(always)]
fn class_gathered<const ROOM: usize>(record: &mut Payload, len: u32, room: *const u8) {
    write::<ROOM>(record, len, |to| match ROOM {
        256 => copy_scratch::<256>(to, len, room),
        1024 => copy_scratch::<1024>(to, len, room),
        _ => copy_scratch::<4096>(to, len, room),
    });
}

#[inline(always)]
fn write_bare(record: &mut Payload) {
    write::<0>(record, 0, |_| true);
}

#[inline(always)]
fn write_unreachable(record: &mut Payload) {
    count(counter::UNREACHABLE_CALLS, 1);
    count(counter::UNREACHABLE_BYTES, u64::from(record.header.total_len));
    record.header.flags |= record_flag::UNREACHABLE;
    write_bare(record);
}

/// Reserves a slot for the record and `ROOM` bytes, fills both, submits.
#[inline(always)]
fn write<const ROOM: usize>(record: &mut Payload, len: u32, fill: impl FnOnce(*mut u8) -> bool) {
    record.header.seq = next_sequence(counter::PAYLOAD_TRIED);
    let Some(mut slot) = PAYLOAD_RING.reserve_bytes(FIXED + ROOM, 0) else {
        count(counter::PAYLOAD_LOST, 1);
        return;
    };
    let start = slot.as_mut_ptr();
    // SAFETY: the slot holds FIXED + ROOM bytes and is 8-byte aligned; the verifier checks both.
    unsafe {
        let filled = fill(start.add(FIXED));
        record.header.captured_len = if filled { len } else { 0 };
        if !filled {
            count(counter::FAULTS, 1);
            record.header.flags |= record_flag::UNREACHABLE;
        }
        start.cast::<Payload>().write(*record);
    }
    slot.submit(QUIET);
}

// --- the connection's own record ---

const CONNECTION_LEN: usize = size_of::<Connection>() + PATH_LEN + 4;

/// Says who talks to whom, once; on unix sockets again when the peer's cookie is known.
#[inline(always)]
fn introduce(sock: Sock, stream: Stream, state: &mut SocketState, record: &Payload) {
    let peer_cookie = if stream == Stream::Unix { sock.peer_cookie() } else { 0 };
    let complete = stream == Stream::Tcp || peer_cookie != 0;
    if state.has(flag::KNOWN) && !complete {
        return;
    }
    state.flags |= flag::KNOWN | if complete { flag::COMPLETE } else { 0 };
    let sequence = next_sequence(counter::PAYLOAD_TRIED);
    let Some(mut slot) = PAYLOAD_RING.reserve_bytes(CONNECTION_LEN, 0) else {
        count(counter::PAYLOAD_LOST, 1);
        // Told again with the next call.
        state.flags &= !(flag::KNOWN | flag::COMPLETE);
        return;
    };
    let start = slot.as_mut_ptr();
    let mut connection = Connection {
        header: Header {
            kind: kind::CONNECTION,
            seq: sequence,
            total_len: 0,
            direction: 0,
            ..record.header
        },
        cookie: state.cookie,
        peer_cookie,
        send_position: state.send_position,
        receive_position: state.receive_position,
        family: sock.family(),
        netns: sock.netns(),
        role: if state.has(flag::CONNECTED) {
            role::CONNECTED
        } else if state.has(flag::ACCEPTED) {
            role::ACCEPTED
        } else {
            role::UNKNOWN
        },
        ..Connection::default()
    };
    connection.header.captured_len = 0;
    // SAFETY: the slot holds CONNECTION_LEN bytes, 8-byte aligned; the verifier checks both.
    unsafe {
        if stream == Stream::Tcp {
            let (local_addr, remote_addr) = sock.addresses();
            connection.local_addr = core::mem::transmute::<[u64; 2], [u8; 16]>(local_addr);
            connection.remote_addr = core::mem::transmute::<[u64; 2], [u8; 16]>(remote_addr);
            (connection.local_port, connection.remote_port) = sock.ports();
        } else {
            connection.header.captured_len = sock.path(start.add(size_of::<Connection>()));
        }
        start.cast::<Connection>().write(connection);
    }
    slot.submit(QUIET);
}
