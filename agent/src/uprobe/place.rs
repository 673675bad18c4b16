//! Where a probe costs least.
//!
//! The kernel carries out some instructions itself when a probe lies on them (`push`, jumps and calls:
//! arch/x86/kernel/uprobes.c); any other is stepped through, which costs twenty times as much (measured:
//! 0.5 and 8.9 µs). So a place is looked for that shows the same. Only instructions that are known here
//! are passed, from the function's first on and in a straight line: nothing else leads there.

/// `endbr64`.
const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];

/// Bytes of a function that are looked at.
pub const LOOKED_AT: usize = 96;

/// Where the first six arguments lie, and the stack as at the function's entry.
///
/// A probe on the return has to be here: it takes the return address off the stack.
pub fn with_stack(offset: u64, code: &[u8]) -> u64 {
    let (skipped, rest) = without_mark(code);
    if is_push(rest) { offset + skipped } else { offset }
}

/// Where the first six arguments still lie in their registers.
pub fn with_arguments(offset: u64, code: &[u8]) -> u64 {
    let mut rest = code;
    loop {
        if is_push(rest) || is_jump(rest) {
            return offset + (code.len() - rest.len()) as u64;
        }
        match harmless(rest) {
            Some(next) => rest = next,
            None => return offset,
        }
    }
}

/// A probe there is carried out by the kernel.
pub fn is_cheap(code: &[u8]) -> bool {
    is_push(code) || is_jump(code)
}

/// The function that is called first, with all six arguments as they came.
pub fn passes_on(offset: u64, code: &[u8]) -> Option<u64> {
    callee(offset, code, harmless)
}

/// The function that is called first, with the first two arguments as they came.
pub fn passes_two_on(offset: u64, code: &[u8]) -> Option<u64> {
    callee(offset, code, |code| harmless(code).or_else(|| prepares(code)))
}

/// A function that has another do its work, with more arguments that are zero, and does not come back:
/// `xor` of rcx and r8, then a jump.
pub fn adds_zeros(code: &[u8]) -> bool {
    const RCX: &[u8] = &[0x31, 0xc9];
    const R8: &[u8] = &[0x45, 0x31, 0xc0];
    let (_, rest) = without_mark(code);
    let after = [[RCX, R8].concat(), [R8, RCX].concat()];
    after.iter().any(|zeros| {
        rest.strip_prefix(zeros.as_slice()).is_some_and(|rest| rest.first() == Some(&0xe9))
    })
}

/// What a function does nothing but give: an address (`lea rax, [rip + disp32]`, then `ret`). `address`: its
/// own.
pub fn returned_address(address: u64, code: &[u8]) -> Option<u64> {
    let (skipped, rest) = without_mark(code);
    let [0x48, 0x8d, 0x05, a, b, c, d, 0xc3, ..] = rest else { return None };
    let next = address.checked_add(skipped + 7)?;
    next.checked_add_signed(i64::from(i32::from_le_bytes([*a, *b, *c, *d])))
}

fn callee<'c>(
    offset: u64,
    code: &'c [u8],
    passed: impl Fn(&'c [u8]) -> Option<&'c [u8]>,
) -> Option<u64> {
    let mut rest = code;
    loop {
        if let [0xe8, a, b, c, d, after @ ..] = rest {
            let next = offset.checked_add((code.len() - after.len()) as u64)?;
            return next.checked_add_signed(i64::from(i32::from_le_bytes([*a, *b, *c, *d])));
        }
        // A branch that is taken leads to an error's end.
        rest = passed(rest).or_else(|| branch(rest))?;
    }
}

/// Without `endbr64`, and its length.
fn without_mark(code: &[u8]) -> (u64, &[u8]) {
    code.strip_prefix(ENDBR64).map_or((0, code), |rest| (ENDBR64.len() as u64, rest))
}

fn is_push(code: &[u8]) -> bool {
    matches!(code, [0x50..=0x57, ..] | [0x41, 0x50..=0x57, ..])
}

/// A conditional one, or one that is always taken.
fn is_jump(code: &[u8]) -> bool {
    branch(code).is_some() || matches!(code, [0xeb | 0xe9, ..])
}

/// What follows a conditional jump that is not taken.
fn branch(code: &[u8]) -> Option<&[u8]> {
    match code {
        [0x70..=0x7f, _, rest @ ..] | [0x0f, 0x80..=0x8f, _, _, _, _, rest @ ..] => Some(rest),
        _ => None,
    }
}

/// What follows an instruction that leaves the six argument registers alone.
fn harmless(code: &[u8]) -> Option<&[u8]> {
    match code {
        // endbr64
        [0xf3, 0x0f, 0x1e, 0xfa, rest @ ..]
        // push
        | [0x50..=0x57, rest @ ..]
        | [0x41, 0x50..=0x57, rest @ ..]
        // mov rbp, rsp
        | [0x48, 0x89, 0xe5, rest @ ..]
        // sub rsp, imm8; sub rsp, imm32
        | [0x48, 0x83, 0xec, _, rest @ ..]
        | [0x48, 0x81, 0xec, _, _, _, _, rest @ ..]
        // mov rax, fs:0x28: the mark that guards the stack
        | [0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0, rest @ ..]
        // mov [rsp + disp8], rax; mov [rsp + disp32], rax; mov [rbp + disp8], rax
        | [0x48, 0x89, 0x44, 0x24, _, rest @ ..]
        | [0x48, 0x89, 0x84, 0x24, _, _, _, _, rest @ ..]
        | [0x48, 0x89, 0x45, _, rest @ ..]
        // xor eax, eax
        | [0x31, 0xc0, rest @ ..]
        // test r32, r32; test r64, r64
        | [0x85, 0xc0..=0xff, rest @ ..]
        | [0x48, 0x85, 0xc0..=0xff, rest @ ..] => Some(rest),
        _ => None,
    }
}

