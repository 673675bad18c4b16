//! Go's `crypto/tls`, which is linked into programs: found by the table of functions that the runtime needs for
//! itself, also where symbols are stripped.

use super::target::{Findings, Pieces};
use crate::runtime::go::Reader;
use agent_common::tls::{Site, go};
use agent_core::elf::Elf;
use agent_core::golang::{Place, ReadAt, tls};
use std::fs::File;

/// As shown.
pub const NAME: &str = "Go crypto/tls";

/// What every program with it has, whichever version made it.
const MARK: &[u8] = b"crypto/tls.(*Conn).";

/// Looks for it in a program.
pub fn look<'a>(file: &'a File, elf: &'a Elf<Pieces<'a>>, findings: &mut Findings) {
    match tls(&mut Paid { file: Reader(file), elf }) {
        Ok(Some(places)) => {
            findings.covered.push(NAME);
            findings.sites.extend(places.into_iter().map(|(offset, place)| (offset, site(place))));
        }
        Ok(None) => {}
        Err(fault) if elf.contains(&[MARK]).is_empty() => {
            tracing::trace!("a program in Go without TLS: {fault}");
        }
        Err(fault) => {
            tracing::debug!("the TLS of a program in Go stays unknown: {fault}");
            findings.blind.push(NAME);
        }
    }
}

/// The file, as far as its budget goes.
struct Paid<'a> {
    file: Reader<'a>,
    elf: &'a Elf<Pieces<'a>>,
}

impl ReadAt for Paid<'_> {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> usize {
        if self.elf.spend(buffer.len()) { self.file.read_at(offset, buffer) } else { 0 }
    }
}

fn site(place: Place) -> Site {
    match place {
        Place::Read => Site::go(go::READ),
        Place::Write => Site::go(go::WRITE),
        Place::Handshake => Site::go(go::HANDSHAKE),
        Place::Close => Site::go(go::CLOSE),
        Place::Copied { framed: true } => Site::go(go::COPIED).framed(),
        Place::Copied { framed: false } => Site::go(go::COPIED),
        Place::Written => Site::go(go::WRITTEN),
        Place::Return => Site::go(go::RETURN),
    }
}
