//! BoringSSL in a file without symbols: found by the shape of its functions, where that is certain.

use agent_common::tls::Site;
use agent_core::elf::boringssl::find;
use agent_core::elf::{Elf, Image};

/// As shown.
pub const NAME: &str = "BoringSSL (no symbols)";

/// A text of each build: the path of a source file. OpenSSL's is a C file.
pub const MARK: &[u8] = b"ssl/ssl_lib.cc";

/// Its functions: offset, and what is there. None where it is not certain which they are.
pub fn functions<I: Image>(elf: &Elf<I>) -> Vec<(u64, Site)> {
    let Some(found) = find(elf) else { return Vec::new() };
    vec![
        (found.read, Site::receive(0, 1, false)),
        (found.write, Site::send(0, 1, false)),
        (found.handshake, Site::silent(0)),
    ]
}
