//! The file: a preamble, then items, then the end with totals.
//!
//! ```text
//! magic (8) │ version u16 │ preamble item │ item … │ end item
//! item = tag u8 │ ring u8 │ 0 u16 │ length u32 │ body
//! ```
//!
//! Numbers are little-endian. A file may be cut anywhere: what is before the cut replays.

use super::facts::{Decoder, Encoder, Malformed};
use crate::id::IdKey;
use crate::process::kubernetes::PodChange;
use crate::process::{HostFacts, ProcessFacts};
use std::io::{self, ErrorKind, Read, Write};
use zerocopy::IntoBytes;

const MAGIC: &[u8; 8] = b"KSPANREC";

/// Version of this format.
pub const VERSION: u16 = 2;

/// Longest body. The largest record has a few KiB, process facts have a bounded argument vector.
const MAX_BODY: usize = 1 << 20;

mod tag {
    pub(super) const PREAMBLE: u8 = 1;
    pub(super) const RECORD: u8 = 2;
    pub(super) const PROCESS: u8 = 3;
    pub(super) const TICK: u8 = 4;
    pub(super) const CLOCK: u8 = 5;
    pub(super) const COUNTERS: u8 = 6;
    pub(super) const SETTLE: u8 = 7;
    pub(super) const END: u8 = 8;
    pub(super) const POD: u8 = 9;
}

/// What a replay must know before the first record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preamble {
    /// Key of the ids.
    pub id_key: IdKey,
    /// Layout of the records ([`agent_common::record::VERSION`]).
    pub record_version: u8,
    /// Nothing was scrubbed (`--raw`).
    pub raw: bool,
    /// The host.
    pub host: HostFacts,
    /// Settings that decide the output, by name: head sizes, filters, limits.
    pub settings: Vec<(String, String)>,
}

/// One item.
#[derive(Clone, Debug, PartialEq)]
pub enum Item<'a> {
    /// A record of a ring. Aligned as [`crate::event::decode`] needs it when it was read.
    Record {
        /// Ring: 0 for processes, then one per shard.
        ring: u8,
        /// The record, without the rest of its slot.
        bytes: &'a [u8],
    },
    /// What became known of a process.
    Process(Box<ProcessFacts>),
    /// What became known of a pod.
    Pod(Box<PodChange>),
    /// A ring was found empty, or time was told to its shard.
    Tick {
        /// Ring.
        ring: u8,
        /// Boot-time ns.
        boot_ns: u64,
    },
    /// Offset of the wall clock.
    Clock {
        /// Boot-time ns at which it was taken.
        boot_ns: u64,
        /// Unix time minus boot time, ns.
        unix_minus_boot_ns: i64,
    },
    /// The kernel side's counters so far, by [`agent_common::counter`].
    Counters(Vec<u64>),
    /// How many records a CPU tried to write to a ring: [`crate::connection::Shard::settle`].
    Settle {
        /// Ring.
        ring: u8,
        /// CPU.
        cpu: u16,
        /// Number that its next record would have had.
        next: u64,
    },
    /// The end. Nothing follows.
    End(Totals),
}

/// What a whole file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Items between preamble and end.
    pub items: u64,
    /// Records among them.
    pub records: u64,
}

/// Why a recording cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("reading the recording failed at byte {offset}")]
    Io {
        /// Bytes read before.
        offset: u64,
        /// Cause.
        source: io::Error,
    },
    /// Another kind of file.
    #[error("this is no kernspan recording")]
    NotARecording,
    /// Another version.
    #[error("recording version {found}, this build reads {VERSION}")]
    Version {
        /// Version of the file.
        found: u16,
    },
    /// The bytes contradict the format.
    #[error("the recording is damaged at byte {offset}: {what}")]
    Damaged {
        /// Where the damaged item begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The file ends before its end item. What came before has been read.
    #[error("the recording is cut off at byte {offset}, after {items} items")]
    Truncated {
        /// Where the file ends.
        offset: u64,
        /// Items read before.
        items: u64,
    },
}

