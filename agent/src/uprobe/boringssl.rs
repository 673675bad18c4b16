//! BoringSSL in a file without symbols: found by the shape of its functions, where that is certain.

use agent_common::tls::Site;
pub use agent_core::elf::boringssl::MARK;
use agent_core::elf::boringssl::find;
use agent_core::elf::{Elf, Image};

/// As shown.
pub const NAME: &str = "BoringSSL (no symbols)";

/// Its functions: offset, and what is there. None where it is not certain which they are. `marks`: addresses of
/// [`MARK`].
pub fn functions<I: Image>(elf: &Elf<I>, marks: &[u64]) -> Vec<(u64, Site)> {
    let Some(found) = find(elf, marks) else { return Vec::new() };
    vec![
        (found.read, Site::receive(0, 1, false)),
        (found.write, Site::send(0, 1, false)),
        (found.handshake, Site::silent(0)),
    ]
}
