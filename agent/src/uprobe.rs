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
//! - [`find`]: files that are mapped now, or that the loader would find.
//! - [`mappings`]: files as they are mapped.
//! - [`program`]: the kernel programs, loaded and attached. [`sys`]: the system calls for it.
//! - [`service`]: the thread that puts it together. [`survey`]: what is not covered, for `doctor`.

mod bio;
mod boringssl;
pub mod find;
mod gnutls;
mod go;
pub mod library;
mod mappings;
mod nss;
mod openssl;
mod place;
pub mod program;
mod rustls;
pub mod service;
pub mod survey;
#[expect(unsafe_code, reason = "bpf and perf_event_open have no safe wrapper for what is needed")]
mod sys;
mod target;
