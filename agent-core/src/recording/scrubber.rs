//! A shard and the copies of its records on their way into a recording.
//!
//! Every captured byte of a copy is filler at first. What the shard hands to HTTP/1 is followed by
//! a [`Conversation`], and only heads and framing are put back. A copy leaves when nothing in it
//! waits for a decision any more, and never before those in front of it: the file keeps the order
//! of the ring.

use super::conversation::{Conversation, Patch};
use crate::connection::{Shard, ShardOutput, shape};
use crate::event::{Event, record_len};
use crate::message::{Signal, Started};
use crate::protocol::{Direction, Input};
use crate::redact;
use agent_common::record::direction;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::VecDeque;
use zerocopy::IntoBytes;

/// Bytes that wait at most. Beyond it the oldest copy leaves with filler in place of what is not
/// decided, and its connection may replay differently: [`Scrubber::forced`] counts these.
const MAX_WAITING: usize = 8 << 20;

/// How long a copy waits for a decision, ns of record time: a start line that is not complete
/// by then may never be.
const MAX_WAIT_NS: u64 = 2_000_000_000;

/// Byte in place of payload. No start line, TLS record or HTTP/2 frame begins with it.
const FILLER: u8 = b'?';

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
    conversations: HashMap<u64, Conversation, RandomState>,
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
        shard.ingest(event, &mut Tap { out, scrubber: self });
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
        shard.idle(now_boot_ns, &mut Tap { out, scrubber: self });
        self.release(shard, now_boot_ns, release);
    }

    /// As [`Shard::finish`].
    pub fn finish<O: ShardOutput>(
        &mut self,
        shard: &mut Shard,
        out: &mut O,
        release: &mut impl FnMut(Released<'_>),
    ) {
        shard.finish(&mut Tap { out, scrubber: self });
        self.conversations.clear();
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
            let waits = copy.cookie != 0 && self.waits(shard, copy.cookie);
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

    fn waits(&self, shard: &mut Shard, cookie: u64) -> bool {
        shard.waits(cookie) || self.conversations.get(&cookie).is_some_and(Conversation::waits)
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

/// A copy with filler in place of captured bytes, but for what shows that they are TLS or HTTP/2.
fn copy(event: &Event<'_>) -> Copy {
    let mut bytes = Vec::with_capacity(record_len(event));
    let fixed = match event {
        Event::Connection(record, _) => record.as_bytes(),
        Event::Payload(record, _) => record.as_bytes(),
        Event::Closing(record) => record.as_bytes(),
        Event::Fork(record) => record.as_bytes(),
        Event::Exec(record, _) => record.as_bytes(),
        Event::Exit(record) => record.as_bytes(),
    };
    bytes.extend_from_slice(fixed);
    let payload = bytes.len();
    let (mut cookie, mut way, mut position) = (0, 0, 0);
    match event {
        Event::Connection(_, path) => bytes.extend_from_slice(path),
        Event::Payload(record, captured) => {
            (cookie, way, position) = (record.cookie, record.header.direction, record.position);
            bytes.resize(payload + captured.len(), FILLER);
            let len = u64::from(record.header.total_len);
            for range in shape(captured, len) {
                let from = captured.get(range.clone()).unwrap_or_default();
                let range = payload + range.start..payload + range.end;
                if let Some(to) = bytes.get_mut(range).filter(|to| to.len() == from.len()) {
                    to.copy_from_slice(from);
                }
            }
        }
        Event::Exec(_, block) => bytes.resize(payload + block.len(), FILLER),
        Event::Closing(_) | Event::Fork(_) | Event::Exit(_) => {}
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
}

/// Puts kept bytes back into the waiting copies of one connection.
struct Keep<'a> {
    cookie: u64,
    copies: &'a mut Copies,
}

impl Patch for Keep<'_> {
    fn patch(&mut self, way: Direction, position: u64, bytes: &[u8]) {
        let way = match way {
            Direction::Send => direction::SEND,
            Direction::Receive => direction::RECEIVE,
        };
        // From the back: the latest record is the one, nearly always.
        let mut left = bytes.len();
        for copy in self.copies.queue.iter_mut().rev() {
            if (copy.cookie, copy.way) == (self.cookie, way) && left > 0 {
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

/// Passes everything on, and follows what goes to the protocol.
struct Tap<'a, O> {
    out: &'a mut O,
    scrubber: &'a mut Scrubber,
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

    fn given(&mut self, cookie: u64, input: &Input<'_>) {
        let Scrubber { copies, conversations, .. } = &mut *self.scrubber;
        if matches!(input, Input::Closed { .. }) {
            conversations.remove(&cookie);
            return;
        }
        let conversation = conversations.entry(cookie).or_default();
        let mut keep = Keep { cookie, copies };
        match *input {
            Input::Segment(segment) => conversation.segment(&segment, &mut keep),
            Input::Gap { direction, len, .. } => conversation.gap(direction, len, &mut keep),
            Input::End { .. } | Input::Closed { .. } => {}
        }
        self.out.given(cookie, input);
    }
}
