//! Conversations.

use crate::probe::load::FlowSizes;

/// Enough to see whether this kernel takes the programs.
pub const SIZES_TO_TRY: FlowSizes = FlowSizes { ring: 1 << 12, datagrams: 64, peers: 64 };
