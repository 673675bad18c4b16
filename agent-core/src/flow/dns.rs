//! DNS answers: which name was asked, and which addresses it has (RFC 1035, RFC 3596).
//!
//! The bytes come from any server that a program asks. Every length is checked, names are followed a
//! bounded number of steps and backwards only, so that compression cannot loop, and the number of
//! records looked at is bounded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the header (RFC 1035, section 4.1.1).
const HEADER: usize = 12;

/// Longest name in presentation form; on the wire 255 bytes (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 255;

/// Most labels of a name, and most pointers that are followed in one: a name of 255 bytes has at most
/// 127 labels.
const MAX_LABELS: usize = 127;

/// Records looked at in one answer. A large answer over UDP has about 80.
const MAX_RECORDS: usize = 128;

/// Addresses kept of one answer.
pub const MAX_ADDRESSES: usize = 64;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name that was asked, in lower case, without the final dot.
    pub name: String,
    /// Its addresses (through any CNAME), with the seconds for which each holds.
    pub addresses: Vec<(IpAddr, u32)>,
}

/// Reads one message. `None` for what is no answer with addresses to one question: queries, errors,
/// other types, and bytes that are no DNS. A message that was cut gives what stands before the cut.
pub fn answer(message: &[u8]) -> Option<Answer> {
    let flags = word(message, 2)?;
    // QR is set, the opcode is QUERY, and the code says no error.
    let is_answer = flags & 0x8000 != 0 && flags & 0x7800 == 0 && flags & 0x000f == 0;
    if !is_answer || word(message, 4)? != 1 {
        return None;
    }
    let records = usize::from(word(message, 6)?).min(MAX_RECORDS);
    let mut name = String::new();
    let mut at = read_name(message, HEADER, Some(&mut name))?;
    let class = word(message, at + 2)?;
    if name.is_empty() || class != CLASS_IN {
        return None;
    }
    at += 4;
    let mut addresses = Vec::new();
    for _ in 0..records {
        let Some((address, next)) = record(message, at) else { break };
        if addresses.len() < MAX_ADDRESSES {
            addresses.extend(address);
        }
        at = next;
    }
    (!addresses.is_empty()).then_some(Answer { name, addresses })
}

/// The record at `at`: its address, when it has one, and where the next begins.
fn record(message: &[u8], at: usize) -> Option<(Option<(IpAddr, u32)>, usize)> {
    let fixed = read_name(message, at, None)?;
    let (kind, class) = (word(message, fixed)?, word(message, fixed + 2)?);
    let ttl = u32::from(word(message, fixed + 4)?) << 16 | u32::from(word(message, fixed + 6)?);
    let len = usize::from(word(message, fixed + 8)?);
    let data = message.get(fixed + 10..fixed + 10 + len)?;
    let address = match kind {
        TYPE_A => <[u8; 4]>::try_from(data).ok().map(|a| IpAddr::V4(Ipv4Addr::from(a))),
        TYPE_AAAA => <[u8; 16]>::try_from(data).ok().map(|a| IpAddr::V6(Ipv6Addr::from(a))),
        _ => None,
    };
    let address = address.filter(|_| class == CLASS_IN).map(|address| (address, ttl));
    Some((address, fixed + 10 + len))
}

/// Passes a name that begins at `at`, and writes it to `into`. Gives where what follows it begins.
///
/// A pointer leads to an earlier place than the one it stands at, or is refused: so there is no loop.
fn read_name(message: &[u8], at: usize, mut into: Option<&mut String>) -> Option<usize> {
    let (mut at, mut end) = (at, None);
    for _ in 0..=MAX_LABELS {
        let len = usize::from(*message.get(at)?);
        match len {
            0 => return Some(end.unwrap_or(at + 1)),
            1..=63 => {
                let label = message.get(at + 1..at + 1 + len)?;
                if let Some(name) = into.as_deref_mut() {
                    push_label(name, label)?;
                }
                at += 1 + len;
            }
            // Two bits and 14 bits of offset (RFC 1035, section 4.1.4).
            192..=255 => {
                let target = usize::from(word(message, at)?) & 0x3fff;
                end = end.or(Some(at + 2));
                if into.is_none() {
                    return end;
                }
                if target >= at {
                    return None;
                }
                at = target;
            }
            _ => return None,
        }
    }
    None
}

/// Appends a label. What is no letter, digit, hyphen or underscore is shown as `?`: the name goes to
/// terminals and backends.
fn push_label(name: &mut String, label: &[u8]) -> Option<()> {
    if name.len() + label.len() + 1 > MAX_NAME {
        return None;
    }
    if !name.is_empty() {
        name.push('.');
    }
    let shown = label.iter().map(|&byte| match byte {
        b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte),
        b'A'..=b'Z' => char::from(byte.to_ascii_lowercase()),
        _ => '?',
    });
    name.extend(shown);
    Some(())
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at.checked_add(2)?)?;
    <[u8; 2]>::try_from(bytes).ok().map(u16::from_be_bytes)
}
