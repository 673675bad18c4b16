//! One object with its maps, as the kernel gets it: what is written into its code, how large its maps are, and
//! when they take their memory.

use super::{LoadError, Plan};
use crate::probe::{
    attach,
    control::PAYLOAD_RINGS,
    in_kernel, patch,
    plan::{Feature, Needs, PLAN, Side},
};
use agent_common::settings::{Offsets, Settings, feature};
use aya::{Ebpf, EbpfLoader};
use std::collections::HashSet;
use zerocopy::IntoBytes;

/// Maps that only the probes on TLS libraries use.
const TLS_MAPS: [&str; 11] = [
    "TLS_CALLS",
    "TLS_GO_CALLS",
    "TLS_OBJECTS",
    "TLS_SOCKETS",
    "TLS_WIRE",
    "RUST_PROCESSES",
    "RUST_CALLS",
    "RUST_OBJECTS",
    "RUST_RECEIVED",
    "RUST_WIRE",
    "RUST_ROOMS",
];

/// Those that take memory as they fill.
const GROWING_MAPS: [&str; 2] = ["TLS_SOCKETS", "TLS_OBJECTS"];

/// Before, a program could ask for memory where that must not be done, and the kernel warns of it in its log.
const GROWING: Needs = Needs { since: (6, 1), what: "memory for maps in any context" };

/// How many entries such a map has where all of its memory is taken at once: 4 MB both.
const MOST_AT_ONCE: u32 = 16_384;

/// Goroutines in calls of TLS, at least. A server has as many as connections.
const LEAST_GO_CALLS: u32 = 8192;

/// A ring that is not used: a page.
const SMALLEST_RING: u32 = 4096;

impl Plan<'_> {
    pub(super) fn open(
        &self,
        settings: &Settings,
        offsets: &Offsets,
        cast: Option<u32>,
        guess: &HashSet<Feature>,
    ) -> Result<(Ebpf, Vec<u8>), LoadError> {
        let mut object = self.object.to_vec();
        if settings.features & feature::ATOMIC_FETCH == 0 && self.side == Side::Untyped {
            patch::plain_additions(&mut object);
        }
        let grows = self.running.is(GROWING);
        if !grows {
            patch::preallocated(&mut object);
        }
        patch::casts(&mut object, cast);
        patch::constants(&mut object, settings, offsets);
        let mut loader = EbpfLoader::new();
        self.size_maps(&mut loader, settings, guess, grows);
        let ebpf = loader
            .btf(self.running.typed.as_ref())
            .override_global("SETTINGS", settings.as_bytes(), true)
            .load(&object)
            .map_err(|error| LoadError::Object(attach::chain(&error)))?;
        Ok((ebpf, object))
    }

    fn size_maps(
        &self,
        loader: &mut EbpfLoader<'_>,
        settings: &Settings,
        guess: &HashSet<Feature>,
        grows: bool,
    ) {
        for (name, number) in PAYLOAD_RINGS.iter().zip(0..) {
            if number < settings.payload_rings.max(1) {
                loader.map_max_entries(name, self.config.ring_size);
            }
        }
        if let Some(sizes) = self.config.flows {
            loader.map_max_entries("FLOW_RING", sizes.ring);
            loader.map_max_entries("DATAGRAMS", sizes.datagrams);
            loader.map_max_entries("PEERS", sizes.peers);
        }
        for entry in PLAN.iter().filter(|entry| !guess.contains(&entry.feature)) {
            for name in entry.maps {
                let least = if name.contains("RING") { SMALLEST_RING } else { 1 };
                loader.map_max_entries(name, least);
            }
        }
        let asked = self.config.tls_sockets.max(1);
        for name in GROWING_MAPS {
            loader.map_max_entries(name, if grows { asked } else { asked.min(MOST_AT_ONCE) });
        }
        loader.map_max_entries("TLS_GO_CALLS", (asked / 3).max(LEAST_GO_CALLS));
        if settings.features & feature::TLS == 0 {
            for name in TLS_MAPS {
                loader.map_max_entries(name, 1);
            }
        }
        loader.map_max_entries("PROCESSES", self.config.process_filter_size);
        loader.map_max_entries("TAKEN", in_kernel::threads(settings));
    }
}
