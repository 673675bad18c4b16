//! Bytes of the flow ring and the iterator to typed, borrowed records.
//!
//! As in [`crate::event`], every byte is hostile: lengths are checked against the slot.

use crate::event::DecodeError;
use agent_common::record::{DnsAnswer, Flow, Header, VERSION, kind};
use zerocopy::FromBytes;

/// One record of the flow ring.
#[derive(Clone, Copy, Debug)]
pub enum FlowRecord<'a> {
    /// A conversation.
    Flow(&'a Flow),
    /// A DNS answer, with what was captured of the message.
    Dns(&'a DnsAnswer, &'a [u8]),
}

/// Reads one record. `slot` starts at a record, 8-byte aligned, and may be longer than it.
///
/// # Errors
/// [`DecodeError`] when the bytes are no record of this version.
pub fn decode(slot: &[u8]) -> Result<FlowRecord<'_>, DecodeError> {
    let short = |kind| DecodeError::Short { kind, len: slot.len() };
    let (header, _) = Header::ref_from_prefix(slot).map_err(|_| short(0))?;
    if header.version != VERSION {
        return Err(DecodeError::Version(header.version));
    }
    let kind = header.kind;
    match kind {
        kind::FLOW => {
            let (flow, _) = Flow::ref_from_prefix(slot).map_err(|_| short(kind))?;
            Ok(FlowRecord::Flow(flow))
        }
        kind::DNS_ANSWER => {
            let (answer, room) = DnsAnswer::ref_from_prefix(slot).map_err(|_| short(kind))?;
            let claimed = header.captured_len;
            let captured = usize::try_from(claimed).ok().and_then(|len| room.get(..len));
            let overlong = DecodeError::Overlong { kind, claimed, room: room.len() };
            captured.map(|bytes| FlowRecord::Dns(answer, bytes)).ok_or(overlong)
        }
        other => Err(DecodeError::Kind(other)),
    }
}

/// The records that the iterator wrote, one behind the other. What is left of a record that was cut
/// is left out. `bytes` is 8-byte aligned.
pub fn listed(bytes: &[u8]) -> impl Iterator<Item = &Flow> {
    bytes.chunks_exact(size_of::<Flow>()).filter_map(|slot| match decode(slot) {
        Ok(FlowRecord::Flow(flow)) => Some(flow),
        _ => None,
    })
}
