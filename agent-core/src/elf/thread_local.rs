//! Where a program keeps a thread-local variable that it exports (ELF Handling For Thread-Local Storage,
//! sections 3.4.6 and 4; TLS descriptors: RFC-TLSDESC-x86). x86-64: blocks lie below the thread pointer.
//!
//! A program's own block is at a distance that its headers tell. Where a library's is, the loader decides
//! when it loads it, and puts it down where the library's code looks for it: a relocation names the place.

use super::table::{self, TLS_VARIABLES};
use super::{Elf, Image, PT_DYNAMIC, PT_LOAD, PT_TLS, SHT_DYNSYM, Section, u64_at};
use agent_common::runtime::MAX_MODULES;

const SHT_RELA: u32 = 4;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;
const R_X86_64_DTPMOD64: u32 = 16;
const R_X86_64_TPOFF64: u32 = 18;
const R_X86_64_TLSDESC: u32 = 36;

/// Bytes of a relocation, how many are read at once, and how many are looked at: large libraries have some
/// hundred thousand.
const RELOCATION: usize = 24;
const PIECE: u64 = 8192;
const MAX_RELOCATIONS: u64 = 4_000_000;
/// Longest dynamic section.
const MAX_DYNAMIC: u64 = 1 << 16;
/// Furthest that a variable lies from where its block, or the thread pointer, is.
const FURTHEST: i64 = 1 << 30;

/// How the variable is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadLocal {
    /// So far from the thread pointer.
    Fixed(i64),
    /// By what the loader has written.
    Written {
        /// Where, as an address of the file.
        address: u64,
        /// What.
        what: Written,
    },
    /// No relocation of the file tells: others use it.
    Unused,
}

/// What the loader writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Distance from the thread pointer.
    Distance,
    /// A function, and its argument: a distance, or the address of module and offset.
    Descriptor,
    /// Module and offset.
    Module,
    /// A module, in which the variable has this offset.
    ModuleOnly(u64),
}

/// Where the variable of a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From the thread pointer, or with a module within its block.
    pub offset: i64,
    /// Number of the module, 0 without one.
    pub module: u32,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The loader is not that far, or the memory cannot be read.
    #[error("the loader has not written where it is")]
    NotYet,
    /// What is written is no such thing.
    #[error("what the loader has written makes no sense")]
    Strange,
    /// See [`ThreadLocal::Unused`].
    #[error("no relocation tells where it is")]
    Unused,
}

impl<I: Image> Elf<I> {
    /// How the exported thread-local variable `name` is found, where the file has it.
    pub fn thread_local(&self, name: &str) -> Option<ThreadLocal> {
        let symbols = self.section(SHT_DYNSYM)?;
        let strings = self.linked(symbols)?;
        let (index, value) = match self.exported_entry(name, TLS_VARIABLES) {
            Some(found) => found?,
            None => table::find_entry(&self.image, symbols, strings, name, TLS_VARIABLES)?,
        };
        if self.is_program() || self.is_position_independent() {
            return self.distance(value).map(ThreadLocal::Fixed);
        }
        Some(self.written(index, value).unwrap_or(ThreadLocal::Unused))
    }

    /// Address at which the file's first byte is meant to lie.
    pub fn first_address(&self) -> Option<u64> {
        let first = self.segments.iter().find(|segment| segment.kind == PT_LOAD)?;
        first.address.checked_sub(first.offset)
    }

    /// Distance of a variable of the program's own block: the block ends at the thread pointer, as far as
    /// its alignment lets it (lld, `getTlsTpOffset`; glibc, `_dl_determine_tlsoffset`).
    fn distance(&self, value: u64) -> Option<i64> {
        let block = self.segments.iter().find(|segment| segment.kind == PT_TLS)?;
        let align = block.align.max(1);
        let end = block.address.wrapping_add(block.memory);
        let below = block.memory.checked_add(end.wrapping_neg() & align.wrapping_sub(1))?;
        plausible(value.wrapping_sub(below) as i64)
    }

