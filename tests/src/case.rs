//! A connection of which both ends are logged: the workloads' own knowledge of what went through it.
//!
//! A line of the log is one direction of one socket:
//! `{"case", "cookie", "direction": "send"|"receive", "bytes", "sha256", "uncaptured": [[from, to]…]}`.
//! `uncaptured` are the offsets that nobody can read (see [`Stream::skip`]); the hash is over all other
//! bytes.

use crate::sys::{self, PARTS, Receive};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Longest call: what one record can hold.
pub const CALL: usize = 4096;

/// One connection; `a` sends, `b` receives and answers at the end.
pub struct Case<'a> {
    /// Its name in the log.
    pub name: String,
    log: &'a mut File,
    /// Messages and cuts.
    pub random: Random,
    /// The sending end.
    pub a: End,
    /// The other one.
    pub b: End,
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
    /// A connection of `family` (`tcp4`, `tcp6`, `unix`), logged when it is dropped.
    ///
    /// # Errors
    /// The system's.
    pub fn open(log: &'a mut File, path: &str, family: &str, what: &str) -> io::Result<Case<'a>> {
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
    ///
    /// # Errors
    /// The system's.
    pub fn pass(&mut self, message: &[u8]) -> io::Result<()> {
        let sent = sys::send_libc(self.a.fd.as_fd(), message, libc::MSG_NOSIGNAL)?;
        self.a.sent.add(&message[..sent]);
        self.take(Receive::Read, sent)
    }

    /// Takes `len` bytes in pieces of other sizes than they were sent in.
    ///
    /// # Errors
    /// The system's.
    ///
    /// # Panics
    /// When the stream ends early.
    pub fn take(&mut self, receive: Receive, len: usize) -> io::Result<()> {
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
    ///
    /// # Errors
    /// The system's.
    pub fn answer(&mut self) -> io::Result<()> {
        let text = format!("done with {}", self.name);
        let sent = sys::send_libc(self.b.fd.as_fd(), text.as_bytes(), 0)?;
        self.b.sent.add(&text.as_bytes()[..sent]);
        let mut buffer = vec![0; sent];
        let got = sys::recv_libc(self.a.fd.as_fd(), &mut buffer, libc::MSG_WAITALL)?;
        self.a.received.add(&buffer[..got]);
        Ok(())
    }
}

/// One end of a connection.
pub struct End {
    /// Its socket.
    pub fd: OwnedFd,
    cookie: u64,
    /// What went out.
    pub sent: Stream,
    /// What came in.
    pub received: Stream,
}

impl End {
    /// Nothing moved yet.
    ///
    /// # Errors
    /// The system's.
    pub fn new(fd: OwnedFd) -> io::Result<End> {
        let cookie = sys::cookie(&fd)?;
        Ok(End { fd, cookie, sent: Stream::default(), received: Stream::default() })
    }
}

/// One direction as the program knows it.
#[derive(Clone, Default)]
pub struct Stream {
    bytes: usize,
    hash: Sha256,
    skipped: Vec<[usize; 2]>,
}

impl Stream {
    /// Bytes that a buffer held, or pages that are read.
    pub fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len();
    }

    /// Bytes that nobody can read.
    pub fn skip(&mut self, len: usize) {
        self.skipped.push([self.bytes, self.bytes + len]);
        self.bytes += len;
    }
}

/// A small generator (xorshift): the same bytes in each run.
pub struct Random(u64);

impl Random {
    /// A number of 48 bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.next() % limit
    }

    /// Up to `most` bytes, at least one.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let len = self.below(most) + 1;
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Where to cut `len` bytes: 0, up to seven places in ascending order (equal ones give empty
    /// parts), `len`.
    pub fn cuts(&mut self, len: usize) -> Vec<usize> {
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
