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

/// Bytes read at once. The kernel fills at most some pages a call.
const CHUNK_WORDS: usize = 8192;

/// Most bytes of one listing: a million sockets.
const MAX_BYTES: usize = size_of::<Flow>() << 20;

/// Reads listings, into memory that it keeps.
#[derive(Default)]
pub struct Lister {
    words: Vec<u64>,
    len: usize,
}

impl Lister {
    /// Reads all sockets as they are now. Nothing once the programs have ended.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn read(&mut self, attached: &Attached) -> Result<(), String> {
        self.len = 0;
        let Some(file) = attached.with(open) else { return Ok(()) };
        let file = file?;
        self.fill(file).map_err(|error| error.to_string())
    }

    fn fill(&mut self, mut file: File) -> std::io::Result<()> {
        while self.len < MAX_BYTES {
            let room = self.words.len() * 8 - self.len;
            if room < CHUNK_WORDS * 4 {
                self.words.resize(self.words.len() + CHUNK_WORDS, 0);
            }
            let bytes = self.words.as_mut_bytes().get_mut(self.len..).unwrap_or_default();
            match file.read(bytes)? {
                0 => break,
                read => self.len += read,
            }
        }
        Ok(())
    }

    /// What was read last.
    pub fn sockets(&self) -> impl Iterator<Item = &Flow> {
        listed(self.words.as_bytes().get(..self.len).unwrap_or_default())
    }
}

fn open(ebpf: &mut Ebpf) -> Result<File, String> {
    let program = ebpf.program_mut("flow_list").ok_or("no program flow_list")?;
    let program: &mut Iter = program.try_into().map_err(|error| format!("{error}"))?;
    let link = program.attach().map_err(|error| error.to_string())?;
    let link = program.take_link(link).map_err(|error| error.to_string())?;
    link.into_file().map_err(|error| error.to_string())
}
