//! What only instructions tell, x86-64. Patterns of what the Go compiler makes, not a decoder: where
//! one does not fit, the answer is none.

use super::ReadAt;
use super::elf::{Elf, TLS, word};

/// Offset behind the comparison of the stack's bound at the beginning of a function: a jump that the
/// kernel emulates, while the comparison it would have to step over.
///
/// `cmp rsp, [r14+16]`, or for large frames `lea r12, [rsp-N]; cmp r12, [r14+16]`; then `jbe`.
pub(super) fn after_stack_check(code: &[u8]) -> Option<u64> {
    let after = match code {
        [0x49, 0x3b, 0x66, 0x10, ..] => 4,
        [0x4c, 0x8d, 0x64, 0x24, _, 0x4d, 0x3b, 0x66, 0x10, ..] => 9,
        [0x4c, 0x8d, 0xa4, 0x24, _, _, _, _, 0x4d, 0x3b, 0x66, 0x10, ..] => 12,
        _ => return None,
    };
    matches!(code.get(after..)?, [0x76, ..] | [0x0f, 0x86, ..]).then_some(after as u64)
}

/// Where a small function keeps its first argument while it calls others, relative to its frame
/// pointer: `mov [rsp+N], rax` behind `push rbp; mov rbp, rsp; sub rsp, SIZE` (1.21 and later), or
/// `sub rsp, SIZE; mov [rsp+SIZE-8], rbp; lea rbp, [rsp+SIZE-8]`.
pub(super) fn receiver(code: &[u8]) -> Option<i64> {
    let code = code.get(..code.len().min(64))?;
    let at = memchr::memmem::find(code, &[0x48, 0x83, 0xec])?;
    let size = i64::from(*code.get(at + 3)?);
    let pushed = code.get(..at)?.ends_with(&[0x55, 0x48, 0x89, 0xe5]);
    let base = if pushed { size } else { size - 8 };
    let behind = code.get(at + 4..)?;
    let saved = memchr::memmem::find(behind, &[0x48, 0x89, 0x44, 0x24])?;
    // Before the first call: `call [REG]` is ff d0 to ff d7, `call N` e8.
    let called = behind.windows(2).position(|pair| pair[0] == 0xff && pair[1] & 0xf8 == 0xd0);
    let place = i64::from(*behind.get(saved + 4)?);
    (called.is_some_and(|called| saved < called) && place < base).then_some(place - base)
}

/// `sched.goidgen.Add(16)` in `runtime.newproc1`, whose code begins at `address`: `mov REG, 16` and
/// `lea PLACE, [rip+N]` (in any order), `lock xadd [PLACE], REG`.
pub(super) fn numbers(code: &[u8], address: u64) -> Option<u64> {
    let xadd = code.windows(5).enumerate().filter_map(|(at, bytes)| match bytes {
        &[0xf0, rex, 0x0f, 0xc1, modrm] if rex & 0xf8 == 0x48 && modrm >> 6 == 0 => {
            let value = modrm >> 3 & 7 | (rex & 4) << 1;
            let place = modrm & 7 | (rex & 1) << 3;
            Some((at, value, place))
        }
        _ => None,
    });
    xadd.filter_map(|(at, value, place)| {
        let before = code.get(at.saturating_sub(NEAR)..at)?;
        let base = address.checked_add(at.saturating_sub(NEAR) as u64)?;
        sixteen(before, value).then(|| pointed(before, base, place))?
    })
    .next()
}

/// Bytes before an instruction in which those that prepare it are.
const NEAR: usize = 24;

/// `mov r32, 16` is among these.
fn sixteen(code: &[u8], register: u8) -> bool {
    let low = [0xb8 | register & 7, 16, 0, 0, 0];
    let mut places = memchr::memmem::find_iter(code, &low);
    places.any(|at| {
        let rex = at.checked_sub(1).and_then(|at| code.get(at));
        (register < 8) != (rex == Some(&0x41))
    })
}

/// The address that the last `lea register, [rip+N]` among these gives.
fn pointed(code: &[u8], base: u64, register: u8) -> Option<u64> {
    let wanted = [0x48 | (register & 8) >> 1, 0x8d, (register & 7) << 3 | 5];
    let at = memchr::memmem::rfind(code, &wanted)?;
    let distance = word(code, at + 3)? as i32;
    base.checked_add(at as u64 + 7)?.checked_add_signed(i64::from(distance))
}

/// Where the running goroutine is, relative to the thread pointer: the symbol `runtime.tlsg` in the
/// executable's thread-local segment, which ends at the thread pointer (ELF Handling For Thread-Local
/// Storage, variant II).
pub(super) fn slot(elf: &Elf, file: &mut impl ReadAt, prologue: &[u8]) -> Option<i32> {
    /// `R_X86_64_TPOFF64`.
    const THREAD_POINTER_OFFSET: u32 = 18;
    const ALONE: u64 = 8;
    let Some(segment) = elf.segments.iter().find(|segment| segment.kind == TLS) else {
        return Some(-8);
    };
    let align = segment.align.max(1);
    let size = segment.memory_size.checked_add(align - 1)? / align * align;
    let of = |place: u64| {
        let slot = i64::try_from(place).ok()?.checked_sub(i64::try_from(size).ok()?)?;
        i32::try_from(slot).ok().filter(|slot| *slot < 0)
    };
    if segment.memory_size == ALONE {
        return of(0);
    }
    if let Some(slot) = loaded(prologue) {
        return Some(slot);
    }
    if let Some(place) = elf.symbol(file, "runtime.tlsg") {
        return of(place);
    }
    // The only place that the loader is asked for: the Go linker makes one for it.
    let mut places = Vec::new();
    elf.relocations(file, |_, kind, symbol, addend| {
        if kind == THREAD_POINTER_OFFSET && symbol == 0 {
            places.push(addend);
        }
        (places.len() > MANY).then_some(())
    });
    places.dedup();
    match places.as_slice() {
        [only] => of(*only),
        _ => None,
    }
}

/// Relocations of that kind in a file that is no Go program's.
const MANY: usize = 64;

/// `mov REG, fs:[N]`, or `mov REG, N; mov REG, fs:[REG]`, which linkers make of a load from the table
/// of offsets, at the beginning of a function.
fn loaded(code: &[u8]) -> Option<i32> {
    let code = code.get(..code.len().min(64))?;
    let number = |at: usize| word(code, at).map(|number| number as i32).filter(|slot| *slot < 0);
    let direct = code.windows(9).position(
        |bytes| matches!(bytes, [0x64, 0x48 | 0x4c, 0x8b, modrm, 0x25, ..] if modrm & 0xc7 == 4),
    );
    if let Some(at) = direct {
        return number(at + 5);
    }
    let through = code.windows(11).position(|bytes| {
        matches!(bytes, [0x48 | 0x49, 0xc7, modrm, _, _, _, _, 0x64, 0x48 | 0x4d, 0x8b, _]
            if modrm & 0xf8 == 0xc0)
    })?;
    number(through + 3)
}
