//! A small HTTP/1.1 server and client, by io_uring or by ordinary calls, these also over MPTCP:
//! `uring_http serve uring|plain|mptcp PORT`, `uring_http serve uring-unix PATH`,
//! `uring_http ask uring|plain|mptcp PORT CONNECTIONS REQUESTS`.
//!
//! The server by io_uring is one thread with one ring for all connections. The client asks on so many
//! connections at once, on each so often, and fails unless every answer is right. A server says `ready`
//! and runs until it is ended.

use io_uring::{IoUring, opcode, squeue, types};
use kernspan_tests::sys;
use kernspan_tests::uring::{Receive, Ring, Send};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

/// An agent sees that there is a ring, and attaches: what begins at once may be missed.
const NOTICED: Duration = Duration::from_millis(300);

/// Room for one request.
const ROOM: usize = 4096;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().map_err(io::Error::other);
    let port = |text: &str| text.parse::<u16>().map_err(io::Error::other);
    match words[..] {
        ["serve", "uring-unix", path] => serve_uring(&UnixListener::bind(path)?, false),
        ["serve", how, at] => {
            let listener = match how {
                "mptcp" => sys::mptcp_listener(port(at)?)?,
                _ => TcpListener::bind(("127.0.0.1", port(at)?))?,
            };
            if how == "uring" { serve_uring(&listener, true) } else { serve_plain(&listener) }
        }
        ["ask", how, at, connections, requests] => {
            let (at, requests, how) = (port(at)?, number(requests)?, how.to_owned());
            let asking: Vec<_> = (0..number(connections)?)
                .map(|number| {
                    let how = how.clone();
                    thread::spawn(move || ask(&how, at, number, requests))
                })
                .collect();
            for one in asking {
                one.join().map_err(|_| io::Error::other("a client failed"))??;
            }
            Ok(())
        }
        _ => Err(io::Error::other("usage: uring_http serve|ask uring|plain|mptcp PORT …")),
    }
}

fn ready() {
    println!("ready");
}

/// Bytes of the first request in `text`, once it is whole, and its answer.
fn answer(text: &[u8]) -> Option<(usize, Vec<u8>)> {
    let end = text.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&text[..end]).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let whole = end + length.map_or(0, |length| length.parse().unwrap_or(0));
    if text.len() < whole {
        return None;
    }
    let path = head.split(' ').nth(1).unwrap_or_default();
    let status = if path.ends_with('7') { "404 Not Found" } else { "200 OK" };
    let body = format!("you asked for {path}\n");
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    Some((whole, answer.into_bytes()))
}

fn serve_plain(listener: &TcpListener) -> io::Result<()> {
    ready();
    loop {
        let (mut socket, _) = listener.accept()?;
        thread::spawn(move || -> io::Result<()> {
            let mut text = Vec::new();
            let mut room = [0; ROOM];
            loop {
                match socket.read(&mut room)? {
                    0 => return Ok(()),
                    got => text.extend_from_slice(&room[..got]),
                }
                while let Some((whole, answer)) = answer(&text) {
                    text.drain(..whole);
                    socket.write_all(&answer)?;
                }
            }
        });
    }
}

/// One connection of the ring's server.
struct Served {
    socket: TcpStream,
    room: Box<[u8; ROOM]>,
    text: Vec<u8>,
    answer: Vec<u8>,
}

/// What an operation was: the upper half of its `user_data`; the lower one is the connection.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;

/// Of either family: sockets are told to io_uring by their numbers. Those of unix know no zero-copy sends.
fn serve_uring(listener: &impl AsRawFd, zero_copy: bool) -> io::Result<()> {
    let mut ring = IoUring::new(256)?;
    let mut served: HashMap<u32, Served> = HashMap::new();
    let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build();
    push(&mut ring, &accept.user_data(ACCEPT))?;
    ring.submit()?;
    thread::sleep(NOTICED);
    ready();
    loop {
        ring.submit_and_wait(1)?;
        let done: Vec<_> = ring
            .completion()
            .map(|entry| (entry.user_data(), entry.result(), entry.flags()))
            .collect();
        for (data, result, flags) in done {
            let slot = data as u32;
            match data & !0xffff_ffff {
                ACCEPT => {
                    use std::os::fd::FromRawFd;
                    // SAFETY: the kernel has just made this descriptor for us.
                    let socket = unsafe { TcpStream::from_raw_fd(result) };
                    let new = Served {
                        socket,
                        room: Box::new([0; ROOM]),
                        text: Vec::new(),
                        answer: Vec::new(),
                    };
                    let slot = result.cast_unsigned();
                    served.insert(slot, new);
                    receive(&mut ring, &mut served, slot)?;
                }
                RECEIVE if result <= 0 => drop(served.remove(&slot)),
                RECEIVE => {
                    if let Some(one) = served.get_mut(&slot) {
                        let (room, got) = (&one.room[..], result as usize);
                        one.text.extend_from_slice(&room[..got]);
                    }
                    respond(&mut ring, &mut served, slot, zero_copy)?;
                }
                // The notice of a zero-copy send follows its result.
                _ if io_uring::cqueue::notif(flags) => {}
                _ => receive(&mut ring, &mut served, slot)?,
            }
        }
    }
}

