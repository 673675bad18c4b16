//! The one place that writes: whole chunks, failures told once.

use super::{Chunk, Format, Loss};
use std::io::{self, ErrorKind, Write};
use tracing::error;

/// Where text goes.
pub(super) struct Sink {
    out: Box<dyn Write + Send>,
    place: String,
    format: Format,
    /// The latest chunk may be there in part.
    torn: bool,
    /// The reader has closed its end.
    gone: bool,
    reported: bool,
}

impl Sink {
    pub(super) fn new(place: String, out: Box<dyn Write + Send>, format: Format) -> Sink {
        Sink { out, place, format, torn: false, gone: false, reported: false }
    }

    /// In one write, where the system takes it so.
    pub(super) fn write(&mut self, chunk: Chunk) -> Result<(), Loss> {
        if self.gone {
            return Err(Loss::ReaderGone);
        }
        let result = (self.format)(chunk.items, chunk.body).and_then(|text| self.put(text));
        let Err(why) = result else { return Ok(()) };
        self.gone = why.kind() == ErrorKind::BrokenPipe;
        self.report(&why);
        Err(if self.gone { Loss::ReaderGone } else { Loss::WriteFailed })
    }

    /// See [`super::Writer::is_gone`].
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    fn put(&mut self, mut text: Vec<u8>) -> io::Result<()> {
        if self.torn {
            // What a full disk cut off must not swallow the next line.
            text.insert(0, b'\n');
        }
        self.torn = true;
        self.out.write_all(&text)?;
        self.out.flush()?;
        self.torn = false;
        Ok(())
    }

    /// The first failure in words; the others in numbers.
    fn report(&mut self, why: &io::Error) {
        if !self.reported {
            self.reported = true;
            error!("cannot write to {}: {why}; what is lost is counted", self.place);
        }
    }
}