/// Writes a recording.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    body: Vec<u8>,
    totals: Totals,
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// When `to` cannot be written.
    pub fn new(mut to: W, preamble: &Preamble) -> io::Result<Writer<W>> {
        to.write_all(MAGIC)?;
        to.write_all(&VERSION.to_le_bytes())?;
        let mut writer = Writer { to, body: Vec::new(), totals: Totals::default() };
        let mut encoder = Encoder(&mut writer.body);
        encoder.number(preamble.id_key.0);
        encoder.number([preamble.record_version, u8::from(preamble.raw)]);
        encoder.host(&preamble.host);
        encoder.pairs(&preamble.settings);
        writer.body(tag::PREAMBLE, 0)?;
        Ok(writer)
    }

    /// Adds an item. [`Item::End`] belongs to [`Writer::finish`] and is ignored here.
    ///
    /// # Errors
    /// When the file cannot be written, or the item is longer than a reader would take.
    pub fn item(&mut self, item: &Item<'_>) -> io::Result<()> {
        self.body.clear();
        let mut to = Encoder(&mut self.body);
        let (tag, ring) = match item {
            Item::Record { ring, bytes } => {
                to.0.extend_from_slice(bytes);
                self.totals.records += 1;
                (tag::RECORD, *ring)
            }
            Item::Process(facts) => {
                to.process(facts);
                (tag::PROCESS, 0)
            }
            Item::Pod(change) => {
                to.pod(change);
                (tag::POD, 0)
            }
            Item::Tick { ring, boot_ns } => {
                to.number(boot_ns.to_le_bytes());
                (tag::TICK, *ring)
            }
            Item::Clock { boot_ns, unix_minus_boot_ns } => {
                to.number(boot_ns.to_le_bytes());
                to.number(unix_minus_boot_ns.to_le_bytes());
                (tag::CLOCK, 0)
            }
            Item::Counters(counters) => {
                to.list(counters, |to, count| to.number(count.to_le_bytes()));
                (tag::COUNTERS, 0)
            }
            Item::Settle { ring, cpu, next } => {
                to.number(cpu.to_le_bytes());
                to.number(next.to_le_bytes());
                (tag::SETTLE, *ring)
            }
            Item::End(_) => return Ok(()),
        };
        self.totals.items += 1;
        self.body(tag, ring)
    }

    /// Writes the end and gives back what was written to, flushed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.body.clear();
        let mut to = Encoder(&mut self.body);
        to.number(self.totals.items.to_le_bytes());
        to.number(self.totals.records.to_le_bytes());
        self.body(tag::END, 0)?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn body(&mut self, tag: u8, ring: u8) -> io::Result<()> {
        if self.body.len() > MAX_BODY {
            return Err(io::Error::new(ErrorKind::InvalidInput, "item too long for a recording"));
        }
        self.to.write_all(&[tag, ring, 0, 0])?;
        self.to.write_all(&(self.body.len() as u32).to_le_bytes())?;
        self.to.write_all(&self.body)
    }
}

