//! Standard error for log lines, which no thread of the agent waits for.
//!
//! Log lines come from whoever has something to say, also from the threads that empty the rings. A
//! terminal with ^S or a pipe that nobody reads blocks who writes to it, so a thread of its own
//! writes; what does not fit into its queue is left out, and the next line says how many were.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that may wait: some thousand lines. A reader that is further behind reads the past.
const MAX_QUEUED: usize = 256 * 1024;

/// The queue of standard error, made with the first line; `None` when there can be no more threads.
static QUEUE: OnceLock<Option<Queue>> = OnceLock::new();

/// One line's way out.
pub(super) struct Stderr;

/// For each line.
pub(super) fn stderr() -> Stderr {
    Stderr
}

impl Write for Stderr {
    /// Takes all of `line`, or leaves it out.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let queue = QUEUE.get_or_init(|| Queue::start(Box::new(io::stderr())).ok());
        match queue {
            Some(queue) => queue.put(line),
            None => io::stderr().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until all lines are written, at most this long; whether they are.
pub fn drain(patience: Duration) -> bool {
    match QUEUE.get() {
        Some(Some(queue)) => queue.drain(patience),
        _ => true,
    }
}

#[derive(Clone)]
struct Queue(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// A line is with the writer.
    writing: bool,
    left_out: u64,
}

impl Queue {
    /// A queue, and a thread that writes what is in it.
    fn start(to: Box<dyn Write + Send>) -> io::Result<Queue> {
        let queue = Queue(Arc::default());
        let writer = queue.clone();
        std::thread::Builder::new()
            .name("kernspan-log".to_owned())
            .spawn(move || writer.write_for_ever(to))?;
        Ok(queue)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let mut state = self.state();
        if state.bytes + line.len() > MAX_QUEUED {
            state.left_out += 1;
            return;
        }
        if state.left_out > 0 {
            let left_out = std::mem::take(&mut state.left_out);
            let note = format!("{left_out} log lines were left out: standard error took no more\n");
            state.push(note.into_bytes());
        }
        state.push(line.to_vec());
        self.0.1.notify_all();
    }

    fn write_for_ever(&self, mut to: Box<dyn Write + Send>) {
        let mut state = self.state();
        loop {
            while let Some(line) = state.lines.pop_front() {
                state.writing = true;
                drop(state);
                // What cannot be said cannot be complained about either.
                let _ = to.write_all(&line).and_then(|()| to.flush());
                state = self.state();
                state.bytes -= line.len();
                state.writing = false;
            }
            self.0.1.notify_all();
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn drain(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        while state.writing || !state.lines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.1.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl State {
    fn push(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_reader_that_stalls_costs_lines_and_no_time_and_is_told() {
        let (mut reader, writer) = io::pipe().unwrap();
        let queue = Queue::start(Box::new(writer)).unwrap();
        let line = [b'x'; 1000];
        let begin = Instant::now();
        (0..1000).for_each(|_| queue.put(&line));
        assert!(!queue.drain(Duration::from_millis(50)));
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        let lost = queue.state().left_out;
        // And once more the queue, where the writer took all of it in the middle.
        assert!((400..800).contains(&lost), "64 KiB and the queue fit, {lost} were left out");
        let mut taken = vec![0; 1000 * (1000 - lost as usize)];
        reader.read_exact(&mut taken).unwrap();
        assert!(queue.drain(Duration::from_secs(5)));
        queue.put(b"back\n");
        let expected =
            format!("{lost} log lines were left out: standard error took no more\nback\n");
        let mut rest = vec![0; expected.len()];
        reader.read_exact(&mut rest).unwrap();
        assert_eq!(String::from_utf8(rest).unwrap(), expected);
        assert_eq!(queue.state().left_out, 0);
    }
}
