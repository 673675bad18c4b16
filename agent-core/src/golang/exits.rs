//! Where a function is left: its return instructions, and a place before them that costs less to probe.
//!
//! A probe on a return makes the kernel step over it, while it carries out calls and jumps itself
//! (`branch_setup_xol_ops` in arch/x86/kernel/uprobes.c). So of the ways through a function that lead past
//! one such place only that is probed; of the others, which are errors, the returns. Instructions are
//! decoded one after the other: a byte that looks like a return may be part of another instruction.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// Calls of the function that is looked for: the compiler makes one or two.
const MAX_CALLS: usize = 8;

/// Instructions between a call and the place behind it.
const MAX_BEHIND: usize = 8;

/// The place that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The last call of the function at this address.
    Call(u64),
    /// The first jump or call behind it, where `rbx`, its second result, is still there.
    Behind(u64),
}

/// Offsets in a function's code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// The place that was looked for. Every way out either leads past it once, or to one of the returns.
    pub place: Option<usize>,
    /// Return instructions; with a place, those that no way from there leads to.
    pub returns: Vec<usize>,
}

/// A function, decoded.
pub(super) struct Decoded(Vec<Instruction>);

impl Decoded {
    /// Decodes `code`, which is loaded at `address`. `None` when it is not all instructions.
    pub(super) fn new(code: &[u8], address: u64) -> Option<Decoded> {
        address.checked_add(code.len() as u64)?;
        let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
        let mut all = Vec::new();
        while decoder.can_decode() {
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                return None;
            }
            all.push(instruction);
        }
        Some(Decoded(all))
    }

    /// Its exits. `ends`: addresses of functions that do not return.
    pub(super) fn exits(&self, wanted: Wanted, ends: &[u64]) -> Exits {
        let found = self.place(wanted, ends);
        let reached = found.map(|place| self.reachable(place + 1, ends));
        let behind = |index: usize| reached.as_ref().is_some_and(|reached| reached[index]);
        let returns = self.0.iter().enumerate().filter(|(index, instruction)| {
            instruction.mnemonic() == Mnemonic::Ret && !behind(*index)
        });
        let returns = returns.map(|(index, _)| self.offset(index)).collect();
        Exits { place: found.map(|place| self.offset(place)), returns }
    }

    /// At its entry the function puts its first argument where its frame pointer plus 16 points: the room
    /// that callers leave for it (Go's internal ABI).
    pub(super) fn keeps_first_argument(&self) -> bool {
        let mut frame = None;
        let mut pushed = false;
        for instruction in self.0.iter().take_while(|one| one.mnemonic() != Mnemonic::Call) {
            let first = instruction.op0_register();
            match instruction.mnemonic() {
                Mnemonic::Push if first == Register::RBP => pushed = true,
                Mnemonic::Sub if first == Register::RSP => {
                    frame = instruction.try_immediate(1).ok();
                }
                Mnemonic::Mov
                    if instruction.op0_kind() == OpKind::Memory
                        && instruction.op1_register() == Register::RAX
                        && instruction.memory_base() == Register::RSP
                        && instruction.memory_index() == Register::None =>
                {
                    let above = if pushed { 16 } else { 8 };
                    let place = frame.and_then(|frame| frame.checked_add(above));
                    return place == Some(instruction.memory_displacement64());
                }
                _ => {}
            }
        }
        false
    }

    fn offset(&self, index: usize) -> usize {
        let first = self.0.first().map_or(0, Instruction::ip);
        self.0.get(index).map_or(0, |instruction| instruction.ip().wrapping_sub(first) as usize)
    }

    /// Index of the place. `None` also where a way could lead past it twice, or cannot be followed.
    fn place(&self, wanted: Wanted, ends: &[u64]) -> Option<usize> {
        if self.0.iter().any(jumps_anywhere) {
            return None;
        }
        let (Wanted::Call(target) | Wanted::Behind(target)) = wanted;
        let is_call = |instruction: &Instruction| called(instruction) == Some(target);
        let calls = self.0.iter().enumerate().filter(|(_, one)| is_call(one));
        let calls: Vec<usize> = calls.map(|(index, _)| index).take(MAX_CALLS).collect();
        let is_last = |call: &&usize| {
            let reached = self.reachable(**call + 1, ends);
            !calls.iter().any(|other| reached[*other])
        };
        let mut last = calls.iter().filter(is_last);
        let (Some(call), None) = (last.next(), last.next()) else { return None };
        match wanted {
            Wanted::Call(_) => Some(*call),
            Wanted::Behind(_) => self.behind(*call),
        }
    }

    /// The first instruction behind a call that the kernel carries out itself.
    fn behind(&self, call: usize) -> Option<usize> {
        let rest = self.0.get(call + 1..)?;
        let after = rest
            .iter()
            .take(MAX_BEHIND)
            .position(|one| is_emulated_jump(one) || called(one).is_some())?;
        let place = call + 1 + after;
        let straight = self.0.get(call + 1..place)?;
        let (first, last) = (self.0.get(call + 1)?.ip(), self.0.get(place)?.ip());
        // Nobody comes from elsewhere, and `rbx` stays.
        let entered = self.0.iter().filter_map(target).any(|to| to >= first && to <= last);
        (straight.iter().all(leaves_rbx) && !entered).then_some(place)
    }

    /// Which instructions ways from `start` lead to.
    fn reachable(&self, start: usize, ends: &[u64]) -> Vec<bool> {
        let mut reached = vec![false; self.0.len()];
        let mut open = vec![start];
        while let Some(index) = open.pop() {
            let Some(instruction) = self.0.get(index) else { continue };
            if std::mem::replace(&mut reached[index], true) {
                continue;
            }
            open.extend(target(instruction).and_then(|to| self.index(to)));
            let over = matches!(instruction.mnemonic(), Mnemonic::Ret | Mnemonic::Ud2)
                || is_jump(instruction)
                || called(instruction).is_some_and(|to| ends.contains(&to));
            if !over {
                open.push(index + 1);
            }
        }
        reached
    }

    fn index(&self, address: u64) -> Option<usize> {
        self.0.binary_search_by_key(&address, Instruction::ip).ok()
    }
}

