//! What looking into one file may cost: a forged one may ask for any amount of it.

use super::Image;
use std::cell::Cell;

/// Bytes that are read of a file at most, all looks at it together. The most that a real one has needed is
/// Envoy's 78 MiB: its constants and its code, once each.
pub const MOST: u64 = 128 << 20;
/// The same of a file that has nothing on its disk: holes cost nothing to make. The symbols of the largest
/// programs in Go take 24 MiB.
pub const LEAST: u64 = 32 << 20;
/// How much more than it takes on its disk may be read of a file: a file system may compress.
const COMPRESSED: u64 = 4;
/// What a read costs by itself.
const READ: u64 = 4096;

/// A file of which no more is read than its budget.
pub(super) struct Budgeted<I> {
    image: I,
    left: Cell<u64>,
    spent: Cell<bool>,
}

impl<I: Image> Budgeted<I> {
    pub(super) fn new(image: I) -> Budgeted<I> {
        let real = image.stored().saturating_mul(COMPRESSED);
        let left = Cell::new(LEAST.saturating_add(real).min(MOST));
        Budgeted { image, left, spent: Cell::new(false) }
    }

    /// Takes what a read of `bytes` costs. False when there is not that much left.
    pub(super) fn spend_read(&self, bytes: u64) -> bool {
        self.spend(bytes.max(READ))
    }

    /// Takes what looking at `bytes` costs. False, and nothing is taken, when there is not that much left: a
    /// table that is too large hides nothing but itself.
    pub(super) fn spend(&self, bytes: u64) -> bool {
        let left = self.left.get().checked_sub(bytes);
        match left {
            Some(left) => self.left.set(left),
            None => self.spent.set(true),
        }
        left.is_some()
    }

    /// There was not enough.
    pub(super) fn is_spent(&self) -> bool {
        self.spent.get()
    }
}

