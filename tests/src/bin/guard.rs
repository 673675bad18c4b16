//! Lets io_uring finish socket operations inside *another* system call of the same thread:
//! `KERNSPAN_CANARY=TEXT guard ROUNDS LOG`
//! (not an argument: arguments are reported, and rightly).
//!
//! The thread submits a receive (or a send) that cannot go on, then reads a pipe into a buffer full
//! of the canary. A helper makes the socket ready while the thread sleeps in that read: the kernel
//! finishes the operation there, and the registers of the thread name the pipe and the buffer. An
//! agent that believes them reports foreign memory. The helper lets the read go on only after it
//! saw the completion, so every round counted in `overlaps` happened inside the read.
//!
//! The log is one line: `{"rounds", "overlaps", "receive": {"cookie", "bytes"}, "send": {…}}`.

use kernspan_tests::sys::{self, check};
use serde_json::json;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of one operation, and of the buffer that the pipe is read into.
const LEN: usize = 64;

/// Every this many rounds one is a send.
const SEND_EVERY: u64 = 10;

/// Longest wait for one step of a round.
const STEP: Duration = Duration::from_secs(5);

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, rounds, log] = &arguments[..] else {
        return Err(io::Error::other("usage: KERNSPAN_CANARY=TEXT guard ROUNDS LOG"));
    };
    let canary = std::env::var("KERNSPAN_CANARY").map_err(io::Error::other)?;
    let rounds = rounds.parse().map_err(io::Error::other)?;
    let (mut pipe, to_pipe) = io::pipe()?;
    let shared = Arc::new(Shared::default());
    let receive = stream_pair()?;
    let send = UnixStream::pair()?;
    sys::send_buffer(send.0.as_fd(), 4096)?;
    let ring = Ring::new()?;
    shared
        .thread
        .store(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned(), Ordering::Release);
    let helper = Helper {
        shared: Arc::clone(&shared),
        tail: ring.tail(),
        to_pipe,
        to_receive: receive.1.try_clone()?,
        from_send: send.1.try_clone()?,
    };
    let helping = std::thread::spawn(move || helper.help(rounds));
    let mut totals = Totals::default();
    for round in 1..=rounds {
        one_round(
            round,
            &ring,
            &shared,
            &mut pipe,
            canary.as_bytes(),
            &receive.0,
            &send.0,
            &mut totals,
        )?;
    }
    let overlaps = helping.join().map_err(|_| io::Error::other("the helper failed"))??;
    let line = json!({
        "rounds": rounds, "overlaps": overlaps,
        "receive": {"cookie": sys::cookie(&receive.0)?, "bytes": totals.received},
        "send": {"cookie": sys::cookie(&send.0)?, "bytes": totals.sent},
    });
    std::fs::write(log, format!("{line}\n"))
}

#[derive(Default)]
struct Totals {
    received: u64,
    sent: u64,
}

/// What the two threads tell each other.
#[derive(Default)]
struct Shared {
    /// Number of the round whose operation has been submitted.
    submitted: AtomicU64,
    /// The reading thread.
    thread: AtomicU32,
}

#[expect(clippy::too_many_arguments, reason = "the parts of one round, each named once")]
fn one_round(
    round: u64,
    ring: &Ring,
    shared: &Shared,
    pipe: &mut PipeReader,
    canary: &[u8],
    receive: &impl AsRawFd,
    send: &(impl AsRawFd + AsFd),
    totals: &mut Totals,
) -> io::Result<()> {
    let mut operation = *b"bytes that io_uring moves, which are nobody's secret at all.....";
    let start = operation.as_mut_ptr() as u64;
    if is_send(round) {
        // Full, so that the operation waits.
        while let Ok(sent) = sys::send_libc(send.as_fd(), &operation, libc::MSG_DONTWAIT) {
            totals.sent += sent as u64;
        }
        ring.submit(IORING_OP_SEND, send.as_raw_fd(), start)?;
    } else {
        ring.submit(IORING_OP_RECV, receive.as_raw_fd(), start)?;
    }
    let mut buffer: Vec<u8> = canary.iter().copied().cycle().take(LEN).collect();
    shared.submitted.store(round, Ordering::Release);
    let got = pipe.read(&mut buffer)?;
    if got != 1 || buffer[1..] != canary.iter().copied().cycle().take(LEN).collect::<Vec<u8>>()[1..]
    {
        return Err(io::Error::other(format!("round {round}: the pipe gave {got} bytes")));
    }
    let moved = ring.complete()?;
    *if is_send(round) { &mut totals.sent } else { &mut totals.received } += moved;
    Ok(())
}

fn is_send(round: u64) -> bool {
    round.is_multiple_of(SEND_EVERY)
}

struct Helper {
    shared: Arc<Shared>,
    tail: &'static AtomicU32,
    to_pipe: PipeWriter,
    to_receive: std::net::TcpStream,
    from_send: UnixStream,
}

impl Helper {
    /// Serves every round; how many completed while the other thread was inside its read.
    fn help(mut self, rounds: u64) -> io::Result<u64> {
        let mut overlaps = 0;
        for round in 1..=rounds {
            let shared = Arc::clone(&self.shared);
            wait(|| shared.submitted.load(Ordering::Acquire) == round)?;
            let asleep = wait(|| self.is_asleep()).is_ok();
            let before = self.tail.load(Ordering::Acquire);
            self.make_ready(round)?;
            let tail = self.tail;
            let completed = wait(|| tail.load(Ordering::Acquire) != before).is_ok();
            overlaps += u64::from(asleep && completed);
            self.to_pipe.write_all(b"!")?;
        }
        Ok(overlaps)
    }

