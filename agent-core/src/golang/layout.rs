//! Where the runtime of each Go version keeps what is read of it.
//!
//! Out of the DWARF of programs built with these very toolchains, by `xtask/go-offsets`: `go run .
//! go1.21.0 …` there prints the rows; `the_installed_toolchain_agrees_with_the_table` checks the newest.

use super::Version;

/// This version has no such field.
pub const NONE: u16 = 0;

/// Offsets in structs of the runtime, bytes. [`NONE`] where there is no such field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `g.goid`: the goroutine's number.
    pub goid: u16,
    /// `g.parentGoid`: the number of the one that made it (1.21 and later).
    pub parent: u16,
    /// `g.startpc`: the function that it began with.
    pub start: u16,
    /// `g.m`: its thread.
    pub m: u16,
    /// `m.curg`: the thread's goroutine while it runs on a stack of the system.
    pub current: u16,
    /// `m.p`: the processor that the thread has.
    pub p: u16,
    /// `m.oldp`: the one that it had before the system call.
    pub old_p: u16,
    /// `p.goidcache`: the next number that it gives out.
    pub next_goid: u16,
    /// `p.goidcacheend`: the end of its numbers.
    pub end_goid: u16,
}

const fn row(numbers: [u16; 9]) -> Layout {
    let [goid, parent, start, m, current, p, old_p, next_goid, end_goid] = numbers;
    Layout { goid, parent, start, m, current, p, old_p, next_goid, end_goid }
}

/// First versions of a minor release's rows, and the last one that was looked at.
const TABLE: &[(Version, Layout)] = &[
    (at(17), row([152, NONE, 312, 48, 192, 208, 224, 1504, 1512])),
    (at(18), row([152, NONE, 312, 48, 192, 208, 224, 384, 392])),
    (at(21), row([152, 272, 296, 48, 192, 208, 224, 384, 392])),
    (at(23), row([160, 280, 304, 48, 192, 208, 224, 376, 384])),
    (at(25), row([152, 272, 296, 48, 184, 200, 216, 376, 384])),
    (at(26), row([152, 280, 304, 48, 184, 208, 224, 384, 392])),
];

/// The newest minor release whose rows were made.
const NEWEST: Version = at(26);

const fn at(minor: u16) -> Version {
    Version { major: 1, minor, patch: 0 }
}

/// The layout of `version`; none for versions that nobody has looked at.
pub fn layout(version: Version) -> Option<Layout> {
    if (version.major, version.minor) > (NEWEST.major, NEWEST.minor) {
        return None;
    }
    TABLE.iter().rev().find(|(first, _)| *first <= version).map(|(_, layout)| *layout)
}

/// The newest minor release that [`layout`] knows.
pub(super) fn newest() -> Version {
    NEWEST
}