/// What follows an instruction that sets the third argument or a later one.
fn prepares(code: &[u8]) -> Option<&[u8]> {
    match code {
        // mov rcx, rsp; mov r8, rsp
        [0x48, 0x89, 0xe1, rest @ ..]
        | [0x49, 0x89, 0xe0, rest @ ..]
        // lea rcx, [rsp + disp8]; lea r8, [rsp + disp8]; the same from rbp
        | [0x48 | 0x4c, 0x8d, 0x4c | 0x44, 0x24, _, rest @ ..]
        | [0x48 | 0x4c, 0x8d, 0x4d | 0x45, _, rest @ ..]
        // movsxd rdx, edx; mov edx, edx
        | [0x48, 0x63, 0xd2, rest @ ..]
        | [0x89, 0xd2, rest @ ..]
        // xor ecx, ecx
        | [0x31, 0xc9, rest @ ..]
        // mov qword [rsp], 0
        | [0x48, 0xc7, 0x04, 0x24, 0, 0, 0, 0, rest @ ..] => Some(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Debian 12, OpenSSL 3.0.
    const SSL_READ: &[u8] = &[
        0x48, 0x83, 0xec, 0x18, 0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0, 0x48, 0x89, 0x44,
        0x24, 0x08, 0x31, 0xc0, 0x85, 0xd2, 0x78, 0x2f, 0x48, 0x89, 0xe1, 0x48, 0x63, 0xd2, 0xe8,
        0x3d, 0xfe, 0xff, 0xff, 0x85, 0xc0,
    ];
    const SSL_READ_EX: &[u8] = &[0x48, 0x83, 0xec, 0x08, 0xe8, 0xc7, 0xfd, 0xff, 0xff, 0x31, 0xd2];
    const GNUTLS_RECORD_SEND: &[u8] = &[0x45, 0x31, 0xc0, 0x31, 0xc9, 0xe9, 0x66, 0x9c, 0xff, 0xff];

    #[test]
    fn endbr64_is_skipped_only_before_a_push() {
        for (why, code, expected) in [
            ("push rbx behind it", &[0xf3, 0x0f, 0x1e, 0xfa, 0x53][..], 104),
            ("push r12 behind it", &[0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x54], 104),
            ("something else behind it", &[0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x83], 100),
            ("none", &[0x53, 0x48], 100),
            ("no code", &[], 100),
        ] {
            assert_eq!(with_stack(100, code), expected, "{why}");
        }
    }

    #[test]
    fn arguments_are_still_there_at_the_first_branch() {
        assert_eq!(with_arguments(0x35430, SSL_READ), 0x35446);
        for (why, code, expected) in [
            ("test, je", &[0x48, 0x85, 0xff, 0x0f, 0x84, 0, 0, 0, 0][..], 103),
            ("a register of an argument changes", &[0x48, 0x83, 0xec, 8, 0x31, 0xff, 0x74, 0], 100),
            ("the code ends", &[0x48, 0x83, 0xec, 8], 100),
        ] {
            assert_eq!(with_arguments(100, code), expected, "{why}");
        }
    }

    #[test]
    fn two_functions_share_the_one_that_they_call() {
        assert_eq!(passes_two_on(0x35430, SSL_READ), Some(0x35290));
        assert_eq!(passes_on(0x354c0, SSL_READ_EX), Some(0x35290));
        assert_eq!(passes_on(0x35430, SSL_READ), None, "it sets the fourth argument");
        assert_eq!(passes_two_on(0, &[0x48, 0x89, 0xfb, 0xe8, 0, 0, 0, 0]), None, "not known");
        assert_eq!(passes_on(0, &[0xe8, 0, 0, 0, 0x80]), None, "before the file's begin");
    }

    #[test]
    fn an_address_is_taken_from_a_function_that_only_returns_it() {
        let code = [0x48, 0x8d, 0x05, 0xa9, 0xd2, 0x34, 0, 0xc3];
        assert_eq!(returned_address(0x11_2710, &code), Some(0x45_f9c0));
        let marked = [ENDBR64, &code].concat();
        assert_eq!(returned_address(0x11_270c, &marked), Some(0x45_f9c0));
        assert_eq!(returned_address(0x11_2710, &code[..7]), None, "it goes on");
        assert_eq!(returned_address(u64::MAX, &code), None, "nowhere");
    }

    #[test]
    fn zeros_are_added_before_a_jump_only() {
        assert!(adds_zeros(GNUTLS_RECORD_SEND));
        assert!(!adds_zeros(&[0x45, 0x31, 0xc0, 0x31, 0xc9, 0xe8]));
        assert!(!adds_zeros(&[0x31, 0xc9, 0xe9]));
    }

    proptest! {
        #[test]
        fn no_code_leads_astray(offset: u64, code in proptest::collection::vec(any::<u8>(), 0..LOOKED_AT)) {
            let offset = offset >> 1;
            let within = offset..=offset + code.len() as u64;
            prop_assert!(within.contains(&with_arguments(offset, &code)));
            prop_assert!(within.contains(&with_stack(offset, &code)));
            let _ = (passes_on(offset, &code), passes_two_on(offset, &code), adds_zeros(&code));
        }

        /// What is made of known instructions is walked through to its end.
        #[test]
        fn known_instructions_are_walked(count in 0_usize..6, target in -1000_i32..1000) {
            let mut code = [0x48, 0x83, 0xec, 0x08].repeat(count);
            code.push(0xe8);
            code.extend(target.to_le_bytes());
            let expected = 5000 + code.len() as i64 + i64::from(target);
            prop_assert_eq!(passes_on(5000, &code), u64::try_from(expected).ok());
        }
    }
}
