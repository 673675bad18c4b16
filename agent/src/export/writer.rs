//! Text to a pipe, a terminal or a file.
//!
//! Whoever reads it may stop reading (a pager, a terminal with ^S, a full pipe), and then a write
//! does not return. So a run writes on a thread of its own, behind a queue bounded in bytes: what
//! does not fit is lost and counted, and the assembler never waits. A replay writes inline: nobody
//! is kept waiting but itself, and nothing may be lost.

mod sink;

use agent_core::ledger::{Entry, Side};
use sink::Sink;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::ops::AddAssign;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that may wait: about a second of JSON's requests at 10k requests a second, or some
/// thousand screens. A reader that is further behind reads the past.
pub const MAX_QUEUED: usize = 8 << 20;

/// What the queue takes for each chunk beside its text, B.
const PER_CHUNK: usize = 128;

/// Numbers of spans, of log records and of data points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Items {
    pub spans: u64,
    pub log_records: u64,
    pub data_points: u64,
}

/// Picks one of them.
pub type Of = fn(Items) -> u64;

impl AddAssign for Items {
    fn add_assign(&mut self, other: Items) {
        self.spans += other.spans;
        self.log_records += other.log_records;
        self.data_points += other.data_points;
    }
}

/// Something that is written whole or not at all, as far as the other side lets us.
pub struct Chunk {
    /// What to write, or what [`Format`] makes text of.
    pub body: Vec<u8>,
    /// What is in it.
    pub items: Items,
}

/// Makes text of a chunk's body, where it is written. An error loses the chunk.
pub type Format = fn(Items, Vec<u8>) -> io::Result<Vec<u8>>;

/// Why items were not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The queue was full: the newest go.
    QueueFull,
    /// The system refused the write.
    WriteFailed,
    /// Nobody will ever read it: the pipe's other end is closed.
    ReaderGone,
    /// The time to write at the end was over.
    Shutdown,
}

impl Loss {
    const ALL: [Loss; 4] = [Loss::QueueFull, Loss::WriteFailed, Loss::ReaderGone, Loss::Shutdown];

    fn name(self) -> &'static str {
        match self {
            Loss::QueueFull => "queue_full",
            Loss::WriteFailed => "write_failed",
            Loss::ReaderGone => "reader_gone",
            Loss::Shutdown => "shutdown",
        }
    }
}

/// Where items went.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    held: Items,
    written: Items,
    lost: [Items; Loss::ALL.len()],
}

impl Account {
    fn settle(&mut self, items: Items, result: Result<(), Loss>) {
        *match result {
            Ok(()) => &mut self.written,
            Err(loss) => &mut self.lost[loss as usize],
        } += items;
    }
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// The caller: it waits for the reader, and nothing is lost by that.
    Inline,
    /// A thread: the caller never waits, and what the reader leaves behind is lost and counted.
    Thread,
}

/// Standard output without a buffer and without its lock, which a write that does not return
/// would hold for ever.
///
/// # Errors
/// Those of duplicating the descriptor: it is closed, or there can be no more.
pub fn stdout() -> io::Result<Box<dyn Write + Send>> {
    Ok(Box::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
}

/// See the module.
pub struct Writer(Mode);

enum Mode {
    Inline { sink: Sink, account: Account },
    Thread(Arc<Queue>),
}

impl Writer {
    /// On a thread of its own or not, as `writing` says.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn open(
        writing: Writing,
        place: String,
        out: Box<dyn Write + Send>,
        format: Format,
    ) -> io::Result<Writer> {
        match writing {
            Writing::Thread => Writer::spawn(place, out, format, MAX_QUEUED),
            Writing::Inline => Ok(Writer::inline(place, out, format)),
        }
    }

    /// Writes at once, in the caller.
    pub fn inline(place: String, out: Box<dyn Write + Send>, format: Format) -> Writer {
        let sink = Sink::new(place, out, format);
        Writer(Mode::Inline { sink, account: Account::default() })
    }

    /// Writes on a thread of its own.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn spawn(
        place: String,
        out: Box<dyn Write + Send>,
        format: Format,
        max_bytes: usize,
    ) -> io::Result<Writer> {
        let mut sink = Sink::new(place, out, format);
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            drained: Condvar::new(),
            max_bytes,
        });
        let shared = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("kernspan-write".to_owned())
            .spawn(move || shared.run(&mut sink))?;
        Ok(Writer(Mode::Thread(queue)))
    }

    /// Writes a chunk, or takes it to be written, or counts why not. Does not wait for a reader
    /// where there is a thread.
    pub fn write(&mut self, chunk: Chunk) {
        match &mut self.0 {
            Mode::Inline { sink, account } => account.settle(chunk.items, sink.write(chunk)),
            Mode::Thread(queue) => queue.push(chunk),
        }
    }

    /// Waits until all is written, or until `deadline`; what is not written by then is counted as
    /// lost, and so is what follows.
    pub fn close(&self, deadline: Instant) {
        if let Mode::Thread(queue) = &self.0 {
            queue.close(deadline);
        }
    }

    /// Its account now.
    pub fn settled(&self) -> Settled {
        Settled(match &self.0 {
            Mode::Inline { account, .. } => *account,
            Mode::Thread(queue) => queue.lock().account,
        })
    }

    /// True when nobody will read any more, ever.
    pub fn is_gone(&self) -> bool {
        match &self.0 {
            Mode::Inline { sink, .. } => sink.is_gone(),
            Mode::Thread(queue) => queue.lock().gone,
        }
    }
}

