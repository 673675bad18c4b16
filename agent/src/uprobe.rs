//! Probes on functions of libraries: TLS without keys and without restarts.
//!
//! A probe sits on a file (an inode), so that every process that maps it is covered, whenever it starts.
//! Files are found three ways: the well-known libraries in the directories of the standard loader, what
//! running processes have mapped, and each executable mapping that is made from then on.
//!
//! - [`library`]: which functions of which library, and their argument conventions: one table each.
//! - [`openssl`], [`gnutls`], [`nss`]: the tables. [`rustls`]: its methods, by their mangled names. [`go`]:
//!   Go's own TLS, by its instructions. [`boringssl`]: without symbols, by its errors. [`bio`]: OpenSSL's
//!   buffers.
//! - [`target`]: a file to its functions. [`place`]: where in a function a probe costs least.
//! - [`find`]: files that are mapped now, or that the loader would find. [`open`]: without harm.
//! - [`mappings`]: files as they are mapped.
//! - [`loader`]: kernel programs, loaded and attached. [`sys`]: the system calls for it. [`program`]: those for
//!   libraries. [`round_trip`]: the one for Go's HTTP client.
//! - [`attachments`]: which files carry probes, and which wait for them. [`buffers`]: more of them for as long as
//!   a program needs them.
//! - [`tables`]: what the kernel side tells of TLS, and room in its tables.
//! - [`service`]: the thread that puts it together. [`knowledge`]: what it has found out. [`survey`]: what is
//!   not covered, for `doctor`.

mod attachments;
mod bio;
mod boringssl;
mod buffers;
pub mod find;
mod gnutls;
mod go;
pub mod knowledge;
pub mod library;
pub mod loader;
mod mappings;
mod nss;
mod open;
mod openssl;
#[cfg(test)]
pub(crate) mod overlays;
mod place;
pub mod program;
pub mod round_trip;
mod rustls;
pub mod service;
pub mod survey;
#[expect(unsafe_code, reason = "bpf and perf_event_open have no safe wrapper for what is needed")]
mod sys;
pub(crate) mod tables;
pub(crate) mod target;
