//! Typed readers of kernel structs and user memory: the only places that touch either.
//!
//! Fields of pointers that the verifier knows by type are loaded directly at offsets that
//! userspace took from the running kernel's BTF; a load through a stale pointer gives 0 and never
//! faults (the kernel handles it). Untyped pointers go through `bpf_probe_read_kernel`.

pub mod atomic;
pub mod iterator;
pub mod messages;
#[path = "x86_64.rs"]
pub mod registers;
pub mod sock;
pub mod task;
pub mod user;

/// Loads a field at `offset` from a pointer whose type the verifier knows.
#[inline(always)]
pub fn load<T: Copy>(base: *const u8, offset: u32) -> T {
    // SAFETY: the verifier checks that `base` is a kernel object with a field of this size there;
    // volatile keeps the load from being split, merged or repeated.
    unsafe { base.add(offset as usize).cast::<T>().read_volatile() }
}

/// Reads a value from an address that the verifier knows nothing about. 0-filled on a fault.
#[inline(always)]
pub fn probe<T: Copy + Default>(address: u64) -> T {
    // SAFETY: the helper copies fault-free from any kernel address.
    unsafe { aya_ebpf::helpers::bpf_probe_read_kernel(address as *const T) }.unwrap_or_default()
}
