//! Sends known bytes through every send and receive operation of io_uring, over TCP/IPv4 and unix sockets,
//! and logs what went through each socket: `rings LOG` (see [`kernspan_tests::case`]).
//!
//! What io_uring sends over a unix socket nobody can read; all else can be.

use kernspan_tests::case::{CALL, Case};
use kernspan_tests::sys;
use kernspan_tests::uring::{Receive, Ring, Send};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// Messages a connection.
const MESSAGES: usize = 16;

/// An agent sees that there is a ring, and attaches: what begins at once may be missed.
const NOTICED: Duration = Duration::from_millis(300);

fn main() -> io::Result<()> {
    let path = std::env::args().nth(1).ok_or_else(|| io::Error::other("usage: rings LOG"))?;
    let mut log = File::create(&path)?;
    let mut rings = [Ring::new(false)?, Ring::new(true)?];
    std::thread::sleep(NOTICED);
    for family in ["tcp4", "unix"] {
        for (ring, by) in rings.iter_mut().zip(["submitted", "polled"]) {
            for how in Send::ALL {
                if how == Send::SendZcFixed && family == "unix" {
                    // The kernel has no zero-copy send for them.
                    continue;
                }
                if how == Send::SendZc && family == "unix" {
                    continue;
                }
                let name = format!("{by}-{how:?}");
                sends(&mut Case::open(&mut log, &path, family, &name)?, ring, how)?;
            }
            for how in Receive::ALL {
                let name = format!("{by}-{how:?}");
                let mut case = Case::open(&mut log, &path, family, &name)?;
                if how == Receive::Multishot {
                    // It stays armed on its socket: a ring of its own.
                    receives(&mut case, &mut Ring::new(by == "polled")?, how)?;
                } else {
                    receives(&mut case, ring, how)?;
                }
            }
        }
    }
    log.sync_all()
}

fn sends(case: &mut Case<'_>, ring: &mut Ring, how: Send) -> io::Result<()> {
    for _ in 0..MESSAGES {
        let message = case.random.bytes(CALL);
        let sent = ring.send(how, &case.a.fd, &message)?;
        if case.name.starts_with("unix") {
            case.a.sent.skip(sent);
        } else {
            case.a.sent.add(&message[..sent]);
        }
        case.take(sys::Receive::Recv, sent)?;
    }
    case.answer()
}

fn receives(case: &mut Case<'_>, ring: &mut Ring, how: Receive) -> io::Result<()> {
    for _ in 0..MESSAGES {
        let message = case.random.bytes(CALL);
        let sent = sys::send_libc(case.a.fd.as_fd(), &message, libc::MSG_NOSIGNAL)?;
        case.a.sent.add(&message[..sent]);
        let mut left = sent;
        while left > 0 {
            let room = case.random.below(CALL) + 1;
            let got = ring.receive(how, &case.b.fd, room)?;
            case.b.received.add(&got);
            left -= got.len();
        }
    }
    case.answer()
}
