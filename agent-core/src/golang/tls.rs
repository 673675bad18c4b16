//! `crypto/tls`: where its plaintext passes.
//!
//! `Read` gives out plaintext by one `memmove`, behind which nothing can fail; `Write` is done behind its
//! last `writeRecordLocked`, whose error says whether all of it went out. Both places are found in the
//! code ([`super::exits`]), and where a compiler makes something else of it, every return serves.

use super::exits::{Decoded, Exits, Wanted};
use super::{Fault, Function, Opened, ReadAt, code, open};

/// What is at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `func (c *Conn) Read(b []byte) (int, error)` begins.
    Read,
    /// `func (c *Conn) Write(b []byte) (int, error)` begins.
    Write,
    /// A handshake begins: `func (c *Conn) clientHandshake(…)` and its like.
    Handshake,
    /// `func (c *Conn) Close() error` begins.
    Close,
    /// `Read` calls `memmove(b, plaintext, n)`.
    Copied {
        /// Its receiver is in its frame.
        framed: bool,
    },
    /// `Write` has written: an error is in the second register of results.
    Written,
    /// `Read` or `Write` returns.
    Return,
}

/// Places by their offsets in the file; each offset once.
pub type Places = Vec<(u64, Place)>;

const READ: &[u8] = b"crypto/tls.(*Conn).Read";
const WRITE: &[u8] = b"crypto/tls.(*Conn).Write";
const HANDSHAKES: [&[u8]; 2] =
    [b"crypto/tls.(*Conn).clientHandshake", b"crypto/tls.(*Conn).serverHandshake"];
const CLOSE: &[u8] = b"crypto/tls.(*Conn).Close";
const WRITE_RECORD: &[u8] = b"crypto/tls.(*Conn).writeRecordLocked";
const MOVE: &[u8] = b"runtime.memmove";
/// They do not return.
const PANICS: [&[u8]; 6] = [
    b"runtime.panicBounds",
    b"runtime.panicIndex",
    b"runtime.panicSliceB",
    b"runtime.panicSliceAlen",
    b"runtime.panicSliceAcap",
    b"runtime.panicnil",
];

/// Longest function whose exits are looked for; these have 2 KB.
const MAX_FUNCTION: u64 = 64 * 1024;

/// Reads a file. `Ok(None)`: it is not a Go executable, or does not use `crypto/tls` for connections.
///
/// # Errors
/// [`Fault`] when it is one, and nothing can be made of it.
pub fn tls(file: &mut impl ReadAt) -> Result<Option<Places>, Fault> {
    let Some(Opened { elf, table, .. }) = open(file)? else { return Ok(None) };
    let functions = table.functions(&elf, file, |name| {
        [READ, WRITE, CLOSE, WRITE_RECORD, MOVE].contains(&name)
            || HANDSHAKES.contains(&name)
            || PANICS.contains(&name)
    });
    let find = |wanted: &[u8]| {
        functions.iter().find(|(name, _)| name.as_slice() == wanted).map(|(_, function)| *function)
    };
    let (Some(read), Some(write)) = (find(READ), find(WRITE)) else { return Ok(None) };
    let address = |name: &[u8]| find(name).map_or(0, |function| function.address);
    let ends: Vec<u64> = PANICS.iter().map(|name| address(name)).collect();
    let mut places = Vec::new();
    let mut both = || {
        let code = decoded(read, file)?;
        let exits = code.exits(Wanted::Call(address(MOVE)), &ends);
        let framed = code.keeps_first_argument();
        add(&mut places, read, Place::Read, exits, Place::Copied { framed }, file)?;
        let exits = decoded(write, file)?.exits(Wanted::Behind(address(WRITE_RECORD)), &ends);
        add(&mut places, write, Place::Write, exits, Place::Written, file)
    };
    if both().is_none() {
        return Err(Fault::Code);
    }
    let others = HANDSHAKES.iter().map(|name| (*name, Place::Handshake));
    for (name, place) in others.chain([(CLOSE, Place::Close)]) {
        if let Some(function) = find(name) {
            places.push((entry(function, file), place));
        }
    }
    places.sort_unstable_by_key(|(offset, _)| *offset);
    places.dedup_by_key(|(offset, _)| *offset);
    Ok(Some(places))
}

/// The beginning of a function and its exits; `None` when it has none, which no probe would survive.
fn add(
    places: &mut Places,
    function: Function,
    begins: Place,
    exits: Exits,
    at: Place,
    file: &mut impl ReadAt,
) -> Option<()> {
    let offset = |within: usize| function.offset.checked_add(within as u64);
    if exits.place.is_none() && exits.returns.is_empty() {
        return None;
    }
    places.push((entry(function, file), begins));
    if let Some(place) = exits.place {
        places.push((offset(place)?, at));
    }
    for exit in exits.returns {
        places.push((offset(exit)?, Place::Return));
    }
    Some(())
}

/// Where a function's arguments are in their registers: behind the check of the stack, if there is one.
fn entry(function: Function, file: &mut impl ReadAt) -> u64 {
    let mut begin = [0; 32];
    let len = file.read_at(function.offset, &mut begin);
    let after = code::after_stack_check(begin.get(..len).unwrap_or_default());
    function.offset.saturating_add(after.unwrap_or(0))
}

fn decoded(function: Function, file: &mut impl ReadAt) -> Option<Decoded> {
    // A part of a function would lack exits.
    let size = usize::try_from(function.size).ok().filter(|_| function.size <= MAX_FUNCTION)?;
    let mut code = vec![0; size];
    (file.read_at(function.offset, &mut code) == size).then_some(())?;
    Decoded::new(&code, function.address)
}