impl Drop for Writer {
    /// The thread ends when its current write returns; nobody waits for that.
    fn drop(&mut self) {
        self.close(Instant::now());
    }
}

/// The account of a writer at one moment.
pub struct Settled(Account);

impl Settled {
    /// What waits or is being written.
    pub fn held(&self) -> Items {
        self.0.held
    }

    /// Adds what was written and what was lost of the kind that `of` picks.
    pub fn entries(
        &self,
        stage: &'static str,
        unit: &'static str,
        of: Of,
        entries: &mut Vec<Entry>,
    ) {
        let mut add = |side, items| entries.push(Entry { stage, unit, side, count: of(items) });
        add(Side::Out, self.0.written);
        for (loss, items) in Loss::ALL.into_iter().zip(self.0.lost) {
            add(Side::Lost(loss.name()), items);
        }
    }
}

/// What waits to be written.
struct Queue {
    state: Mutex<State>,
    /// There is something to write, or nothing will follow.
    changed: Condvar,
    /// All is written.
    drained: Condvar,
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Chunk>,
    /// Charged for what waits and what is being written.
    bytes: usize,
    account: Account,
    closed: bool,
    gone: bool,
}

impl Queue {
    fn push(&self, chunk: Chunk) {
        let mut state = self.lock();
        let charge = charge(&chunk);
        if state.closed {
            return state.account.settle(chunk.items, Err(Loss::Shutdown));
        }
        if state.bytes + charge > self.max_bytes {
            return state.account.settle(chunk.items, Err(Loss::QueueFull));
        }
        state.bytes += charge;
        state.account.held += chunk.items;
        state.waiting.push_back(chunk);
        self.changed.notify_one();
    }

    fn run(&self, sink: &mut Sink) {
        while let Some(chunk) = self.next() {
            let (items, charge) = (chunk.items, charge(&chunk));
            let result = sink.write(chunk);
            let mut state = self.lock();
            state.gone = sink.is_gone();
            if state.closed && state.bytes == 0 {
                // Given up, and counted as lost, while it was being written.
                return;
            }
            state.bytes -= charge;
            let held = &mut state.account.held;
            held.spans -= items.spans;
            held.log_records -= items.log_records;
            held.data_points -= items.data_points;
            state.account.settle(items, result);
            if state.bytes == 0 {
                self.drained.notify_all();
            }
        }
    }

    /// Waits for a chunk; none when nothing will follow.
    fn next(&self) -> Option<Chunk> {
        let mut state = self.lock();
        loop {
            if let Some(chunk) = state.waiting.pop_front() {
                return Some(chunk);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self, deadline: Instant) {
        let mut state = self.lock();
        state.closed = true;
        self.changed.notify_one();
        while state.bytes > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                break;
            }
            let waited = self.drained.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let lost = std::mem::take(&mut state.account.held);
        state.account.settle(lost, Err(Loss::Shutdown));
        state.waiting.clear();
        state.bytes = 0;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn charge(chunk: &Chunk) -> usize {
    chunk.body.len() + PER_CHUNK
}

#[cfg(test)]
mod tests;
