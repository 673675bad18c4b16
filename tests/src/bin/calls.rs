//! Sends known bytes through every send and receive call, over TCP/IPv4, TCP/IPv6 and unix
//! sockets, and logs what went through each socket: `calls LOG [pages]`.
//!
//! The log is that of [`kernspan_tests::case`]. `calls LOG pages` says that pages which the kernel sends
//! over TCP (sendfile, splice, vmsplice) can be read; what MSG_TRUNC throws away never can.

use kernspan_tests::case::{CALL, Case};
use kernspan_tests::sys::{self, Receive, Send};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

/// Messages a connection.
const MESSAGES: usize = 24;

fn main() -> io::Result<()> {
    let path = std::env::args().nth(1).ok_or_else(|| io::Error::other("usage: calls LOG"))?;
    let pages = std::env::args().nth(2).is_some_and(|word| word == "pages");
    let mut log = File::create(&path)?;
    for family in ["tcp4", "tcp6", "unix"] {
        for (send, receive) in Send::ALL.into_iter().zip(Receive::ALL) {
            every_size(
                &mut Case::open(&mut log, &path, family, &format!("{send:?}-{receive:?}"))?,
                send,
                receive,
            )?;
        }
        failures(&mut Case::open(&mut log, &path, family, "failures")?)?;
        full_buffer(&mut Case::open(&mut log, &path, family, "full-buffer")?)?;
        in_kernel(&mut Case::open(&mut log, &path, family, "in-kernel-send")?, family, pages)?;
        if family != "unix" {
            truncated(&mut Case::open(&mut log, &path, family, "truncated")?)?;
            spliced(&mut Case::open(&mut log, &path, family, "spliced-receive")?)?;
        }
    }
    log.sync_all()
}

/// Every message by `send`, taken in other pieces by `receive`.
fn every_size(case: &mut Case<'_>, send: Send, receive: Receive) -> io::Result<()> {
    if send == Send::Zerocopy && !case.name.starts_with("unix") {
        sys::allow_zerocopy(case.a.fd.as_fd())?;
    }
    for _ in 0..MESSAGES {
        let message = case.random.bytes(CALL);
        let cuts =
            if send.gathers() { case.random.cuts(message.len()) } else { vec![0, message.len()] };
        let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &message[cut[0]..cut[1]]).collect();
        let sent = send.call(&case.a.fd, &parts)?;
        case.a.sent.add(&message[..sent]);
        case.take(receive, sent)?;
    }
    case.answer()
}

/// Calls that fail move nothing; what goes before and after them does.
fn failures(case: &mut Case<'_>) -> io::Result<()> {
    case.pass(b"before the failures")?;
    let mut buffer = [0; 64];
    let nothing = sys::recv_libc(case.b.fd.as_fd(), &mut buffer, libc::MSG_DONTWAIT);
    expect(nothing, libc::EAGAIN)?;
    let [sent, _] = sys::bad_address(case.a.fd.as_fd());
    expect(sent, libc::EFAULT)?;
    case.pass(b"between the failures")?;
    // With bytes waiting, the receive fails at the copy.
    let waiting = b"waits for a good address";
    let count = sys::send_libc(case.a.fd.as_fd(), waiting, 0)?;
    case.a.sent.add(&waiting[..count]);
    let [_, received] = sys::bad_address(case.b.fd.as_fd());
    expect(received, libc::EFAULT)?;
    case.take(Receive::Read, count)?;
    case.answer()?;
    // The receiving side goes: the first send may still pass, a later one cannot.
    rustix::net::shutdown(&case.b.fd, rustix::net::Shutdown::Both)?;
    rustix::net::shutdown(&case.a.fd, rustix::net::Shutdown::Write)?;
    expect(sys::send_libc(case.a.fd.as_fd(), b"too late", libc::MSG_NOSIGNAL), libc::EPIPE)
}

/// A full buffer cuts a send short and then refuses it.
fn full_buffer(case: &mut Case<'_>) -> io::Result<()> {
    sys::send_buffer(case.a.fd.as_fd(), 8192)?;
    for _ in 0..3 {
        let mut waiting = 0;
        let refused = loop {
            let message = case.random.bytes(CALL);
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            match sys::send_libc(case.a.fd.as_fd(), &message, flags) {
                Ok(sent) => {
                    case.a.sent.add(&message[..sent]);
                    waiting += sent;
                }
                refused => break refused,
            }
            assert!(waiting < 64 << 20, "the buffer has an end");
        };
        expect(refused, libc::EAGAIN)?;
        case.take(Receive::Recv, waiting)?;
    }
    case.answer()
}

/// sendfile, splice and vmsplice move bytes that no buffer of the call holds: they lie in pages.
fn in_kernel(case: &mut Case<'_>, family: &str, pages: bool) -> io::Result<()> {
    let readable = pages && family != "unix";
    let moved = |case: &mut Case<'_>, bytes: &[u8]| {
        if readable {
            case.a.sent.add(bytes)
        } else {
            case.a.sent.skip(bytes.len())
        }
        case.take(Receive::Read, bytes.len())
    };
    case.pass(b"before sendfile")?;
    let mut content = vec![0; 5000];
    File::open("/proc/self/exe")?.read_exact(&mut content)?;
    let mut file = File::open("/proc/self/exe")?;
    let sent = rustix::fs::sendfile(&case.a.fd, &file, None, 3000)?;
    moved(case, &content[..sent])?;
    case.pass(b"between sendfile and splice")?;
    let (from, to) = io::pipe()?;
    let first = sent;
    let piped = sys::splice(&mut file, &to, 2000)?;
    let sent = sys::splice(&from, &case.a.fd, piped)?;
    moved(case, &content[first..first + sent])?;
    case.pass(b"between splice and vmsplice")?;
    let own = case.random.bytes(CALL);
    let piped = sys::vmsplice(&to, &own)?;
    let sent = sys::splice(&from, &case.a.fd, piped)?;
    moved(case, &own[..sent])?;
    case.pass(format!("after vmsplice over {family}").as_bytes())?;
    case.answer()
}

/// MSG_TRUNC throws bytes away: the buffer keeps what it held, which is no part of the stream.
fn truncated(case: &mut Case<'_>) -> io::Result<()> {
    case.pass(b"before the cut")?;
    let thrown = case.random.bytes(1000);
    let sent = sys::send_libc(case.a.fd.as_fd(), &thrown, 0)?;
    case.a.sent.add(&thrown[..sent]);
    let mut stale = vec![b'#'; sent];
    let taken = sys::recv_libc(case.b.fd.as_fd(), &mut stale, libc::MSG_TRUNC | libc::MSG_WAITALL)?;
    case.b.received.skip(taken);
    case.take(Receive::Read, sent - taken)?;
    case.pass(b"after the cut")?;
    case.answer()
}

/// Bytes that splice takes out of a socket are seen by the positions alone.
fn spliced(case: &mut Case<'_>) -> io::Result<()> {
    case.pass(b"before splice")?;
    let message = case.random.bytes(1000);
    let sent = sys::send_libc(case.a.fd.as_fd(), &message, 0)?;
    case.a.sent.add(&message[..sent]);
    let (_from, to) = io::pipe()?;
    let moved = sys::splice(&case.b.fd, &to, sent)?;
    case.b.received.skip(moved);
    case.take(Receive::Read, sent - moved)?;
    case.pass(b"after splice")?;
    case.answer()
}

fn expect(result: io::Result<usize>, errno: i32) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        other => Err(io::Error::other(format!("expected errno {errno}, got {other:?}"))),
    }
}
