//! Where OpenSSL puts what does not go to a socket.
//!
//! `BIO_write` serves buffers and sockets alike, and a probe there taxes every record of every program. But
//! only the buffers matter, since a socket shows by itself what is sent. The library's own are of two kinds,
//! each a table of functions (`BIO_METHOD`) that `BIO_s_mem()` and `BIO_s_bio()` hand out: of these the ones
//! that write are probed. Kinds that programs make themselves are not among them: see
//! [`super::target::Findings::spare`].
//!
//! `struct bio_method_st` (OpenSSL 1.1.0 to 3.5, include/internal/bio.h) begins with a type (`int`), a name,
//! `bwrite`, which for both is the same function, and the writer that this one calls, as
//! `int (*)(BIO *, const char *, int)`.

use super::place;
use agent_core::elf::{Elf, Image};

/// Who hands out the tables, and what they are called in them.
const KINDS: [(&str, &[u8]); 2] = [("BIO_s_mem", b"memory buffer\0"), ("BIO_s_bio", b"BIO pair\0")];

/// Bytes of a function that hands out a table.
const CODE: usize = 16;

/// File offsets of the functions that write to the library's own buffers. `None` where the file does not
/// look as expected.
pub fn writers<I: Image>(elf: &Elf<I>) -> Option<[u64; 2]> {
    let [memory, pair] = KINDS.map(|(symbol, name)| writer(elf, symbol, name));
    let ((memory_by, memory), (pair_by, pair)) = (memory?, pair?);
    (memory_by == pair_by && memory != pair).then_some([memory, pair])
}

/// The function that calls the writer of a kind, and the writer.
fn writer<I: Image>(elf: &Elf<I>, symbol: &str, name: &[u8]) -> Option<(u64, u64)> {
    let offset = *elf.exported(&[symbol]).get(symbol)?;
    let code = elf.bytes(offset, CODE);
    let table = place::returned_address(elf.code_address(offset)?, &code)?;
    let at = [8, 16, 24].map(|within| table.wrapping_add(within));
    let [called, by, writes] = elf.pointers(at);
    let is_it = elf.memory(called?, name.len())? == name;
    is_it.then_some((by?, elf.file_offset(writes?)?))
}
