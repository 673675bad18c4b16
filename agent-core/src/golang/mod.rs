//! Go executables: which version made them, where their functions are, and where their runtime keeps
//! the running goroutine.
//!
//! Pure: bytes come through [`ReadAt`], so that a file of any size costs bounded memory. A file of a
//! watched program is hostile: every offset and count is checked, and every loop has a bound.
//!
//! - `elf`: segments, sections, symbols, relocations (ELF-64, little endian).
//! - `buildinfo`: the version, from `.go.buildinfo`; stripped files have it too.
//! - `pclntab`: functions by name, from the table that the runtime needs for itself: it is there in
//!   stripped files.
//! - `layout`: struct offsets of the runtime by version.
//! - `code`: what only instructions tell. `exits`: where a function is left.
//! - `tls`: where the plaintext of `crypto/tls` passes.

mod buildinfo;
mod code;
mod elf;
mod exits;
mod layout;
mod pclntab;
#[cfg(test)]
mod tests;
mod tls;

pub use buildinfo::Version;
pub use exits::check as check_exits;
pub use layout::{Layout, NONE, layout};
pub use pclntab::Function;
pub use tls::{Place, Places, tls};

use elf::Elf;
use pclntab::Table;

/// Bytes of a file by offset.
pub trait ReadAt {
    /// Fills `buffer` from `offset` on; gives how many bytes there were.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> usize;
}

impl ReadAt for &[u8] {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> usize {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.get(start..).unwrap_or_default();
        let len = bytes.len().min(buffer.len());
        let pair = buffer.get_mut(..len).zip(bytes.get(..len));
        pair.map_or(0, |(to, from)| {
            to.copy_from_slice(from);
            len
        })
    }
}

/// Why a Go executable cannot be made use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not for this machine.
    #[error("it is not made for x86-64")]
    Machine,
    /// The version is not one that the table knows.
    #[error("Go {0} is not known: where its runtime keeps goroutines is known from 1.17 to {1}")]
    Version(Version, Version),
    /// No function table.
    #[error("it has no function table")]
    NoFunctions,
    /// Thread-local storage of C code lies beside the runtime's, and nothing tells where that is.
    #[error("where it keeps the running goroutine cannot be told")]
    Slot,
    /// `crypto/tls` is linked in, and its code is not what a Go compiler makes.
    #[error("the code of its crypto/tls cannot be decoded")]
    Code,
}

/// What a Go executable tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Version of the toolchain.
    pub version: Version,
    /// Where the runtime keeps what.
    pub layout: Layout,
    /// Where `g`, the running goroutine, is: relative to the thread pointer.
    pub slot: i32,
    /// Address of the count of goroutine numbers (`runtime.sched.goidgen`); relative to the load
    /// address for position-independent executables.
    pub numbers: Option<u64>,
    /// Addresses in the file are relative to where it is loaded.
    pub relocated: bool,
    /// Address of what is at the beginning of the file.
    pub base: u64,
    /// `net/http.(*persistConn).roundTrip`: every HTTP/1 request of a client passes here.
    pub round_trip: Option<Site>,
    /// `net/http.persistConnWriter.Write`: the goroutine that serves a client's connection writes
    /// here.
    pub writer: Option<Writer>,
    /// Addresses, first and last, of the functions that goroutines of `net/http.(*Transport)` begin
    /// with: they work for whoever uses the connection, not for whoever opened it.
    pub servants: Option<(u64, u64)>,
}

/// A function that writes for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Its code.
    pub function: Function,
    /// Where it keeps its receiver, relative to its frame pointer.
    pub receiver: i64,
}

/// Where to attach to a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Offset in the file of the instruction.
    pub offset: u64,
    /// The arguments are still in their registers there, and the kernel emulates the instruction.
    pub cheap: bool,
}

const ROUND_TRIP: &[u8] = b"net/http.(*persistConn).roundTrip";
const WRITER: &[u8] = b"net/http.persistConnWriter.Write";
/// Closures and wrappers have this name and something behind it.
const DIAL: &[u8] = b"net/http.(*Transport).dialConn";
const NEW_PROC: &[u8] = b"runtime.newproc1";
const MORE_STACK: [&[u8]; 2] = [b"runtime.morestack", b"runtime.morestack.abi0"];

/// Bytes of code looked at in one function.
const MAX_CODE: usize = 8192;

/// A Go executable of a version that is known.
struct Opened {
    elf: Elf,
    version: Version,
    layout: Layout,
    table: Table,
}

fn open(file: &mut impl ReadAt) -> Result<Option<Opened>, Fault> {
    let Some(elf) = Elf::read(file) else { return Ok(None) };
    let Some(version) = buildinfo::version(&elf, file) else { return Ok(None) };
    if !elf.is_x86_64() {
        return Err(Fault::Machine);
    }
    let layout = layout(version).ok_or(Fault::Version(version, layout::newest()))?;
    let table = Table::find(&elf, file).ok_or(Fault::NoFunctions)?;
    Ok(Some(Opened { elf, version, layout, table }))
}

/// Reads a file. `Ok(None)`: it is not a Go executable.
///
/// # Errors
/// [`Fault`] when it is one, and nothing can be made of it.
pub fn analyse(file: &mut impl ReadAt) -> Result<Option<Program>, Fault> {
    let Some(Opened { elf, version, layout, table }) = open(file)? else { return Ok(None) };
    let functions = table.functions(&elf, file, |name| {
        [ROUND_TRIP, WRITER, NEW_PROC].contains(&name)
            || MORE_STACK.contains(&name)
            || is_servant(name)
    });
    let find = |names: &[&[u8]]| {
        functions.iter().find(|(name, _)| names.contains(&name.as_slice())).map(|(_, found)| *found)
    };
    let mut text = |function: Function| {
        let mut code = vec![0; MAX_CODE.min(usize::try_from(function.size).unwrap_or(MAX_CODE))];
        let len = file.read_at(function.offset, &mut code);
        code.truncate(len);
        code
    };
    let round_trip = find(&[ROUND_TRIP]).map(|function| {
        let after = code::after_stack_check(&text(function));
        Site { offset: function.offset + after.unwrap_or(0), cheap: after.is_some() }
    });
    let numbers =
        find(&[NEW_PROC]).and_then(|function| code::numbers(&text(function), function.address));
    let writer = find(&[WRITER]).and_then(|function| {
        code::receiver(&text(function)).map(|receiver| Writer { function, receiver })
    });
    let prologue = find(&MORE_STACK).map(&mut text).unwrap_or_default();
    let slot = code::slot(&elf, file, &prologue).ok_or(Fault::Slot)?;
    let servants = functions.iter().filter(|(name, _)| is_servant(name));
    let servants = servants.map(|(_, function)| function.address);
    let servants = servants.clone().min().zip(servants.max());
    Ok(Some(Program {
        version,
        layout,
        slot,
        numbers,
        relocated: elf.is_relocated(),
        base: elf.base(),
        round_trip,
        writer,
        servants,
    }))
}

fn is_servant(name: &[u8]) -> bool {
    name.strip_prefix(DIAL).is_some_and(|rest| !rest.is_empty() && !rest.starts_with(b"For"))
}
