//! What is measured: calls of this process, and of small programs that make theirs when they are told.

use crate::MESSAGE;
use crate::programs::Programs;
use anyhow::{Context, Result};
use rustix::net::sockopt::socket_cookie;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// In the order of [`open`]: name, calls of a batch, and how many calls one of them is.
pub const SUBJECTS: [(&str, u32, f64); 8] = [
    ("getppid", 2000, 1.0),
    ("read or write", 500, 2.0),
    ("TCP call", 150, 2.0),
    ("UDP call", 150, 2.0),
    ("connection", 20, 1.0),
    ("process", 4, 1.0),
    ("SSL_ call", 100, 2.0),
    ("TCP call, Go", 150, 2.0),
];

/// One thing that is measured.
pub struct Subject {
    /// Of its sockets.
    pub cookies: Vec<u64>,
    /// The process that makes the calls, where it is another.
    pub program: Option<u32>,
    work: Work,
}

type Work = Box<dyn FnMut(u32) -> Result<Duration>>;

impl Subject {
    /// Makes so many calls; the time that they took.
    pub fn run(&mut self, calls: u32) -> Result<Duration> {
        (self.work)(calls)
    }

    fn here(cookies: Vec<u64>, mut call: impl FnMut() -> Result<()> + 'static) -> Subject {
        let work = move |calls| {
            let began = Instant::now();
            for _ in 0..calls {
                call()?;
            }
            Ok(began.elapsed())
        };
        Subject { cookies, program: None, work: Box::new(work) }
    }
}

/// All of them, as new: the state of a socket is the mode's. Those whose program is not there are left
/// out from the end.
pub fn open(programs: &Programs) -> Result<Vec<Subject>> {
    let mut subjects = vec![
        Subject::here(Vec::new(), || {
            std::hint::black_box(rustix::process::getppid());
            Ok(())
        }),
        devices()?,
        stream()?,
        datagrams()?,
        connections()?,
        Subject::here(Vec::new(), || {
            Command::new("/bin/true").status().context("/bin/true").map(drop)
        }),
        spawned(&programs.tls, &programs.certificate())?,
    ];
    if let Some(go) = &programs.go {
        subjects.push(spawned(go, &[])?);
    }
    Ok(subjects)
}

/// Calls by the numbers of send and receive, on files.
fn devices() -> Result<Subject> {
    let mut zero = File::open("/dev/zero")?;
    let mut null = OpenOptions::new().write(true).open("/dev/null")?;
    let mut buffer = [0; MESSAGE];
    Ok(Subject::here(Vec::new(), move || {
        zero.read_exact(&mut buffer)?;
        Ok(null.write_all(&buffer)?)
    }))
}

/// One send and one receive.
fn stream() -> Result<Subject> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    sender.set_nodelay(true)?;
    let cookies = vec![socket_cookie(&sender)?, socket_cookie(&receiver)?];
    let mut buffer = [7; MESSAGE];
    Ok(Subject::here(cookies, move || {
        sender.write_all(&buffer)?;
        Ok(receiver.read_exact(&mut buffer)?)
    }))
}

/// The same by sockets that are not connected.
fn datagrams() -> Result<Subject> {
    let (sender, receiver) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let to = receiver.local_addr()?;
    let cookies = vec![socket_cookie(&sender)?, socket_cookie(&receiver)?];
    let mut buffer = [7; MESSAGE];
    Ok(Subject::here(cookies, move || {
        sender.send_to(&buffer, to)?;
        receiver.recv_from(&mut buffer)?;
        Ok(())
    }))
}

/// From connect to the end of both sockets, with a byte each way.
fn connections() -> Result<Subject> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let to = listener.local_addr()?;
    Ok(Subject::here(Vec::new(), move || {
        let mut client = TcpStream::connect(to)?;
        let (mut server, _) = listener.accept()?;
        let mut byte = [0];
        client.write_all(&byte)?;
        server.read_exact(&mut byte)?;
        // By a reset: no port is left waiting.
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO))?;
        drop(client);
        Ok(())
    }))
}

/// A program that prints its sockets' cookies, then for each number that it reads makes so many pairs of
/// calls and prints the nanoseconds.
fn spawned(path: &Path, arguments: &[&Path]) -> Result<Subject> {
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| path.display().to_string())?;
    let pipes = child.stdin.take().zip(child.stdout.take().map(BufReader::new));
    let (asks, answers) = pipes.context("its pipes")?;
    let mut running = Running { child, asks: Some(asks), answers };
    let line = running.line()?;
    let cookies = line.split_whitespace().map(str::parse).collect::<Result<_, _>>();
    Ok(Subject {
        cookies: cookies.with_context(|| format!("{}: {line}", path.display()))?,
        program: Some(running.child.id()),
        work: Box::new(move |calls| running.ask(calls)),
    })
}

struct Running {
    child: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Running {
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }

    fn ask(&mut self, calls: u32) -> Result<Duration> {
        writeln!(self.asks.as_ref().context("it is asked no more")?, "{calls}")?;
        let line = self.line()?;
        let ns = line.trim().parse().with_context(|| format!("a program said {line:?}"))?;
        Ok(Duration::from_nanos(ns))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its input ends, so it does.
        self.asks = None;
        let _ = self.child.wait();
    }
}
