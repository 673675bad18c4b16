//! What is known of the runtimes of programs.
//!
//! - [`context`]: programs that publish their trace context by thread, the same.
//! - [`go`]: programs in Go, handed to the kernel side, which then reads goroutines.
//! - [`known`]: what became of both, by process.

pub mod context;
pub mod go;
pub mod known;