/// Reads a recording.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    offset: u64,
    /// Of the latest item; whole words, so that records are aligned.
    body: Vec<u64>,
    read: Totals,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Opens a recording.
    ///
    /// # Errors
    /// [`ReadError`] when this is none, or none of this version.
    pub fn new(from: R) -> Result<(Reader<R>, Preamble), ReadError> {
        let mut reader =
            Reader { from, offset: 0, body: Vec::new(), read: Totals::default(), ended: false };
        let mut magic = [0; 8];
        if reader.fill(&mut magic)? < magic.len() || magic != *MAGIC {
            return Err(ReadError::NotARecording);
        }
        let mut version = [0; 2];
        reader.exact(&mut version)?;
        let found = u16::from_le_bytes(version);
        if found != VERSION {
            return Err(ReadError::Version { found });
        }
        let (tag, _, len) = reader.head()?.ok_or(ReadError::NotARecording)?;
        let body = reader.body(len)?;
        let preamble = match tag {
            tag::PREAMBLE => preamble(body).map_err(|Malformed| "preamble"),
            _ => Err("no preamble"),
        };
        let preamble = preamble.map_err(|what| ReadError::Damaged { offset: 10, what })?;
        Ok((reader, preamble))
    }

    /// The next item; `None` after the end.
    ///
    /// # Errors
    /// [`ReadError`], with the place. Nothing can be read after one.
    pub fn item(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        let offset = self.offset;
        let Some((tag, ring, len)) = self.head()? else {
            let items = self.read.items;
            return if self.ended { Ok(None) } else { Err(ReadError::Truncated { offset, items }) };
        };
        if self.ended {
            return Err(ReadError::Damaged { offset, what: "items behind the end" });
        }
        self.body(len)?;
        let read = self.read;
        self.read.items += u64::from(tag != tag::END);
        self.read.records += u64::from(tag == tag::RECORD);
        self.ended = tag == tag::END;
        let body = self.body.as_bytes().get(..len).unwrap_or_default();
        let item = item(tag, ring, body).map_err(|what| ReadError::Damaged { offset, what })?;
        match item {
            Item::End(totals) if totals != read => {
                Err(ReadError::Damaged { offset, what: "totals differ from what was read" })
            }
            item => Ok(Some(item)),
        }
    }

    /// Items and records read so far.
    pub fn read(&self) -> Totals {
        self.read
    }

    /// Tag, ring and length of the next item; `None` at the file's end.
    fn head(&mut self) -> Result<Option<(u8, u8, usize)>, ReadError> {
        let offset = self.offset;
        let mut head = [0; 8];
        match self.fill(&mut head)? {
            0 => return Ok(None),
            8 => {}
            _ => return Err(self.truncated()),
        }
        let [tag, ring, zero0, zero1, l0, l1, l2, l3] = head;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if len > MAX_BODY || (zero0, zero1) != (0, 0) {
            return Err(ReadError::Damaged { offset, what: "item header" });
        }
        Ok(Some((tag, ring, len)))
    }

    fn body(&mut self, len: usize) -> Result<&[u8], ReadError> {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        body.resize(len.div_ceil(8), 0);
        let result = self.exact(body.as_mut_bytes().get_mut(..len).unwrap_or_default());
        self.body = body;
        result?;
        Ok(self.body.as_bytes().get(..len).unwrap_or_default())
    }

    fn exact(&mut self, bytes: &mut [u8]) -> Result<(), ReadError> {
        if self.fill(bytes)? < bytes.len() { Err(self.truncated()) } else { Ok(()) }
    }

    fn truncated(&self) -> ReadError {
        ReadError::Truncated { offset: self.offset, items: self.read.items }
    }

    /// Reads until `bytes` are full or the file ends.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, ReadError> {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.from.read(rest) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadError::Io { offset: self.offset, source }),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }
}

fn preamble(body: &[u8]) -> Result<Preamble, Malformed> {
    let mut from = Decoder(body);
    let id_key = IdKey(from.bytes()?);
    let [record_version, raw] = from.bytes()?;
    let preamble = Preamble {
        id_key,
        record_version,
        raw: raw != 0,
        host: from.host()?,
        settings: from.pairs()?,
    };
    from.end().map(|()| preamble)
}

fn item(tag: u8, ring: u8, body: &[u8]) -> Result<Item<'_>, &'static str> {
    let mut from = Decoder(body);
    if tag == tag::RECORD {
        return Ok(Item::Record { ring, bytes: body });
    }
    let mut read = || {
        let item = match tag {
            tag::PROCESS => Item::Process(Box::new(from.process()?)),
            tag::POD => Item::Pod(Box::new(from.pod()?)),
            tag::TICK => Item::Tick { ring, boot_ns: from.u64()? },
            tag::CLOCK => Item::Clock {
                boot_ns: from.u64()?,
                unix_minus_boot_ns: i64::from_le_bytes(from.bytes()?),
            },
            tag::COUNTERS => Item::Counters(from.list(Decoder::u64)?),
            tag::SETTLE => Item::Settle { ring, cpu: from.u16()?, next: from.u64()? },
            tag::END => Item::End(Totals { items: from.u64()?, records: from.u64()? }),
            _ => return Err(Malformed),
        };
        from.end().map(|()| item)
    };
    read().map_err(|Malformed| "item of unknown kind, or with wrong fields")
}