/// Looks for exits in any bytes, taken for a function; for tests.
///
/// # Panics
/// When one is no instruction of its kind.
#[doc(hidden)]
pub fn check(bytes: &[u8]) {
    const ADDRESS: u64 = 0x10_0000;
    let Some(code) = Decoded::new(bytes, ADDRESS) else { return };
    let starts: Vec<usize> = (0..code.0.len()).map(|index| code.offset(index)).collect();
    let aims: Vec<u64> = code.0.iter().filter_map(called).take(MAX_CALLS).collect();
    for aim in aims {
        for wanted in [Wanted::Call(aim), Wanted::Behind(aim)] {
            let Exits { place, returns } = code.exits(wanted, &[ADDRESS]);
            for exit in returns.iter().chain(&place) {
                assert!(starts.binary_search(exit).is_ok(), "{exit} is inside an instruction");
            }
            assert!(place.is_none_or(|place| !returns.contains(&place)), "{place:?}");
            if let (Some(place), Wanted::Call(_)) = (place, wanted) {
                assert_eq!(bytes.get(place), Some(&0xe8), "a call");
            }
        }
    }
}

/// Where a jump leads to.
fn target(instruction: &Instruction) -> Option<u64> {
    let jumps = is_near(instruction) && instruction.mnemonic() != Mnemonic::Call;
    jumps.then(|| instruction.near_branch_target())
}

/// Whom it calls, in the form that the kernel carries out itself.
fn called(instruction: &Instruction) -> Option<u64> {
    (instruction.code() == Code::Call_rel32_64 && instruction.len() == 5)
        .then(|| instruction.near_branch_target())
}

/// A jump that always jumps.
fn is_jump(instruction: &Instruction) -> bool {
    is_near(instruction) && instruction.mnemonic() == Mnemonic::Jmp
}

/// A jump whose aim is not in the instruction.
fn jumps_anywhere(instruction: &Instruction) -> bool {
    !is_near(instruction) && instruction.mnemonic() == Mnemonic::Jmp
}

/// A jump or call to a place that it names.
fn is_near(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::NearBranch64
}

/// A jump, always or on a condition, that the kernel carries out itself.
fn is_emulated_jump(instruction: &Instruction) -> bool {
    let counts = [
        Mnemonic::Jcxz,
        Mnemonic::Jecxz,
        Mnemonic::Jrcxz,
        Mnemonic::Loop,
        Mnemonic::Loope,
        Mnemonic::Loopne,
        Mnemonic::Xbegin,
    ];
    target(instruction).is_some() && !counts.contains(&instruction.mnemonic())
}

