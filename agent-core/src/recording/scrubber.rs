//! A shard and the copies of its records on their way into a recording.
//!
//! Every captured byte of a copy is filler at first. What the protocol reads, and says that it
//! read, is put back: heads (scrubbed line by line) and framing. A copy leaves when nothing in it
//! waits for a decision any more, and never before those in front of it: the file keeps the order
//! of the ring.

use super::filler;
use super::line;
use crate::connection::{Shard, ShardOutput};
use crate::event::{Event, record_len};
use crate::message::{Signal, Started};
use crate::protocol::{Direction, Read};
use crate::redact;
use agent_common::record::direction;
use std::collections::VecDeque;
use zerocopy::IntoBytes;

/// Bytes that wait at most. Beyond it the oldest copy leaves with filler in place of what is not
/// decided, and its connection may replay differently: [`Scrubber::forced`] counts these.
const MAX_WAITING: usize = 8 << 20;

/// How long a copy waits for a decision, ns of record time: a head that is not complete by then
/// may never be. Longer than the timeouts for heads of common servers would make one slow client
/// hold back the whole file.
const MAX_WAIT_NS: u64 = 10_000_000_000;

/// What goes into the recording, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Released<'a> {
    /// A record, scrubbed.
    Record(&'a [u8]),
    /// [`Shard::idle`] was called with this boot time, ns.
    Tick(u64),
}

/// Follows one shard.
#[derive(Debug, Default)]
pub struct Scrubber {
    copies: Copies,
    forced: u64,
}

#[derive(Debug, Default)]
struct Copies {
    queue: VecDeque<Copy>,
    bytes: usize,
}

#[derive(Debug)]
struct Copy {
    /// 0 for what does not wait.
    cookie: u64,
    way: u8,
    position: u64,
    at_ns: u64,
    /// Where the captured bytes begin.
    payload: usize,
    /// Empty for a tick.
    bytes: Vec<u8>,
}

impl Scrubber {
    /// One without connections.
    pub fn new() -> Scrubber {
        Scrubber::default()
    }

