//! Go's `crypto/tls`, which is linked into programs: found by the table of functions that the runtime needs for
//! itself, also where symbols are stripped.

use crate::runtime::go::Reader;
use agent_common::tls::{Site, go};
use agent_core::golang::{Place, tls};
use std::fs::File;

/// As shown.
pub const NAME: &str = "Go crypto/tls";

/// The places of a program. `None` when it has none that can be probed.
pub fn sites(file: &File) -> Option<Vec<(u64, Site)>> {
    let places = tls(&mut Reader(file))
        .inspect_err(|fault| tracing::debug!("crypto/tls of a program stays unknown: {fault}"))
        .ok()??;
    Some(places.into_iter().map(|(offset, place)| (offset, site(place))).collect())
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
