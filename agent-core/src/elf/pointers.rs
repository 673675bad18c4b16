//! Addresses that lie in a file's data: tables of functions.

use super::thread_local::each;
use super::{Elf, Image, PF_X, PT_LOAD, u64_at};

const SHT_RELA: u32 = 4;
/// The loader puts the file's place plus the addend there.
const R_X86_64_RELATIVE: u32 = 8;
/// Relocations that are looked at: large libraries have some hundred thousand.
const MAX_RELOCATIONS: u64 = 4_000_000;

impl<I: Image> Elf<I> {
    /// Virtual address of the code at a file offset.
    pub fn code_address(&self, offset: u64) -> Option<u64> {
        let code = |segment: &&super::Segment| segment.kind == PT_LOAD && segment.flags & PF_X != 0;
        self.segments.iter().filter(code).find_map(|segment| {
            let within = offset.checked_sub(segment.offset)?;
            if within >= segment.size { None } else { segment.address.checked_add(within) }
        })
    }

    /// `len` bytes at a virtual address, as they are in the file.
    pub fn memory(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        self.segments.iter().filter(|segment| segment.kind == PT_LOAD).find_map(|segment| {
            let within = address.checked_sub(segment.address)?;
            let fits = within.checked_add(len as u64)? <= segment.size;
            if fits { self.image.read(segment.offset.checked_add(within)?, len) } else { None }
        })
    }

    /// The addresses that the loader leaves at these, as this file counts them. Of a symbol of another file
    /// there is none.
    pub fn pointers<const N: usize>(&self, at: [u64; N]) -> [Option<u64>; N] {
        // Packed relocations, and files that are not moved, have it where it stays.
        let mut found = at.map(|address| {
            let word = u64_at(&self.memory(address, 8)?, 0);
            word.filter(|word| *word != 0)
        });
        let mut left = MAX_RELOCATIONS;
        for section in self.sections.iter().filter(|section| section.kind == SHT_RELA) {
            let count = section.relocations().min(left);
            left -= count;
            each(&self.image, *section, count, |relocation| {
                if let Some(index) = at.iter().position(|address| *address == relocation.address) {
                    let known = relocation.kind == R_X86_64_RELATIVE;
                    found[index] = known.then_some(relocation.addend);
                }
            });
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: [fn() -> u32; 2] = [one, two];

    fn one() -> u32 {
        1
    }

    fn two() -> u32 {
        2
    }

    /// Of this very program, which is moved: its relocations say what a table of functions has.
    #[test]
    fn a_table_of_functions_is_read_from_the_file() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let elf = Elf::parse(bytes.as_slice()).unwrap();
        let names = ["3one17h", "3two17h"];
        let functions = elf.functions(&|name| {
            name.contains("pointers") && names.iter().any(|wanted| name.contains(wanted))
        });
        assert_eq!(functions.len(), 2, "{functions:?}");
        let main = elf.functions(&|name| name == "main")["main"];
        assert!(elf.code_address(main).is_some() && elf.code_address(u64::MAX).is_none());
        // Where the program lies now, from one of the functions.
        let (name, offset) = functions.iter().next().unwrap();
        let here = if name.contains("3one") { TABLE[0] } else { TABLE[1] } as usize as u64;
        let shift = here - elf.code_address(*offset).unwrap();
        let table = (&raw const TABLE) as u64 - shift;
        let [first, second, beyond] = elf.pointers([table, table + 8, u64::MAX]);
        assert_eq!(first, Some(TABLE[0] as usize as u64 - shift));
        assert_eq!(second, Some(TABLE[1] as usize as u64 - shift));
        assert_eq!(beyond, None);
        assert_eq!((TABLE[0](), TABLE[1]()), (1, 2));
    }
}