    /// As [`Shard::ingest`]; hands what may be recorded to `release`.
    pub fn ingest<O: ShardOutput>(
        &mut self,
        shard: &mut Shard,
        event: &Event<'_>,
        out: &mut O,
        release: &mut impl FnMut(Released<'_>),
    ) {
        self.copies.push(copy(event));
        shard.ingest(event, &mut Tap { out, copies: &mut self.copies });
        self.release(shard, event.header().boot_ns, release);
    }

    /// As [`Shard::idle`].
    pub fn idle<O: ShardOutput>(
        &mut self,
        shard: &mut Shard,
        now_boot_ns: u64,
        out: &mut O,
        release: &mut impl FnMut(Released<'_>),
    ) {
        self.copies.push(Copy {
            cookie: 0,
            way: 0,
            position: 0,
            at_ns: now_boot_ns,
            payload: 0,
            bytes: Vec::new(),
        });
        shard.idle(now_boot_ns, &mut Tap { out, copies: &mut self.copies });
        self.release(shard, now_boot_ns, release);
    }

    /// As [`Shard::finish`].
    pub fn finish<O: ShardOutput>(
        &mut self,
        shard: &mut Shard,
        out: &mut O,
        release: &mut impl FnMut(Released<'_>),
    ) {
        shard.finish(&mut Tap { out, copies: &mut self.copies });
        while let Some(copy) = self.copies.pop() {
            release(copy.released());
        }
    }

    /// Copies that left undecided, because too much waited for too long.
    pub fn forced(&self) -> u64 {
        self.forced
    }

    fn release(&mut self, shard: &mut Shard, now: u64, release: &mut impl FnMut(Released<'_>)) {
        while let Some(copy) = self.copies.queue.front() {
            let waits = copy.cookie != 0 && shard.waits(copy.cookie);
            let forced =
                self.copies.bytes > MAX_WAITING || now.saturating_sub(copy.at_ns) > MAX_WAIT_NS;
            if waits && !forced {
                return;
            }
            self.forced += u64::from(waits);
            if let Some(copy) = self.copies.pop() {
                release(copy.released());
            }
        }
    }
}

/// A record of the process ring as it may be recorded: secrets of an argument block become filler
/// that redacts to the same.
pub fn scrub_process_record(event: &Event<'_>) -> Vec<u8> {
    let mut copy = copy(event);
    if let Event::Exec(_, block) = event {
        let args = copy.bytes.get_mut(copy.payload..).unwrap_or_default();
        args.copy_from_slice(block);
        redact::fill(args, redact::arg_block_ranges(block));
    }
    copy.bytes
}

/// A copy with filler in place of captured bytes.
fn copy(event: &Event<'_>) -> Copy {
    let mut bytes = Vec::with_capacity(record_len(event));
    let fixed = match event {
        Event::Connection(record, _) => record.as_bytes(),
        Event::Payload(record, _) => record.as_bytes(),
        Event::Closing(record) => record.as_bytes(),
        Event::Fork(record) => record.as_bytes(),
        Event::Exec(record, _) => record.as_bytes(),
        Event::Exit(record) => record.as_bytes(),
        Event::Shed(record) => record.as_bytes(),
        Event::ThreadContext(record) => record.as_bytes(),
    };
    bytes.extend_from_slice(fixed);
    let payload = bytes.len();
    let (mut cookie, mut way, mut position) = (0, 0, 0);
    match event {
        Event::Connection(_, path) => bytes.extend_from_slice(path),
        Event::Payload(record, captured) => {
            (cookie, way, position) = (record.cookie, record.header.direction, record.position);
            filler::put(captured, u64::from(record.header.total_len), &mut bytes);
        }
        Event::Exec(_, block) => bytes.resize(payload + block.len(), redact::FILLER),
        Event::Closing(_)
        | Event::Fork(_)
        | Event::Exit(_)
        | Event::Shed(_)
        | Event::ThreadContext(_) => {}
    }
    Copy { cookie, way, position, at_ns: event.header().boot_ns, payload, bytes }
}

impl Copy {
    fn released(&self) -> Released<'_> {
        if self.bytes.is_empty() {
            Released::Tick(self.at_ns)
        } else {
            Released::Record(&self.bytes)
        }
    }
}

impl Copies {
    fn push(&mut self, copy: Copy) {
        self.bytes += copy.bytes.len();
        self.queue.push_back(copy);
    }

    fn pop(&mut self) -> Option<Copy> {
        let copy = self.queue.pop_front()?;
        self.bytes -= copy.bytes.len();
        Some(copy)
    }

    /// Puts `bytes` back at their stream position.
    fn restore(&mut self, cookie: u64, way: Direction, position: u64, bytes: &[u8]) {
        let way = match way {
            Direction::Send => direction::SEND,
            Direction::Receive => direction::RECEIVE,
        };
        // From the back: the latest record is the one, nearly always.
        let mut left = bytes.len();
        for copy in self.queue.iter_mut().rev() {
            if (copy.cookie, copy.way) == (cookie, way) && left > 0 {
                left = left.saturating_sub(overlay(copy, position, bytes));
            }
        }
    }
}

/// Copies those of `bytes`, which lie at `position`, that the copy has captured; how many.
fn overlay(copy: &mut Copy, position: u64, bytes: &[u8]) -> usize {
    let captured = copy.bytes.get_mut(copy.payload..).unwrap_or_default();
    let ahead = position.wrapping_sub(copy.position);
    let behind = copy.position.wrapping_sub(position);
    let (to, from) = if ahead < captured.len() as u64 {
        (captured.get_mut(ahead as usize..), Some(bytes))
    } else if behind < bytes.len() as u64 {
        (Some(captured), bytes.get(behind as usize..))
    } else {
        (None, None)
    };
    let (Some(to), Some(from)) = (to, from) else { return 0 };
    let len = to.len().min(from.len());
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
    len
}

/// Passes everything on, and puts back what the protocol reads.
struct Tap<'a, O> {
    out: &'a mut O,
    copies: &'a mut Copies,
}

impl<O: ShardOutput> ShardOutput for Tap<'_, O> {
    fn signal(&mut self, signal: Signal) {
        self.out.signal(signal);
    }

    fn verdict(&mut self, cookie: u64, verdict: u32) {
        self.out.verdict(cookie, verdict);
    }

    fn reuse(&mut self) -> Option<Box<Started>> {
        self.out.reuse()
    }

    fn wants_reads(&self) -> bool {
        true
    }

    fn read(&mut self, cookie: u64, way: Direction, position: u64, bytes: &[u8], what: Read) {
        let mut bytes = bytes.to_vec();
        match what {
            Read::Framing | Read::Hello => {}
            Read::Text => bytes.fill(redact::FILLER),
            Read::Beginning => filler::beginning(&mut bytes),
            Read::Head => {
                if !line::head(&mut bytes) {
                    filler::lines(&mut bytes);
                }
            }
        }
        self.copies.restore(cookie, way, position, &bytes);
    }
}
