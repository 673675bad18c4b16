//! Standard error for log lines, which no thread of the agent waits for.
//!
//! Log lines are written by whoever has something to say, also by the threads that empty the rings.
//! Where standard error takes no more (a terminal with ^S, a pipe that nobody reads), a line waits
//! for [`PATIENCE_MS`] once, and is left out from then on until there is room again; the next line
//! says how many were.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a reader may take longer than usual without a line being lost, ms.
const PATIENCE_MS: i64 = 100;

/// A pipe that is ready takes as much without blocking (`PIPE_BUF`, pipe(7)).
const PIECE: usize = 4096;

/// Lines left out since the last one that was written.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// One line's way out.
pub(super) struct Stderr;

/// For each line.
pub(super) fn stderr() -> Stderr {
    Stderr
}

impl Write for Stderr {
    /// Takes all of `line`, or leaves it out.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        put(stderr.as_fd(), &LEFT_OUT, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn put(to: BorrowedFd<'_>, left_out: &AtomicU64, line: &[u8]) {
    let before = left_out.load(Ordering::Relaxed);
    let patience = if before == 0 { PATIENCE_MS } else { 0 };
    if !is_ready(to, patience) {
        left_out.fetch_add(1, Ordering::Relaxed);
        return;
    }
    if before > 0 {
        left_out.fetch_sub(before, Ordering::Relaxed);
        let note = format!("{before} log lines were left out: standard error took no more\n");
        let _ = rustix::io::write(to, note.as_bytes());
    }
    for piece in line.chunks(PIECE) {
        // What cannot be said cannot be complained about either.
        if !is_ready(to, PATIENCE_MS) || rustix::io::write(to, piece).is_err() {
            return;
        }
    }
}

/// True when a piece can be written without waiting, at once or within `patience_ms`.
fn is_ready(to: BorrowedFd<'_>, patience_ms: i64) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
    let timeout = Timespec { tv_sec: 0, tv_nsec: patience_ms * 1_000_000 };
    poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::time::{Duration, Instant};

    #[test]
    fn a_pipe_that_takes_no_more_costs_lines_and_no_time_and_says_so() {
        let (mut reader, writer) = io::pipe().unwrap();
        let (left_out, line) = (AtomicU64::new(0), [b'x'; 999]);
        let begin = Instant::now();
        for _ in 0..1000 {
            put(writer.as_fd(), &left_out, &line);
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        let lost = left_out.load(Ordering::Relaxed);
        assert!((800..1000).contains(&lost), "64 KiB fit, {lost} lines were left out");
        let mut taken = vec![0; 999 * (1000 - lost as usize)];
        reader.read_exact(&mut taken).unwrap();
        put(writer.as_fd(), &left_out, b"back\n");
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(
            rest,
            format!("{lost} log lines were left out: standard error took no more\nback\n")
        );
        assert_eq!(left_out.load(Ordering::Relaxed), 0);
    }
}