    /// A program without a loader that may lie anywhere says so.
    fn is_position_independent(&self) -> bool {
        let dynamic = self.segments.iter().find(|segment| segment.kind == PT_DYNAMIC);
        let entries = dynamic.and_then(|dynamic| {
            self.image.read(dynamic.offset, dynamic.size.min(MAX_DYNAMIC) as usize)
        });
        let entries = entries.unwrap_or_default();
        let mut pairs = entries.chunks_exact(16).map(|pair| (u64_at(pair, 0), u64_at(pair, 8)));
        pairs.any(|(tag, value)| tag == Some(DT_FLAGS_1) && value.unwrap_or(0) & DF_1_PIE != 0)
    }

    /// What the relocations say of symbol `index` with `value`: the simplest way, if there are several.
    fn written(&self, index: u32, value: u64) -> Option<ThreadLocal> {
        let mut best: Option<(u8, ThreadLocal)> = None;
        let mut left = MAX_RELOCATIONS;
        for section in self.sections.iter().filter(|section| section.kind == SHT_RELA) {
            let count = section.relocations().min(left);
            left -= count;
            each(&self.image, *section, count, |relocation| {
                let Some((rank, found)) = relocation.tells(index, value) else { return };
                if best.is_none_or(|(known, _)| rank < known) {
                    best = Some((rank, found));
                }
            });
        }
        best.map(|(_, found)| found)
    }
}

/// An entry of a table of relocations.
pub(super) struct Relocation {
    pub(super) address: u64,
    pub(super) kind: u32,
    symbol: u32,
    pub(super) addend: u64,
}

impl Relocation {
    /// Whether it tells of symbol `index` with `value`. A symbol that only this file uses has no name in
    /// its relocations.
    fn tells(&self, index: u32, value: u64) -> Option<(u8, ThreadLocal)> {
        let named = self.symbol == index && self.addend == 0;
        let nameless = self.symbol == 0 && self.addend == value;
        let (rank, what) = match self.kind {
            R_X86_64_TPOFF64 if named || nameless => (0, Written::Distance),
            R_X86_64_TLSDESC if named || nameless => (1, Written::Descriptor),
            R_X86_64_DTPMOD64 if named => (2, Written::Module),
            R_X86_64_DTPMOD64 if self.symbol == 0 => (3, Written::ModuleOnly(value)),
            _ => return None,
        };
        Some((rank, ThreadLocal::Written { address: self.address, what }))
    }
}

impl Section {
    /// How many relocations it has.
    pub(super) fn relocations(&self) -> u64 {
        self.size / RELOCATION as u64
    }
}

pub(super) fn each(
    image: &impl Image,
    section: Section,
    count: u64,
    mut take: impl FnMut(Relocation),
) {
    let mut first = 0;
    while first < count {
        let here = PIECE.min(count - first);
        let at = section.offset.saturating_add(first * RELOCATION as u64);
        let Some(piece) = image.read(at, here as usize * RELOCATION) else { return };
        for entry in piece.chunks_exact(RELOCATION) {
            let words = (u64_at(entry, 0), u64_at(entry, 8), u64_at(entry, 16));
            if let (Some(address), Some(info), Some(addend)) = words {
                let (kind, symbol) = (info as u32, (info >> 32) as u32);
                take(Relocation { address, kind, symbol, addend });
            }
        }
        first += here;
    }
}

impl ThreadLocal {
    /// Where the variable is in a program whose file lies `shift` bytes above its addresses. `read` gives
    /// two words of its memory.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn place(
        self,
        shift: u64,
        mut read: impl FnMut(u64) -> Option<[u64; 2]>,
    ) -> Result<Place, Missing> {
        let (address, what) = match self {
            ThreadLocal::Fixed(offset) => return Ok(Place { offset, module: 0 }),
            ThreadLocal::Unused => return Err(Missing::Unused),
            ThreadLocal::Written { address, what } => (address, what),
        };
        let [first, second] = read(address.wrapping_add(shift)).ok_or(Missing::NotYet)?;
        match what {
            Written::Distance => distance(first),
            Written::Module => module(first, second),
            Written::ModuleOnly(offset) => module(first, offset),
            Written::Descriptor if first == 0 => Err(Missing::NotYet),
            Written::Descriptor if (second as i64) < 0 => distance(second),
            Written::Descriptor => {
                let [first, second] = read(second).ok_or(Missing::Strange)?;
                module(first, second)
            }
        }
    }
}

