//! Conversations: `kernspan flows`, and the thread that follows them in a run.

mod command;
mod report;
mod run;

pub use command::list;
pub use report::{FlowPart, Surroundings};
pub use run::{FlowParts, FlowThread};

use crate::probe::load::FlowSizes;

/// Enough to see whether this kernel takes the programs.
pub const SIZES_TO_TRY: FlowSizes = FlowSizes { ring: 1 << 12, datagrams: 64, peers: 64 };

/// Bytes of the flow ring: 5,000 ends of conversations, of which a loopback that does nothing else makes
/// 2,500 between two looks.
const RING: u32 = 1 << 20;

/// Threads that use unconnected UDP sockets at once; one that finds no room has messages without peer.
const PEERS: u32 = 4096;

/// Sizes for so many conversations. Half of them may be UDP at once: the kernel's map takes 192 bytes for
/// each it has room for, used or not, and what it evicts is counted.
pub fn sizes(table: u32) -> FlowSizes {
    FlowSizes { ring: RING, datagrams: table.div_ceil(2), peers: PEERS }
}
