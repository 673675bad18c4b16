//! Typed readers of kernel structs and user memory: the only places that touch either.
//!
//! Fields of pointers that the verifier knows by type are loaded directly at offsets that
//! userspace took from the running kernel's BTF; a load through a stale pointer gives 0 and never
//! faults (the kernel handles it). Untyped pointers are given a type by [`cast`] (6.2 and later),
//! else they go through `bpf_probe_read_kernel`.

pub mod atomic;
mod compat;
pub mod goroutine;
pub mod iterator;
pub mod ktls;
pub mod messages;
pub mod packet;
pub mod pages;
pub mod published;
#[path = "x86_64.rs"]
pub mod registers;
pub mod sock;
pub mod stack;
pub mod task;
pub mod user;

use core::{arch::asm, ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use agent_common::settings::{CAST_CALL, MISSING, feature};

use crate::settings::{enabled, offset};

/// Loads a field at `offset` from a pointer whose type the verifier knows. In the object without types
/// any kernel address will do; 0-filled on a fault, or where this kernel has no such field.
#[inline(always)]
pub fn load<T: Copy>(base: *const u8, offset: u64) -> T {
    if crate::UNTYPED {
        return read_untyped(base as u64, offset);
    }
    // SAFETY: the verifier checks that `base` is a kernel object with a field of this size there;
    // volatile keeps the load from being split, merged or repeated.
    unsafe { base.add(offset as usize).cast::<T>().read_volatile() }
}

#[inline(always)]
fn read_untyped<T: Copy>(base: u64, offset: u64) -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    // As 32 bits: what is missing has been extended by its sign.
    if offset as u32 != MISSING {
        let from = base.wrapping_add(offset) as *const c_void;
        // SAFETY: the helper copies fault-free from any kernel address, or fills with 0.
        unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from) };
    }
    // SAFETY: `T` is a number, an array of numbers or a raw pointer: every bit pattern is one.
    unsafe { value.assume_init() }
}

/// Gives a pointer a type, by its id, so that [`load`] reads from it. Only under [`feature::CAST`].
#[inline(always)]
pub fn cast(address: u64, type_id: u64) -> *const u8 {
    let typed: u64;
    // SAFETY: the loader makes a call of `bpf_rdonly_cast(const void *, u32)` of this one: it
    // clobbers what every call does, reads no memory, and any address will do.
    unsafe {
        asm!(
            "call {number}",
            number = const CAST_CALL,
            inout("r1") address => _,
            inout("r2") type_id => _,
            lateout("r0") typed,
            out("r3") _,
            out("r4") _,
            out("r5") _,
            options(nomem, nostack),
        );
    }
    typed as *const u8
}

/// Reads 64 bits at an address that the verifier knows nothing about. 0 on a fault.
#[inline(always)]
pub fn word(address: u64) -> u64 {
    if enabled(feature::CAST) {
        return load(cast(address, offset!(type_word)), 0);
    }
    probe(address)
}

/// Reads the field at `offset` of a struct that the verifier knows nothing about. 0 where this kernel
/// has no such field, or on a fault.
#[inline(always)]
pub fn probe_field<T: Copy + Default>(base: u64, offset: u64) -> T {
    // As 32 bits: what is missing has been extended by its sign.
    if offset as u32 == MISSING { T::default() } else { probe(base + offset) }
}

/// Reads a value from an address that the verifier knows nothing about. 0-filled on a fault.
#[inline(always)]
pub fn probe<T: Copy + Default>(address: u64) -> T {
    // SAFETY: the helper copies fault-free from any kernel address.
    unsafe { aya_ebpf::helpers::bpf_probe_read_kernel(address as *const T) }.unwrap_or_default()
}
