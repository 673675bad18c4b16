//! All sockets that programs hold, read from the iterator.
//!
//! Why the iterator and not `inet_diag`: it names the process, needs no walk through `/proc/*/fd`, and sees
//! all network namespaces without entering them.

use crate::probe::attached::Attached;
use agent_common::record::Flow;
use agent_core::flow::record::listed;
use aya::Ebpf;
use aya::programs::Iter;
use std::fs::File;
use std::io::Read;
use zerocopy::IntoBytes;

/// Words read at once. The kernel fills at most some pages a call.
const CHUNK_WORDS: usize = 8192;

/// Most bytes of one listing: a million sockets.
const MAX_BYTES: usize = size_of::<Flow>() << 20;

/// Gives every socket as it is now to `take`. Nothing once the programs have ended. A listing of all
/// sockets of a busy host takes tens of megabytes: only what was read last is kept.
///
/// # Errors
/// The kernel's refusal.
pub fn each(attached: &Attached, mut take: impl FnMut(&Flow)) -> Result<(), String> {
    let Some(file) = attached.with(open) else { return Ok(()) };
    read(file?, &mut take).map_err(|error| error.to_string())
}

fn read(mut from: impl Read, take: &mut impl FnMut(&Flow)) -> std::io::Result<()> {
    let mut words = vec![0_u64; CHUNK_WORDS];
    // Bytes of a record whose end has not been read yet lie in front.
    let (mut kept, mut all) = (0, 0);
    while all < MAX_BYTES {
        let bytes = words.as_mut_bytes();
        let read = from.read(bytes.get_mut(kept..).unwrap_or_default())?;
        if read == 0 {
            break;
        }
        all += read;
        let have = kept + read;
        kept = have % size_of::<Flow>();
        let whole = have - kept;
        listed(bytes.get(..whole).unwrap_or_default()).for_each(&mut *take);
        bytes.copy_within(whole..have, 0);
    }
    Ok(())
}

fn open(ebpf: &mut Ebpf) -> Result<File, String> {
    let program = ebpf.program_mut("flow_list").ok_or("no program flow_list")?;
    let program: &mut Iter = program.try_into().map_err(|error| format!("{error}"))?;
    let link = program.attach().map_err(|error| error.to_string())?;
    let link = program.take_link(link).map_err(|error| error.to_string())?;
    link.into_file().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_common::record::{Header, VERSION, kind};

    /// Gives so many bytes a call.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
            let len = room.len().min(self.1).min(self.0.len());
            let (now, later) = self.0.split_at(len);
            room[..len].copy_from_slice(now);
            self.0 = later;
            Ok(len)
        }
    }

    #[test]
    fn records_that_are_read_in_pieces_are_whole() {
        let header = Header { version: VERSION, kind: kind::FLOW, ..Header::default() };
        let flow = |cookie| Flow { header, cookie, ..Flow::default() };
        let all: Vec<Flow> = (0..1000).map(flow).collect();
        // The last one is cut.
        let bytes = &all.as_bytes()[..all.as_bytes().len() - 1];
        for piece in [1, 7, size_of::<Flow>(), 4096, usize::MAX] {
            let mut cookies = Vec::new();
            read(Pieces(bytes, piece), &mut |flow| cookies.push(flow.cookie)).expect("no error");
            assert!(cookies.iter().copied().eq(0..999), "{piece} bytes a call: {}", cookies.len());
        }
    }
}
