//! Where pages lie: found out by sending one.
//!
//! A page with a random marker in front goes through a TCP connection of the agent's own by sendfile, so
//! that the kernel takes it from where it is. The program `page_test_…` sees it there and looks for the
//! base addresses under which the marker can be read. It is found twice, in two pages, or not believed.

use super::{attach::kernel_word, btf::Btf};
use agent_common::settings::{PageBases, PageTest};
use aya::{
    Btf as AyaBtf, Ebpf,
    maps::Array,
    programs::{BtfTracePoint, FEntry, ProgramError},
};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

/// The test's program where there is a tracepoint, and where there is none.
pub const TRACEPOINT: &str = "page_test_tracepoint";
/// See [`TRACEPOINT`].
pub const FENTRY: &str = "page_test_fentry";

const HOOK: &str = "tcp_sendmsg_locked";

/// Sends for one test: each tries 256 candidates, and a machine with 1 TiB has 35,000 at most.
const MOST_SENDS: u32 = 512;

const PAGE: usize = 4096;

/// Runs the test and tells the programs what it found. Gives hooks and a reason, as shown.
///
/// # Errors
/// Why pages cannot be read, as shown.
pub fn run(ebpf: &mut Ebpf, aya_btf: &AyaBtf, btf: &Btf) -> Result<(Vec<String>, String), String> {
    let kind = if btf.has_tracepoint(HOOK) { TRACEPOINT } else { FENTRY };
    let refused = |error: &ProgramError| format!("{HOOK} was refused: {}", kernel_word(error));
    let missing = || format!("the kernel object has no program {kind}");
    let program = ebpf.program_mut(kind).ok_or_else(missing)?;
    let found = if kind == TRACEPOINT {
        let program: &mut BtfTracePoint =
            program.try_into().map_err(|error: ProgramError| error.to_string())?;
        program.load(HOOK, aya_btf).map_err(|error| refused(&error))?;
        let link = program.attach().map_err(|error| refused(&error))?;
        let found = twice(ebpf);
        detach::<BtfTracePoint>(ebpf, kind, |program| program.detach(link));
        found
    } else {
        let program: &mut FEntry =
            program.try_into().map_err(|error: ProgramError| error.to_string())?;
        program.load(HOOK, aya_btf).map_err(|error| refused(&error))?;
        let link = program.attach().map_err(|error| refused(&error))?;
        let found = twice(ebpf);
        detach::<FEntry>(ebpf, kind, |program| program.detach(link));
        found
    }?;
    let mut bases: Array<_, [u64; 2]> = map(ebpf, "PAGE_BASES")?;
    bases.set(0, [found.memory, found.pages], 0).map_err(|error| error.to_string())?;
    let hook = if kind == TRACEPOINT { "tracepoint" } else { "fentry" };
    Ok((vec![format!("{hook}:{HOOK}")], "a page that was sent was found, twice".to_owned()))
}

/// Ends the test's program: what it looks at is over. A failure leaves a program that does nothing.
fn detach<'a, P>(
    ebpf: &'a mut Ebpf,
    name: &str,
    act: impl FnOnce(&mut P) -> Result<(), ProgramError>,
) where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
    P: 'a,
{
    let program = ebpf.program_mut(name).and_then(|program| <&mut P>::try_from(program).ok());
    if let Some(Err(error)) = program.map(act) {
        tracing::debug!("{name} could not be detached: {error}");
    }
}

fn map<'a>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> Result<Array<&'a mut aya::maps::MapData, [u64; 2]>, String> {
    let missing = || format!("the kernel object has no map {name}");
    let map = ebpf.map_mut(name).ok_or_else(missing)?;
    Array::try_from(map).map_err(|error| error.to_string())
}

fn twice(ebpf: &mut Ebpf) -> Result<PageBases, String> {
    let one = search(ebpf)?;
    let two = search(ebpf)?;
    if one == two {
        return Ok(one);
    }
    Err("two pages that were sent were found under different addresses".to_owned())
}

/// Sends one page until it is found.
fn search(ebpf: &mut Ebpf) -> Result<PageBases, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let missing = "the kernel object has no map PAGE_TEST";
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| failed("the page's marker", &error))?;
    let page = marked_page(random).map_err(|error| failed("a page to send", &error))?;
    let (to, _from) = connection().map_err(|error| failed("a connection to send it on", &error))?;
    let mut test = PageTest {
        marker: u64::from_ne_bytes(random) | 1,
        memory_steps: memory_steps(),
        ..PageTest::default()
    };
    for _ in 0..MOST_SENDS {
        let map = ebpf.map_mut("PAGE_TEST").ok_or(missing)?;
        let mut map: Array<_, [u64; WORDS]> =
            Array::try_from(map).map_err(|error| error.to_string())?;
        let words: [u64; WORDS] = zerocopy::transmute!(test);
        map.set(0, words, 0).map_err(|error| error.to_string())?;
        let mut start = 0;
        rustix::fs::sendfile(&to, &page, Some(&mut start), PAGE)
            .map_err(|error| failed("sending a page", &error))?;
        test = zerocopy::transmute!(map.get(&0, 0).map_err(|error| error.to_string())?);
        if test.seen == 0 {
            return Err("a page that was sent was not seen".to_owned());
        }
        if test.found != PageBases::default() {
            return Ok(test.found);
        }
    }
    Err("a page that was sent was not found in memory".to_owned())
}

/// 64-bit words of a [`PageTest`].
const WORDS: usize = size_of::<PageTest>() / 8;

/// A file in memory of one page, which begins with the marker.
fn marked_page(random: [u8; 8]) -> std::io::Result<OwnedFd> {
    let page = rustix::fs::memfd_create("kernspan-page", rustix::fs::MemfdFlags::CLOEXEC)?;
    let marker = u64::from_ne_bytes(random) | 1;
    let mut content = vec![0; PAGE];
    for (to, byte) in content.iter_mut().zip(marker.to_ne_bytes()) {
        *to = byte;
    }
    let mut file = std::fs::File::from(page);
    std::io::Write::write_all(&mut file, &content)?;
    Ok(file.into())
}

fn connection() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let to = TcpStream::connect(listener.local_addr()?)?;
    to.set_nonblocking(true)?;
    Ok((to, listener.accept()?.0))
}

/// GiB of memory, with room for the holes that machines have below 4 GiB and between their nodes.
fn memory_steps() -> u64 {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    2 * (kib.unwrap_or(0) >> 20) + 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_page_is_one_page_with_the_marker_in_front() {
        let mut file = std::fs::File::from(marked_page(*b"marker-!").unwrap());
        let mut content = Vec::new();
        std::io::Seek::rewind(&mut file).unwrap();
        std::io::Read::read_to_end(&mut file, &mut content).unwrap();
        assert_eq!(content.len(), PAGE);
        assert_eq!(content[..8], (u64::from_ne_bytes(*b"marker-!") | 1).to_ne_bytes());
        assert!(memory_steps() >= 8);
    }
}