impl<I: Image> Image for Budgeted<I> {
    fn read(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        if self.spend_read(len as u64) { self.image.read(offset, len) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::{Elf, boringssl};

    const SIZE: u64 = 512 << 20;
    const SECTIONS: u64 = 0x1000;

    /// A file that is long and has only its beginning; all that is read is counted.
    struct Sparse {
        head: Vec<u8>,
        stored: u64,
        read: Cell<u64>,
    }

    impl Image for &Sparse {
        fn read(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
            if offset.checked_add(len as u64)? > SIZE {
                return None;
            }
            self.read.set(self.read.get() + len as u64);
            let mut bytes = vec![0; len];
            let head = self.head.get(usize::try_from(offset).ok()?..).unwrap_or_default();
            let shared = head.len().min(len);
            bytes[..shared].copy_from_slice(&head[..shared]);
            Some(bytes)
        }

        fn stored(&self) -> u64 {
            self.stored
        }
    }

    /// Headers that say: 20 million symbols of either kind, as many relocations, and all of it code.
    fn forged(stored: u64, library: bool) -> Sparse {
        let mut head = vec![0; 0x2000];
        head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let mut put = |at: u64, bytes: &[u8]| {
            head[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        };
        put(16, &if library { 3_u16 } else { 2 }.to_le_bytes());
        put(18, &62_u16.to_le_bytes());
        put(32, &64_u64.to_le_bytes());
        put(40, &SECTIONS.to_le_bytes());
        put(54, &56_u16.to_le_bytes());
        put(56, &8_u16.to_le_bytes());
        put(58, &64_u16.to_le_bytes());
        put(60, &40_u16.to_le_bytes());
        for index in 0..8 {
            let at = 64 + index * 56;
            put(at, &1_u32.to_le_bytes());
            put(at + 4, &5_u32.to_le_bytes());
            put(at + 32, &SIZE.to_le_bytes());
        }
        // A million functions, all of which begin at one place.
        const FRAMES: u64 = 0x1c00;
        put(64 + 7 * 56, &0x6474_e550_u32.to_le_bytes());
        put(64 + 7 * 56 + 8, &FRAMES.to_le_bytes());
        put(FRAMES, &[1, 0x1b, 3, 0x3b]);
        put(FRAMES + 8, &(1_u32 << 20).to_le_bytes());
        // Symbols, exported symbols, their names, and relocations in all others.
        for index in 0..40_u64 {
            let at = SECTIONS + index * 64;
            let kind = [2_u32, 11, 3, 4][index.min(3) as usize];
            put(at + 4, &kind.to_le_bytes());
            put(at + 24, &0x2000_u64.to_le_bytes());
            let size = if kind == 3 { 8 << 20 } else { SIZE - 0x2000 };
            put(at + 32, &size.to_le_bytes());
            put(at + 40, &2_u32.to_le_bytes());
        }
        Sparse { head, stored, read: Cell::new(0) }
    }

    /// A look, and whether it alone takes all that there is.
    type Look = (&'static str, bool, fn(&Elf<&Sparse>) -> bool);

    const LOOKS: [Look; 6] = [
        ("functions", true, |elf| elf.functions(&|_| true).is_empty()),
        ("exports", true, |elf| elf.exported(&["SSL_read", "BIO_write"]).is_empty()),
        ("relocations", true, |elf| elf.pointers([0x3000, 0x3008]) == [None; 2]),
        ("a variable", false, |elf| elf.thread_local("otel_thread_ctx_v1").is_none()),
        ("marks", true, |elf| elf.marks(&[boringssl::MARK, b"/rustls-0."]).is_empty()),
        ("code", true, |elf| boringssl::find(elf, &[0x1234]).is_none()),
    ];

    #[test]
    fn a_forged_file_costs_no_more_than_its_budget() {
        for (stored, most) in [(8192, LEAST + 8192 * COMPRESSED), (SIZE, MOST), (u64::MAX, MOST)] {
            for library in [false, true] {
                let file = forged(stored, library);
                let elf = Elf::parse(&file).unwrap();
                for (what, _, look) in LOOKS {
                    assert!(look(&elf), "{what}");
                }
                let read = file.read.get();
                assert!(read <= most && most - read <= 8 << 20, "{read} of {most}");
                assert!(elf.is_too_large());
            }
        }
    }

    #[test]
    fn each_look_at_a_forged_file_is_bounded_by_itself() {
        for (what, takes_all, look) in LOOKS {
            let file = forged(0, true);
            let elf = Elf::parse(&file).unwrap();
            assert!(look(&elf), "{what}");
            assert_eq!(elf.is_too_large(), takes_all, "{what}");
            assert!(file.read.get() <= LEAST, "{what}: {}", file.read.get());
        }
    }

    /// Many symbols that share one long name cost what their names do.
    #[test]
    fn names_that_symbols_share_are_paid_for_each_time() {
        let mut file = forged(0, false);
        let mut symbol = [0; 24];
        symbol[4] = 2;
        symbol[6] = 1;
        symbol[8] = 1;
        file.head.truncate(0x2000);
        let names = SECTIONS + 2 * 64;
        file.head[names as usize + 24..][..8].copy_from_slice(&0x100_0000_u64.to_le_bytes());
        file.head.extend(symbol.repeat(400_000));
        file.head.resize(0x100_0000, 0);
        file.head.extend(vec![b'a'; 1000]);
        let seen = Cell::new(0_u64);
        let elf = Elf::parse(&file).unwrap();
        let found = elf.functions(&|name| {
            seen.set(seen.get() + name.len() as u64);
            false
        });
        assert!(found.is_empty() && elf.is_too_large());
        assert!(seen.get() > 1 << 20 && seen.get() <= LEAST, "{}", seen.get());
    }

    #[test]
    fn a_table_that_is_too_large_hides_nothing_else() {
        let file = forged(0, false);
        let budgeted = Budgeted::new(&file);
        assert!(budgeted.read(0, SIZE as usize).is_none() && budgeted.is_spent());
        assert_eq!(budgeted.read(0, 4).as_deref(), Some(b"\x7fELF".as_slice()));
    }

    #[test]
    fn a_small_file_is_read_to_its_end() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let elf = Elf::parse(bytes.as_slice()).unwrap();
        assert!(elf.functions(&|name| name == "main").len() == 1 && !elf.is_too_large());
    }
}
