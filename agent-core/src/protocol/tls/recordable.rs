//! What of a hello may be recorded: its shape and what is read of it.
//!
//! Random numbers, session ids, tickets and keys say nothing here and may be used to recognise somebody:
//! they become filler. Lengths stay, so that the rest is found where it was. A byte is judged by those
//! before it alone: a hello that comes in pieces becomes the same as in one.

use super::hello::{
    CLIENT_HELLO, PROTOCOLS, RANDOM, SERVER_HELLO, SERVER_NAME, SUPPORTED_VERSIONS,
};
use super::{HANDSHAKE, HEADER};
use crate::redact::FILLER;

/// The beginning of a direction, record headers included, as it may be recorded.
pub(super) fn recordable(stream: &[u8]) -> Vec<u8> {
    let mut kept = vec![FILLER; stream.len()];
    let mut message = Vec::new();
    let mut at = 0;
    while let Some(header) = stream.get(at..stream.len().min(at + HEADER)) {
        for (index, byte) in (at..).zip(header) {
            keep(&mut kept, index, *byte);
        }
        let [HANDSHAKE, _, _, high, low] = *header else { break };
        at += HEADER;
        let end = at + usize::from(u16::from_be_bytes([high, low]));
        message.extend(at..end.min(stream.len()));
        at = end;
    }
    let _ = Walk { stream, message: &message, kept: &mut kept }.hello();
    kept
}

fn keep(kept: &mut [u8], index: usize, byte: u8) {
    if let Some(to) = kept.get_mut(index) {
        *to = byte;
    }
}

/// Goes through the first message; `None` at its end.
struct Walk<'a> {
    stream: &'a [u8],
    /// Where in the stream the bytes lie that are left.
    message: &'a [usize],
    kept: &'a mut [u8],
}

impl Walk<'_> {
    fn hello(&mut self) -> Option<()> {
        let kind = self.number(1)?;
        let len = self.number(3)?;
        // What follows the hello is none of it.
        self.message = self.message.get(..len).unwrap_or(self.message);
        match u8::try_from(kind).ok()? {
            CLIENT_HELLO => {
                self.skip(2 + RANDOM)?;
                self.skip_block(1)?;
                self.skip_block(2)?;
                self.skip_block(1)?;
                self.extensions(&[SERVER_NAME])
            }
            SERVER_HELLO => {
                self.number(2)?;
                self.skip(RANDOM)?;
                self.skip_block(1)?;
                self.number(2)?;
                self.skip(1)?;
                self.extensions(&[SUPPORTED_VERSIONS, PROTOCOLS])
            }
            _ => None,
        }
    }

    /// Those whose content is `read`, and the lengths of the others.
    fn extensions(&mut self, read: &[u16]) -> Option<()> {
        let len = self.number(2)?;
        self.message = self.message.get(..len).unwrap_or(self.message);
        loop {
            let kind = u16::try_from(self.number(2)?).ok()?;
            let len = self.number(2)?;
            if read.contains(&kind) {
                for _ in 0..len {
                    self.number(1)?;
                }
            } else {
                self.skip(len)?;
            }
        }
    }

    /// A number of so many bytes, which stays.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        let mut number = 0;
        for _ in 0..bytes {
            let (index, rest) = self.message.split_first()?;
            let byte = *self.stream.get(*index)?;
            keep(self.kept, *index, byte);
            number = number << 8 | usize::from(byte);
            self.message = rest;
        }
        Some(number)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.message = self.message.get(bytes..)?;
        Some(())
    }

    /// A block whose length has so many bytes.
    fn skip_block(&mut self, bytes: usize) -> Option<()> {
        let len = self.number(bytes)?;
        self.skip(len)
    }
}