fn receive(ring: &mut IoUring, served: &mut HashMap<u32, Served>, slot: u32) -> io::Result<()> {
    let Some(one) = served.get_mut(&slot) else { return Ok(()) };
    let fd = types::Fd(one.socket.as_raw_fd());
    let entry = opcode::Recv::new(fd, one.room.as_mut_ptr(), ROOM as u32).build();
    push(ring, &entry.user_data(RECEIVE | u64::from(slot)))
}

/// Every second answer goes by a zero-copy send, where there are such.
fn respond(
    ring: &mut IoUring,
    served: &mut HashMap<u32, Served>,
    slot: u32,
    zero_copy: bool,
) -> io::Result<()> {
    let Some(one) = served.get_mut(&slot) else { return Ok(()) };
    let Some((whole, answer)) = answer(&one.text) else { return receive(ring, served, slot) };
    one.text.drain(..whole);
    let zero_copy = zero_copy && one.answer.len() % 2 == 0;
    one.answer = answer;
    let fd = types::Fd(one.socket.as_raw_fd());
    let (start, len) = (one.answer.as_ptr(), one.answer.len() as u32);
    let entry = if zero_copy {
        opcode::SendZc::new(fd, start, len).build()
    } else {
        opcode::Send::new(fd, start, len).build()
    };
    push(ring, &entry.user_data(SEND | u64::from(slot)))
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    // SAFETY: buffers belong to connections, which stay until their operations have ended; the answer of
    // a zero-copy send stays until the next request, which the client sends when it has the whole answer.
    unsafe { ring.submission().push(entry) }.map_err(io::Error::other)
}

/// A connection, one way or the other.
enum Way {
    Plain(TcpStream),
    Uring(TcpStream, Box<Ring>),
}

impl Way {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Way::Plain(socket) => socket.write_all(bytes),
            Way::Uring(socket, ring) => ring.send(Send::Send, socket, bytes).map(drop),
        }
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Way::Plain(socket) => {
                let mut room = vec![0; ROOM];
                let got = socket.read(&mut room)?;
                room.truncate(got);
                Ok(room)
            }
            Way::Uring(socket, ring) => ring.receive(Receive::Recv, socket, ROOM),
        }
    }
}

fn ask(how: &str, port: u16, number: usize, requests: usize) -> io::Result<()> {
    let uring = how == "uring";
    let ring = if uring { Some(Box::new(Ring::new(false)?)) } else { None };
    if uring {
        thread::sleep(NOTICED);
    }
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let socket = if how == "mptcp" { sys::mptcp_stream(at)? } else { TcpStream::connect(at)? };
    let mut way = match ring {
        Some(ring) => Way::Uring(socket, ring),
        None => Way::Plain(socket),
    };
    for index in 0..requests {
        let path = format!("/ring/{number}/{index}");
        let host = format!("Host: 127.0.0.1:{port}\r\n");
        let request = if index % 4 == 3 {
            let body = "b".repeat(100 + index);
            format!("POST {path} HTTP/1.1\r\n{host}Content-Length: {}\r\n\r\n{body}", body.len())
        } else {
            format!("GET {path} HTTP/1.1\r\n{host}\r\n")
        };
        way.send(request.as_bytes())?;
        let wanted = format!("you asked for {path}\n");
        let mut text = Vec::new();
        while !text.ends_with(wanted.as_bytes()) {
            let more = way.receive()?;
            if more.is_empty() {
                return Err(io::Error::other(format!("{path}: the server closed")));
            }
            text.extend(more);
        }
    }
    Ok(())
}
