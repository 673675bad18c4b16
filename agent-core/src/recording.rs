//! The event stream in a file: what `record` writes and `replay` reads.
//!
//! A recording holds what decides the output: the key of the ids, facts about host and processes,
//! every record in the order of its ring, and when time was told. By default it is scrubbed:
//! a body (not its framing), a secret of a query, a header value that nothing needs, and every
//! byte whose protocol is not known becomes filler of the same length. Replaying gives the same
//! signals as the run that was recorded, ids included.
//!
//! - [`format`]: the file, item by item.
//! - [`scrubber`]: a shard and the copies of its records on their way into the file.
//! - `line`: what of a head is kept.
//! - `filler`: what stands in place of everything else.
//! - `facts`: host and process facts as bytes.

mod facts;
mod filler;
pub mod format;
mod line;
pub mod scrubber;
#[cfg(test)]
mod tests;

pub use format::{Item, Preamble, ReadError, Reader, Totals, Writer};
pub use line::KEPT_HEADERS;
pub use scrubber::{Released, Scrubber, scrub_process_record};