/// It certainly does not change `rbx`.
fn leaves_rbx(instruction: &Instruction) -> bool {
    let parts = [Register::RBX, Register::EBX, Register::BX, Register::BL, Register::BH];
    match instruction.mnemonic() {
        Mnemonic::Test | Mnemonic::Cmp | Mnemonic::Nop | Mnemonic::Movups => true,
        Mnemonic::Mov | Mnemonic::Movq | Mnemonic::Lea | Mnemonic::Xor => {
            !parts.contains(&instruction.op0_register())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exits(code: &[u8], wanted: Wanted) -> Exits {
        Decoded::new(code, 0x1000).map(|code| code.exits(wanted, &[])).unwrap_or_default()
    }

    /// `call` to 0x2000 at `at` in code that is loaded at 0x1000.
    fn call(at: usize) -> [u8; 5] {
        let [a, b, c, d] = (0x1000_u32 - at as u32 - 5).to_le_bytes();
        [0xe8, a, b, c, d]
    }

    #[test]
    fn a_return_is_an_instruction_and_no_byte() {
        // mov eax, 0xc3c3c3c3; ret; lea rax, [rip-0x3d]; ret 8
        let code =
            [0xb8, 0xc3, 0xc3, 0xc3, 0xc3, 0xc3, 0x48, 0x8d, 0x05, 0xc3, 0xff, 0xff, 0xff, 0xc3];
        let found = exits(&code, Wanted::Call(0x2000));
        assert_eq!(found, Exits { place: None, returns: vec![5, 13] });
    }

    #[test]
    fn returns_behind_the_place_are_left_out() {
        // test eax, eax; jne +1; ret; call; ret
        let mut code = vec![0x85, 0xc0, 0x75, 0x01, 0xc3];
        code.extend(call(5));
        code.push(0xc3);
        let found = exits(&code, Wanted::Call(0x2000));
        assert_eq!(found, Exits { place: Some(5), returns: vec![4] });
    }

    #[test]
    fn a_place_that_is_passed_twice_is_none() {
        // call; test rbx, rbx; jne to the call; ret
        let mut code = call(0).to_vec();
        code.extend([0x48, 0x85, 0xdb, 0x75, 0xf6, 0xc3]);
        let all = Exits { place: None, returns: vec![10] };
        assert_eq!(exits(&code, Wanted::Call(0x2000)), all);
        assert_eq!(exits(&code, Wanted::Behind(0x2000)), all);
        // The same, only forward.
        code[9] = 0;
        assert_eq!(exits(&code, Wanted::Call(0x2000)).place, Some(0));
        assert_eq!(exits(&code, Wanted::Behind(0x2000)).place, Some(8));
    }

    #[test]
    fn the_place_behind_a_call_needs_its_result() {
        for (why, between, place) in [
            ("a store of it", &[0x48, 0x89, 0x5c, 0x24, 0x08][..], Some(10)),
            ("another value", &[0x48, 0x8b, 0x5c, 0x24, 0x08], None),
            ("part of it", &[0x31, 0xdb], None),
            ("something unheard of", &[0x48, 0x0f, 0xc8], None),
        ] {
            let mut code = call(0).to_vec();
            code.extend(between);
            code.extend([0x74, 0x00, 0xc3]);
            assert_eq!(exits(&code, Wanted::Behind(0x2000)).place, place, "{why}");
        }
    }

    #[test]
    fn of_two_calls_the_last_counts() {
        // call; test rbx, rbx; je +1; ret; call; test rbx, rbx; je +0; ret
        let mut code = call(0).to_vec();
        code.extend([0x48, 0x85, 0xdb, 0x74, 0x01, 0xc3]);
        code.extend(call(11));
        code.extend([0x48, 0x85, 0xdb, 0x74, 0x00, 0xc3]);
        let found = exits(&code, Wanted::Behind(0x2000));
        assert_eq!(found, Exits { place: Some(19), returns: vec![10] });
    }

    #[test]
    fn a_jump_to_anywhere_leaves_nothing_out() {
        // call; jmp rax; ret
        let mut code = call(0).to_vec();
        code.extend([0xff, 0xe0, 0xc3]);
        assert_eq!(exits(&code, Wanted::Call(0x2000)), Exits { place: None, returns: vec![7] });
    }

    proptest::proptest! {
        /// Pieces of code in any order: calls, jumps to anywhere near, returns.
        #[test]
        fn whatever_is_decoded_exits_are_instructions(
            pieces in proptest::collection::vec((0..8_usize, proptest::prelude::any::<u8>()), 0..60),
        ) {
            let mut code = Vec::new();
            for (kind, byte) in pieces {
                match kind {
                    0 => code.extend(call(code.len())),
                    1 => code.extend([0x74, byte]),
                    2 => code.extend([0xeb, byte]),
                    3 => code.push(0xc3),
                    4 => code.extend([0x48, 0x85, 0xdb]),
                    5 => code.extend([0x48, 0x89, 0x44, 0x24, byte]),
                    6 => code.extend([0xb8, 0xc3, byte, 0xc3, 0xe8]),
                    _ => code.extend([0x0f, 0x84, byte, 0, 0, 0]),
                }
            }
            check(&code);
        }
    }

    #[test]
    fn what_is_no_instruction_is_refused() {
        assert!(Decoded::new(&[0x06, 0xc3], 0).is_none(), "push es is none in 64 bits");
        assert!(Decoded::new(&[0x48], 0).is_none(), "cut");
        assert!(Decoded::new(&[0xc3], u64::MAX).is_none(), "beyond the last address");
    }
}
