//! What is known of the runtimes of programs.
//!
//! - [`go`]: programs in Go, handed to the kernel side, which then reads goroutines.

pub mod go;
