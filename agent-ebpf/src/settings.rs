//! Frozen globals that userspace sets before loading: the verifier sees constants.

use agent_common::settings::{Offsets, Settings};
use aya_ebpf::Global;

#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings {
    own_tgid: 0,
    features: 0,
    head_bytes: 4096,
    later_bytes: 256,
    port_count: 0,
    ports: [0; agent_common::settings::MAX_PORTS],
    payload_rings: 1,
});

#[unsafe(no_mangle)]
static OFFSETS: Global<Offsets> = Global::new(Offsets::NONE);

/// Address of [`SETTINGS`], for single-field reads.
#[inline(always)]
pub fn settings() -> *const Settings {
    (&raw const SETTINGS).cast()
}

/// Address of [`OFFSETS`], for single-field reads.
#[inline(always)]
pub fn offsets() -> *const Offsets {
    (&raw const OFFSETS).cast()
}

/// Reads one field of the settings.
macro_rules! setting {
    ($field:ident) => {
        // SAFETY: the global lives as long as the program; volatile keeps the compiler from
        // folding the value in the object file over the one that userspace sets.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::settings::settings()).$field) }
    };
}

/// Reads one kernel struct offset.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: as for `setting!`.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::settings::offsets()).$field) }
    };
}

pub(crate) use {offset, setting};

/// True when userspace switched the feature on.
#[inline(always)]
pub fn enabled(feature: u32) -> bool {
    setting!(features) & feature != 0
}
