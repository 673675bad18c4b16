//! The recording file, written to by several threads.

use super::payload::lock;
use agent_core::event::{Event, record_len};
use agent_core::process::ProcessFacts;
use agent_core::process::kubernetes::PodChange;
use agent_core::recording::{Item, Preamble, Released, Writer, scrub_process_record};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A recording being made.
pub struct Recorder {
    path: PathBuf,
    raw: bool,
    writer: Mutex<Option<Writer<BufWriter<File>>>>,
    fault: Mutex<Option<io::Error>>,
}

impl Recorder {
    /// Creates the file, readable for its owner only. An existing one is replaced.
    ///
    /// # Errors
    /// The system's, for example a missing directory.
    pub fn create(path: &Path, preamble: &Preamble) -> io::Result<Recorder> {
        // Removed first: an old file's mode would stay, and may be open to all.
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let writer = Writer::new(BufWriter::new(file), preamble)?;
        Ok(Recorder {
            path: path.to_owned(),
            raw: preamble.raw,
            writer: Mutex::new(Some(writer)),
            fault: Mutex::new(None),
        })
    }

    /// Nothing is scrubbed.
    pub fn is_raw(&self) -> bool {
        self.raw
    }

    /// A record as it came (raw), without the rest of its slot.
    pub fn record(&self, ring: u8, slot: &[u8], event: &Event<'_>) {
        let bytes = slot.get(..record_len(event)).unwrap_or(slot);
        self.write(&Item::Record { ring, bytes });
    }

    /// A record of the process ring.
    pub fn process_record(&self, slot: &[u8], event: &Event<'_>) {
        if self.raw {
            self.record(0, slot, event);
        } else {
            self.write(&Item::Record { ring: 0, bytes: &scrub_process_record(event) });
        }
    }

    /// What the scrubber lets go.
    pub fn released(&self, ring: u8, released: &Released<'_>) {
        match released {
            Released::Record(bytes) => self.write(&Item::Record { ring, bytes }),
            Released::Tick(boot_ns) => self.tick(ring, *boot_ns),
        }
    }

    /// A ring was found empty.
    pub fn tick(&self, ring: u8, boot_ns: u64) {
        self.write(&Item::Tick { ring, boot_ns });
    }

    /// Facts about a process.
    pub fn facts(&self, facts: &ProcessFacts) {
        self.write(&Item::Process(Box::new(facts.clone())));
    }

    /// What became known of a pod.
    pub fn pod(&self, change: &PodChange) {
        self.write(&Item::Pod(Box::new(change.clone())));
    }

    /// A sample of the wall clock, taken while nobody else writes: in the file it stands before
    /// every tick of a later time, as it comes before that tick in the assembler.
    pub fn clock(&self, sample: impl FnOnce() -> (u64, i64)) -> (u64, i64) {
        let mut writer = lock(&self.writer);
        let (boot_ns, unix_minus_boot_ns) = sample();
        self.write_to(&mut writer, &Item::Clock { boot_ns, unix_minus_boot_ns });
        (boot_ns, unix_minus_boot_ns)
    }

    /// Records that a CPU tried to write.
    pub fn settle(&self, ring: u8, cpu: u16, next: u64) {
        self.write(&Item::Settle { ring, cpu, next });
    }

    /// What the kernel side counted until now.
    pub fn counters(&self, counters: Vec<u64>) {
        self.write(&Item::Counters(counters));
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The first fault of the whole recording, with the file's name.
    pub fn finish(&self) -> anyhow::Result<()> {
        let writer = lock(&self.writer).take();
        let ended = match writer {
            Some(writer) => writer.finish().and_then(|mut file| file.flush()),
            None => Ok(()),
        };
        let fault = lock(&self.fault).take();
        let result = fault.map_or(ended, Err);
        result.map_err(|error| {
            anyhow::Error::new(error).context(format!("writing {}", self.path.display()))
        })
    }

    /// Keeps the first fault and stops writing: a recording with a hole would replay to
    /// something else.
    fn write(&self, item: &Item<'_>) {
        self.write_to(&mut lock(&self.writer), item);
    }

    fn write_to(&self, writer: &mut Option<Writer<BufWriter<File>>>, item: &Item<'_>) {
        let Some(open) = writer.as_mut() else { return };
        if let Err(error) = open.item(item) {
            tracing::error!("recording to {} stops: {error}", self.path.display());
            *lock(&self.fault) = Some(error);
            *writer = None;
        }
    }
}
