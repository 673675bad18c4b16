//! The kernel side for kernels with neither BTF tracepoints nor trampolines, or without type
//! information of their own: attachments are kprobes and raw tracepoints ([`hooks`]).
//!
//! The bodies are those of the other object (`main.rs`). There the verifier knows what a pointer points
//! at; here every pointer is a number. So every field is read by `bpf_probe_read_kernel`, and a socket's
//! state lives in a hash by the socket's address, since socket storage and cookies take typed sockets.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod emit;
mod filter;
mod hooks;
mod kernel;
mod maps;
mod probes;
mod rust_tls;
mod settings;
mod shed;
mod socket;
mod tls;
mod tls_go;

/// The verifier knows no types.
const UNTYPED: bool = true;

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