    /// True when the thread sleeps: between its note and the pipe's byte only the read can.
    fn is_asleep(&self) -> bool {
        let thread = self.shared.thread.load(Ordering::Acquire);
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat"));
        stat.is_ok_and(|stat| stat.contains(") S "))
    }

    fn make_ready(&mut self, round: u64) -> io::Result<()> {
        if !is_send(round) {
            return self.to_receive.write_all(&[b'r'; LEN]);
        }
        let mut room = [0; 4096];
        while sys::recv_libc(self.from_send.as_fd(), &mut room, libc::MSG_DONTWAIT).is_ok() {}
        Ok(())
    }
}

fn wait(condition: impl Fn() -> bool) -> io::Result<()> {
    let begin = Instant::now();
    while !condition() {
        if begin.elapsed() > STEP {
            return Err(io::Error::other("a step of the round did not come"));
        }
        std::thread::yield_now();
    }
    Ok(())
}

fn stream_pair() -> io::Result<(std::net::TcpStream, std::net::TcpStream)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let a = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (b, _) = listener.accept()?;
    b.set_nodelay(true)?;
    Ok((a, b))
}

// include/uapi/linux/io_uring.h
const IORING_OP_SEND: u8 = 26;
const IORING_OP_RECV: u8 = 27;
const IORING_OFF_SQ_RING: i64 = 0;
const IORING_OFF_SQES: i64 = 0x1000_0000;
const IORING_FEAT_SINGLE_MMAP: u32 = 1;
/// `struct io_uring_params` as words: 10 of its own, 10 of `sq_off`, 10 of `cq_off`.
const PARAMS: usize = 30;
/// Words in one submission entry.
const SQE_WORDS: usize = 8;

/// An io_uring with one entry in use at a time.
struct Ring {
    fd: i32,
    rings: *mut u8,
    entries: *mut u64,
    params: [u32; PARAMS],
}

impl Ring {
    fn new() -> io::Result<Ring> {
        let mut params = [0_u32; PARAMS];
        // SAFETY: the kernel writes 120 bytes of `params`, which has them.
        let fd =
            check(unsafe { libc::syscall(libc::SYS_io_uring_setup, 4_u32, params.as_mut_ptr()) })?;
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        if params[5] & IORING_FEAT_SINGLE_MMAP == 0 {
            return Err(io::Error::other("a kernel before 5.4"));
        }
        // The larger of both rings: the completion ring's entries lie last, 16 bytes each.
        let size = (params[25] + params[1] * 16).max(params[16] + params[0] * 4) as usize;
        let rings = map(fd, size, IORING_OFF_SQ_RING)?;
        let entries = map(fd, params[0] as usize * SQE_WORDS * 8, IORING_OFF_SQES)?.cast();
        Ok(Ring { fd, rings, entries, params })
    }

    /// The word `index` bytes into the rings.
    fn word(&self, index: u32) -> &'static AtomicU32 {
        // SAFETY: the offsets come from the kernel, are aligned, and the mapping is never unmapped.
        unsafe { AtomicU32::from_ptr(self.rings.add(index as usize).cast()) }
    }

    /// Completions so far.
    fn tail(&self) -> &'static AtomicU32 {
        self.word(self.params[21])
    }

    fn submit(&self, operation: u8, socket: i32, buffer: u64) -> io::Result<()> {
        let entry = [
            u64::from(operation) | u64::from(socket.cast_unsigned()) << 32,
            0,
            buffer,
            LEN as u64,
            0,
            0,
            0,
            0,
        ];
        let tail = self.word(self.params[11]);
        let next = tail.load(Ordering::Relaxed);
        let slot = next & self.word(self.params[12]).load(Ordering::Relaxed);
        // SAFETY: the slot is masked to the ring's size; the kernel reads it only after the tail.
        unsafe {
            self.entries.add(slot as usize * SQE_WORDS).cast::<[u64; SQE_WORDS]>().write(entry)
        };
        self.word(self.params[16] + slot * 4).store(slot, Ordering::Relaxed);
        tail.store(next.wrapping_add(1), Ordering::Release);
        // SAFETY: no memory is passed.
        let submitted = check(unsafe {
            libc::syscall(libc::SYS_io_uring_enter, self.fd, 1_u32, 0_u32, 0_u32, 0_usize, 0_usize)
        })?;
        if submitted == 1 { Ok(()) } else { Err(io::Error::other("nothing was submitted")) }
    }

    /// Takes the one completion; bytes that it moved.
    fn complete(&self) -> io::Result<u64> {
        let head = self.word(self.params[20]);
        let next = head.load(Ordering::Relaxed);
        wait(|| self.tail().load(Ordering::Acquire) != next)?;
        let slot = next & self.word(self.params[22]).load(Ordering::Relaxed);
        let result = self.word(self.params[25] + slot * 16 + 8).load(Ordering::Relaxed);
        head.store(next.wrapping_add(1), Ordering::Release);
        u64::try_from(result.cast_signed())
            .map_err(|_| io::Error::from_raw_os_error(-result.cast_signed()))
    }
}

fn map(fd: i32, size: usize, offset: i64) -> io::Result<*mut u8> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let shared = libc::MAP_SHARED | libc::MAP_POPULATE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), size, access, shared, fd, offset) };
    if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(start.cast()) }
}
