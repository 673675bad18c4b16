//! What a TLS handshake says in clear: ClientHello and ServerHello (RFC 8446 section 4.1, RFC 5246
//! section 7.4.1).
//!
//! The hellos come from strangers, cut or not: lists are read as far as they go, at most [`MAX_HELLO`]
//! bytes a direction are kept, and only until both hellos have been read.

mod cipher;
mod hello;
mod recordable;

use super::Direction;
pub use cipher::cipher_name;

/// Bytes kept of a direction: a ClientHello with post-quantum keys has 1.8 KB.
const MAX_HELLO: usize = 4096;
/// Calls looked at: a hello that comes in more pieces is given up.
const MAX_CALLS: u8 = 32;
/// Longest server name (RFC 1035: 255) and application protocol (RFC 7301: 255) kept.
const MAX_NAME: usize = 255;

/// Record header.
const HEADER: usize = 5;
const HANDSHAKE: u8 = 22;

/// What both hellos said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Version, as on the wire: `0x0304` is TLS 1.3.
    pub version: Option<u16>,
    /// Cipher suite, by its number in the IANA registry.
    pub cipher: Option<u16>,
    /// Server name that the client asked for, empty without one.
    pub server_name: String,
    /// Application protocol that the server chose in clear (TLS 1.2), empty otherwise.
    pub protocol: String,
}

impl Facts {
    /// `1.3`, `1.2`…; `None` while unknown.
    pub fn version_name(&self) -> Option<&'static str> {
        Some(match self.version? {
            0x0304 => "1.3",
            0x0303 => "1.2",
            0x0302 => "1.1",
            0x0301 => "1.0",
            _ => return None,
        })
    }
}

/// The beginning of a connection.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    /// Sent and received.
    sides: [Side; 2],
    calls: u8,
    facts: Facts,
}

#[derive(Clone, Debug, Default)]
struct Side {
    bytes: Vec<u8>,
    done: bool,
}

impl Handshake {
    /// Takes what a call moved, of which `bytes` were captured. True when nothing more is to be learnt.
    pub fn take(&mut self, direction: Direction, bytes: &[u8], len: u64) -> bool {
        self.calls = self.calls.saturating_add(1);
        let [sent, received] = &mut self.sides;
        let side = match direction {
            Direction::Send => sent,
            Direction::Receive => received,
        };
        if !side.done {
            let room = MAX_HELLO.saturating_sub(side.bytes.len());
            side.bytes.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            let cut = len > bytes.len() as u64 || bytes.len() > room;
            let messages = messages(&side.bytes);
            match hello::read(&messages.bytes, &mut self.facts) {
                hello::Outcome::Read => side.done = true,
                hello::Outcome::NeedMore => side.done = cut || messages.ended,
                hello::Outcome::Other => side.done = true,
            }
        }
        if side.done {
            side.bytes = Vec::new();
        }
        self.calls >= MAX_CALLS || self.sides.iter().all(|side| side.done)
    }

    /// `bytes`, which [`Handshake::take`] is about to get, as they may be recorded: with filler for all
    /// that is not read.
    pub fn recordable(&self, direction: Direction, bytes: &[u8]) -> Vec<u8> {
        let [sent, received] = &self.sides;
        let side = match direction {
            Direction::Send => sent,
            Direction::Receive => received,
        };
        if side.done {
            return Vec::new();
        }
        let room = MAX_HELLO.saturating_sub(side.bytes.len());
        let stream = [&side.bytes, bytes.get(..room).unwrap_or(bytes)].concat();
        recordable::recordable(&stream).split_off(side.bytes.len())
    }

    /// What was learnt.
    pub fn into_facts(self) -> Facts {
        self.facts
    }
}

struct Messages {
    bytes: Vec<u8>,
    /// Something that is no handshake in clear follows.
    ended: bool,
}

/// The handshake messages in a stream's first records, as far as they have come.
fn messages(stream: &[u8]) -> Messages {
    let mut found = Messages { bytes: Vec::new(), ended: false };
    let mut rest = stream;
    while let [kind, _, _, high, low, after @ ..] = rest {
        if *kind != HANDSHAKE {
            found.ended = true;
            break;
        }
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        found.bytes.extend_from_slice(after.get(..len).unwrap_or(after));
        rest = rest.get(HEADER + len..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests;
