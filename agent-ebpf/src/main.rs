//! The kernel side of kernspan: small programs that write what they see into rings.
//!
//! - `probes/`: one subject a file; each program is a thin attachment around a shared body. Those of
//!   payload are in [`typed`].
//! - [`socket`]: state kept with each socket. [`filter`]: who is watched; asked first.
//! - [`tls`]: which socket a TLS library's object uses. [`tls_go`], [`rust_tls`]: the same of Go's
//!   `crypto/tls` and of rustls.
//! - [`emit`]: the only way out. [`maps`]: every map on one page.
//! - `kernel/`: typed readers, the only places that touch kernel or user memory.
//!
//! From the same modules comes a second object, `untyped.rs`: what differs is asked of [`UNTYPED`], so
//! that nothing here pays for it.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod emit;
mod filter;
mod kernel;
mod maps;
mod probes;
mod rust_tls;
mod settings;
mod shed;
mod socket;
mod tls;
mod tls_go;
mod typed;

/// The verifier knows pointers by their types: fields are loaded directly, and state lives with its
/// socket.
const UNTYPED: bool = false;

/// Programs that call GPL-only helpers must say so.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Unreachable: panics are compiled out. Were one reachable, the verifier would reject this endless
/// loop at load time, on the developer's machine.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
