//! What runtimes know of their work: where a program keeps it, and how a record names it.
//!
//! [`Publisher`]: a program that publishes its trace context by thread (OTEP 4947).
//!
//! Go: goroutines have numbers that are never used again. A record names one in 64 bits: the low 31 bits
//! of its number, the low 31 of its maker's, and two flags. So many goroutines are not alive at once
//! that one would be taken for another.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits of a number that are kept.
pub const NUMBER: u64 = 0x7fff_ffff;

/// The program is in Go, and its goroutine could not be told: the thread is no evidence.
pub const UNKNOWN: u64 = 1 << 31;

/// The goroutine was made after its maker began to read the request that it read last.
pub const MADE_SINCE: u64 = 1 << 63;

/// Names a goroutine and the one that made it (0: not known).
#[inline(always)]
pub const fn pack(number: u64, maker: u64) -> u64 {
    (maker & NUMBER) << 32 | number & NUMBER
}

/// Number of the goroutine, 0 when it is not known.
#[inline(always)]
pub const fn number(context: u64) -> u32 {
    (context & NUMBER) as u32
}

/// Number of the one that made it, 0 when it is not known.
#[inline(always)]
pub const fn maker(context: u64) -> u32 {
    (context >> 32 & NUMBER) as u32
}

/// Processors of a Go program that are followed (`GOMAXPROCS`): of those beyond, goroutines that were
/// made for a later request of a connection are not told from older ones, and not linked.
pub const PROCESSORS: usize = 16;

/// One Go process: the value in the kernel's map, by tgid.
///
/// Offsets are in bytes; 0 where the version has no such field.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct GoProcess {
    /// Where the running goroutine's struct is named, relative to the thread pointer.
    pub slot: i64,
    /// `g.goid`.
    pub goid: u32,
    /// `g.parentGoid`.
    pub parent: u32,
    /// `g.startpc`.
    pub start: u32,
    /// `g.m`.
    pub m: u32,
    /// `m.curg`.
    pub current: u32,
    /// `m.p`.
    pub p: u32,
    /// `m.oldp`.
    pub old_p: u32,
    /// `p.goidcache`; `p.goidcacheend` follows.
    pub next_goid: u32,
    /// Address of `sched.goidgen`, 0 when it is not known.
    pub numbers: u64,
    /// First and last address at which goroutines begin that serve connections of clients.
    pub servants: [u64; 2],
    /// Code of `net/http.persistConnWriter.Write`: its beginning and its end.
    pub writer: [u64; 2],
    /// Where that function keeps its receiver, a `*persistConn`, relative to its frame pointer.
    pub receiver: i64,
    /// It has sent a request. Written by the kernel side: before that nobody needs to know when its
    /// goroutines were made.
    pub calls: u64,
    /// Its processors (`runtime.p`), as the kernel side met them, by their number.
    pub processors: [u64; PROCESSORS],
}

/// Most modules with thread-local variables of one process that are followed: their numbers are given
/// in turn.
pub const MAX_MODULES: u32 = 4096;

/// How a C library keeps a thread's vector of modules: [`Publisher::vector`].
pub mod vector {
    /// There is no need of it: the variable lies at a fixed distance from the thread pointer.
    pub const NONE: u32 = 0;
    /// glibc: two words a module, and how many there are in the word pair before the first.
    pub const GLIBC: u32 = 1;
    /// musl: one word a module, the first says how many there are.
    pub const MUSL: u32 = 2;
}

/// One process that publishes its trace context by thread: the value in the kernel's map, by tgid. Says
/// where the variable `otel_thread_ctx_v1` of a thread lies (ELF Handling For Thread-Local Storage,
/// section 3.4.6, variant II).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Publisher {
    /// Relative to the thread pointer, or with a [`vector`] to its module's variables.
    pub offset: i64,
    /// Number of the module, with a [`vector`].
    pub module: u32,
    /// One of [`vector`].
    pub vector: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_back_what_it_was_made_of() {
        for (number_, maker_) in [(1, 0), (77, 1), (1 << 31 | 5, 1 << 40 | 9)] {
            let context = pack(number_, maker_);
            let kept = |of: u64| (of & NUMBER) as u32;
            assert_eq!((number(context), maker(context)), (kept(number_), kept(maker_)));
            assert_eq!(context & (UNKNOWN | MADE_SINCE), 0);
            assert_eq!(number(context | MADE_SINCE | UNKNOWN), kept(number_));
        }
    }
}
