//! The connection's own record: who talks to whom.

use agent_common::{
    record::{Connection, Header, Payload, kind, role},
    settings::feature,
};

use crate::{
    emit::{reserve, wakeup},
    kernel::sock::{PATH_LEN, Sock, Stream},
    probes::flow,
    settings::enabled,
    socket::{SocketState, flag},
};

const CONNECTION_LEN: usize = size_of::<Connection>() + PATH_LEN + 4;

/// Says who talks to whom, once; on unix sockets again when the peer's cookie is known.
///
/// Not inlined: its stack is needed rarely, and those of a program's functions must fit 512 bytes.
#[inline(never)]
pub fn introduce(sock: Sock, stream: Stream, state: &mut SocketState, record: &Payload) {
    let peer_cookie = if stream == Stream::Unix { sock.peer_cookie() } else { 0 };
    let complete = stream != Stream::Unix || peer_cookie != 0;
    if state.has(flag::KNOWN) && !complete {
        return;
    }
    state.flags |= flag::KNOWN | if complete { flag::COMPLETE } else { 0 };
    let Some((sequence, mut slot)) = reserve(state.cookie, CONNECTION_LEN) else {
        // Told again with the next call.
        state.flags &= !(flag::KNOWN | flag::COMPLETE);
        return;
    };
    if enabled(feature::FLOW) && stream == Stream::Tcp {
        flow::own(sock, record.header.tgid, record.header.start_ns);
    }
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
        if stream != Stream::Unix {
            let (local_addr, remote_addr) = sock.addresses();
            connection.local_addr = core::mem::transmute::<[u64; 2], [u8; 16]>(local_addr);
            connection.remote_addr = core::mem::transmute::<[u64; 2], [u8; 16]>(remote_addr);
            (connection.local_port, connection.remote_port) = sock.ports();
        } else {
            connection.header.captured_len = sock.path(start.add(size_of::<Connection>()));
        }
        start.cast::<Connection>().write(connection);
    }
    slot.submit(wakeup(state.cookie));
}