fn distance(written: u64) -> Result<Place, Missing> {
    match written as i64 {
        0 => Err(Missing::NotYet),
        offset => {
            plausible(offset).map(|offset| Place { offset, module: 0 }).ok_or(Missing::Strange)
        }
    }
}

/// Below the thread pointer, and not far.
fn plausible(offset: i64) -> Option<i64> {
    (-FURTHEST..0).contains(&offset).then_some(offset)
}

fn module(number: u64, offset: u64) -> Result<Place, Missing> {
    if number == 0 {
        return Err(Missing::NotYet);
    }
    let offset = i64::try_from(offset).ok().filter(|offset| *offset < FURTHEST);
    let module = u32::try_from(number).ok().filter(|module| *module <= MAX_MODULES);
    offset.zip(module).map(|(offset, module)| Place { offset, module }).ok_or(Missing::Strange)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(what: Written) -> ThreadLocal {
        ThreadLocal::Written { address: 0x1000, what }
    }

    #[test]
    fn what_the_loader_writes_is_a_place_or_none() {
        let fixed = |offset| Ok(Place { offset, module: 0 });
        let far = 1_u64 << 40;
        for (why, what, memory, expected) in [
            ("a distance", Written::Distance, [(-16_i64) as u64, 7], fixed(-16)),
            ("not relocated", Written::Distance, [0, 0], Err(Missing::NotYet)),
            ("above the thread pointer", Written::Distance, [16, 0], Err(Missing::Strange)),
            ("far below", Written::Distance, [far.wrapping_neg(), 0], Err(Missing::Strange)),
            ("a module", Written::Module, [3, 8], Ok(Place { offset: 8, module: 3 })),
            ("no module yet", Written::Module, [0, 8], Err(Missing::NotYet)),
            ("too many modules", Written::Module, [5000, 8], Err(Missing::Strange)),
            ("far within", Written::Module, [3, far], Err(Missing::Strange)),
            (
                "a module's own",
                Written::ModuleOnly(24),
                [3, 0],
                Ok(Place { offset: 24, module: 3 }),
            ),
            ("descriptor, fixed", Written::Descriptor, [9, (-8_i64) as u64], fixed(-8)),
            ("descriptor, unset", Written::Descriptor, [0, 0], Err(Missing::NotYet)),
        ] {
            let read = |at| (at == 0x5000).then_some(memory);
            assert_eq!(written(what).place(0x4000, read), expected, "{why}");
        }
        let read = |at| match at {
            0x5000 => Some([9, 0x7000]),
            0x7000 => Some([2, 40]),
            _ => None,
        };
        let found = written(Written::Descriptor).place(0x4000, read);
        assert_eq!(found, Ok(Place { offset: 40, module: 2 }));
        assert_eq!(written(Written::Distance).place(0, |_| None), Err(Missing::NotYet));
        assert_eq!(ThreadLocal::Unused.place(0, |_| None), Err(Missing::Unused));
    }

    /// A relocation is of a variable if it has its name; or, without one, its offset.
    #[test]
    fn relocations_of_other_variables_say_nothing() {
        let relocation = |kind, symbol, addend| Relocation { address: 1, kind, symbol, addend };
        for (why, kind, symbol, addend, expected) in [
            ("named", R_X86_64_TLSDESC, 5, 0, Some(1)),
            ("nameless", R_X86_64_TLSDESC, 0, 16, Some(1)),
            ("another's", R_X86_64_TLSDESC, 6, 0, None),
            ("another offset", R_X86_64_TLSDESC, 0, 8, None),
            ("a part of it", R_X86_64_TPOFF64, 5, 4, None),
            ("of the module", R_X86_64_DTPMOD64, 0, 0, Some(3)),
            ("no TLS", 8, 0, 16, None),
        ] {
            let told = relocation(kind, symbol, addend).tells(5, 16);
            assert_eq!(told.map(|(rank, _)| rank), expected, "{why}");
        }
    }
}
