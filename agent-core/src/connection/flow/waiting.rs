//! Records that came before those they follow.

use super::Flow;
use crate::connection::held::Held;
use crate::connection::shard::ShardOutput;
use crate::connection::stream::Place;
use crate::connection::work::Step;
use crate::protocol::Direction;
use agent_common::record::{self, direction};

impl Flow {
    /// Keeps a copy of a record that came too early. False when there is no room.
    pub(super) fn hold<O: ShardOutput>(
        &mut self,
        record: &record::Payload,
        bytes: &[u8],
        step: &mut Step<'_, O>,
    ) -> bool {
        let work = &mut *step.work;
        if work.held_bytes + bytes.len() > work.config.max_held_bytes {
            return false;
        }
        let held = match &mut self.held {
            Some(held) => held,
            none => {
                let deadline = work.wait(self.cookie, record.header.boot_ns);
                none.insert(Box::new(Held::new(deadline, record.header.direction)))
            }
        };
        let room = held.has_room();
        if room {
            held.direction = record.header.direction;
            held.insert(record, bytes);
            work.counts.held += 1;
            work.held_bytes += bytes.len();
        }
        room
    }

    /// Passes on the held records that follow without a gap.
    pub(super) fn drain<O: ShardOutput>(&mut self, step: &mut Step<'_, O>) {
        while let Some(held) = &self.held {
            let Some(position) = held.first_position() else { break };
            let way = if held.direction == direction::SEND {
                Direction::Send
            } else {
                Direction::Receive
            };
            if matches!(self.stream(way).place(position), Place::Ahead { .. }) {
                return;
            }
            self.take_held(step);
        }
        self.held.take_if(|held| held.closing.is_none());
    }

    /// Passes on all held records: what is missing before them is lost.
    pub(super) fn release<O: ShardOutput>(&mut self, step: &mut Step<'_, O>) {
        while self.held.as_ref().is_some_and(|held| !held.is_empty()) {
            self.take_held(step);
        }
        self.held.take_if(|held| held.closing.is_none());
    }

    pub(super) fn take_held<O: ShardOutput>(&mut self, step: &mut Step<'_, O>) {
        if let Some(first) = self.held.as_mut().and_then(|held| held.pop()) {
            step.work.counts.held -= 1;
            step.work.held_bytes -= first.bytes.len();
            self.take(&first.payload, &first.bytes, false, step);
        }
    }
}
