//! Sends known bytes through every send and receive call, over TCP/IPv4, TCP/IPv6 and unix
//! sockets, and logs what went through each socket: `calls LOG`.
//!
//! A line is one direction of one socket:
//! `{"case", "cookie", "direction": "send"|"receive", "bytes", "sha256", "uncaptured": [[from, to]…]}`.
//! `uncaptured` are the offsets that no call passed in a buffer of its own (sendfile, splice,
//! MSG_TRUNC); the hash is over all other bytes.

use kernspan_tests::sys::{self, PARTS, Receive, Send};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Messages a connection.
const MESSAGES: usize = 24;

/// Longest call: what one record can hold.
const CALL: usize = 4096;

fn main() -> io::Result<()> {
    let path = std::env::args().nth(1).ok_or_else(|| io::Error::other("usage: calls LOG"))?;
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
        in_kernel(&mut Case::open(&mut log, &path, family, "in-kernel-send")?, family)?;
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

/// sendfile and splice move bytes that no buffer of the program holds.
fn in_kernel(case: &mut Case<'_>, family: &str) -> io::Result<()> {
    case.pass(b"before sendfile")?;
    let mut file = File::open("/proc/self/exe")?;
    let sent = rustix::fs::sendfile(&case.a.fd, &file, None, 3000)?;
    case.a.sent.skip(sent);
    case.take(Receive::Read, sent)?;
    case.pass(b"between sendfile and splice")?;
    let (from, to) = io::pipe()?;
    let moved = sys::splice(&mut file, &to, 2000)?;
    let sent = sys::splice(&from, &case.a.fd, moved)?;
    case.a.sent.skip(sent);
    case.take(Receive::Read, sent)?;
    case.pass(format!("after splice over {family}").as_bytes())?;
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

/// One connection; `a` sends, `b` receives and answers at the end.
struct Case<'a> {
    name: String,
    log: &'a mut File,
    random: Random,
    a: End,
    b: End,
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        for end in [&self.a, &self.b] {
            for (direction, stream) in [("send", &end.sent), ("receive", &end.received)] {
                let line = json!({
                    "case": self.name, "cookie": end.cookie, "direction": direction,
                    "bytes": stream.bytes, "uncaptured": stream.skipped,
                    "sha256": hex(&stream.hash.clone().finalize()),
                });
                let _ = writeln!(self.log, "{line}");
            }
        }
    }
}

impl<'a> Case<'a> {
    fn open(log: &'a mut File, path: &str, family: &str, what: &str) -> io::Result<Case<'a>> {
        let (a, b): (OwnedFd, OwnedFd) = match family {
            "unix" => unix(Path::new(&format!("{path}.socket")))?,
            "tcp6" => tcp("[::1]:0")?,
            _ => tcp("127.0.0.1:0")?,
        };
        let name = format!("{family}/{what}");
        let seed = name.bytes().fold(1, |seed, byte| seed * 31 % 0x7fff_ffff + u64::from(byte));
        Ok(Case { name, log, random: Random(seed), a: End::new(a)?, b: End::new(b)? })
    }

    /// Sends and takes `message` whole.
    fn pass(&mut self, message: &[u8]) -> io::Result<()> {
        let sent = sys::send_libc(self.a.fd.as_fd(), message, libc::MSG_NOSIGNAL)?;
        self.a.sent.add(&message[..sent]);
        self.take(Receive::Read, sent)
    }

    /// Takes `len` bytes in pieces of other sizes than they were sent in.
    fn take(&mut self, receive: Receive, len: usize) -> io::Result<()> {
        let mut left = len;
        while left > 0 {
            let room = self.random.below(CALL) + 1;
            let cuts = if receive.scatters() { self.random.cuts(room) } else { vec![0, room] };
            let mut parts: Vec<Vec<u8>> =
                cuts.windows(2).map(|cut| vec![b'#'; cut[1] - cut[0]]).collect();
            let got = receive.call(&self.b.fd, &mut parts)?;
            assert!(got > 0, "{}: the stream ended {left} bytes early", self.name);
            self.b.received.add(&parts.concat()[..got]);
            left -= got;
        }
        Ok(())
    }

    /// A few bytes the other way.
    fn answer(&mut self) -> io::Result<()> {
        let text = format!("done with {}", self.name);
        let sent = sys::send_libc(self.b.fd.as_fd(), text.as_bytes(), 0)?;
        self.b.sent.add(&text.as_bytes()[..sent]);
        let mut buffer = vec![0; sent];
        let got = sys::recv_libc(self.a.fd.as_fd(), &mut buffer, libc::MSG_WAITALL)?;
        self.a.received.add(&buffer[..got]);
        Ok(())
    }
}

struct End {
    fd: OwnedFd,
    cookie: u64,
    sent: Stream,
    received: Stream,
}

impl End {
    fn new(fd: OwnedFd) -> io::Result<End> {
        let cookie = sys::cookie(&fd)?;
        Ok(End { fd, cookie, sent: Stream::default(), received: Stream::default() })
    }
}

/// One direction as the program knows it.
#[derive(Default)]
struct Stream {
    bytes: usize,
    hash: Sha256,
    skipped: Vec<[usize; 2]>,
}

impl Stream {
    fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len();
    }

    fn skip(&mut self, len: usize) {
        self.skipped.push([self.bytes, self.bytes + len]);
        self.bytes += len;
    }
}

/// A small generator (xorshift): the same bytes in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() % limit
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let len = self.below(most) + 1;
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// 0, up to seven places in ascending order (equal ones give empty parts), `len`.
    fn cuts(&mut self, len: usize) -> Vec<usize> {
        let parts = self.below(PARTS) + 1;
        let mut cuts: Vec<usize> = (1..parts).map(|_| self.below(len + 1)).collect();
        cuts.extend([0, len]);
        cuts.sort_unstable();
        cuts
    }
}

fn tcp(address: &str) -> io::Result<(OwnedFd, OwnedFd)> {
    let listener = TcpListener::bind(address)?;
    let a = TcpStream::connect(listener.local_addr()?)?;
    let (b, _) = listener.accept()?;
    a.set_nodelay(true)?;
    Ok((a.into(), b.into()))
}

fn unix(path: &Path) -> io::Result<(OwnedFd, OwnedFd)> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    let a = UnixStream::connect(path)?;
    let (b, _) = listener.accept()?;
    Ok((a.into(), b.into()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
