//! Stacks of the kernel programs: before 6.13 those of functions that call each other have 512 bytes
//! together, and only a VM would tell (`check_max_stack_depth`, kernel/bpf/verifier.c). And those on probes in
//! user space have to stay on their task's stack (agent-ebpf/src/kernel/stack.rs).

use anyhow::{Context, Result, ensure};
use aya_obj::generated::bpf_insn;
use aya_obj::obj::{Object, ProgramSection};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

/// Bytes for a program and what it calls (`MAX_BPF_STACK`).
const MOST: u32 = 512;

/// Functions that may call each other (`MAX_CALL_FRAMES`).
const DEEPEST: usize = 8;

/// A function's share is rounded up to this.
const STEP: u32 = 32;

/// Checks both objects; prints the program with the deepest stack.
pub fn check(object: &Path) -> Result<()> {
    for path in [object.to_owned(), object.with_file_name("kernspan-untyped")] {
        let object = fs::read(&path).with_context(|| path.display().to_string())?;
        let strays = without_tail_call(&object)?;
        ensure!(strays.is_empty(), "on stacks that another task may use: {strays:?}");
        let depths = depths(&object)?;
        let (name, depth) = depths.iter().max_by_key(|(_, depth)| **depth).context("no program")?;
        println!("{}: {depth} of {MOST} bytes of stack in {name}", path.display());
        let over: Vec<_> = depths.iter().filter(|(_, depth)| **depth > MOST).collect();
        ensure!(over.is_empty(), "too deep for kernels before 6.13: {over:?}");
    }
    Ok(())
}

/// Programs on probes in user space to which the kernel would give a stack by processor.
fn without_tail_call(object: &[u8]) -> Result<Vec<String>> {
    const CALL: u8 = 0x85;
    const TAIL_CALL: i32 = 12;
    let object = Object::parse(object)?;
    let uprobes = object.programs.iter().filter(|(_, program)| {
        matches!(program.section, ProgramSection::UProbe { .. } | ProgramSection::URetProbe { .. })
    });
    let is_tail_call =
        |one: &bpf_insn| one.code == CALL && one.src_reg() == 0 && one.imm == TAIL_CALL;
    let mut strays = Vec::new();
    for (name, program) in uprobes {
        let code = object.functions.get(&program.function_key()).context("no code")?;
        if !code.instructions.iter().any(is_tail_call) {
            strays.push(name.clone());
        }
    }
    Ok(strays)
}

/// Each program with the bytes of its deepest chain of calls.
fn depths(object: &[u8]) -> Result<BTreeMap<String, u32>> {
    let mut object = Object::parse(object)?;
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&text)?;
    let programs = object.programs.iter().map(|(name, program)| {
        let linked = object.functions.get(&program.function_key()).context("no code")?;
        let code = Code::of(&linked.instructions);
        let depth = code.deepest(0, 1).with_context(|| format!("program {name}"))?;
        Ok((name.clone(), depth))
    });
    programs.collect()
}

/// A program with what it calls: each function by its first instruction.
struct Code(BTreeMap<usize, Function>);

#[derive(Default)]
struct Function {
    depth: u32,
    calls: Vec<usize>,
}

impl Code {
    fn of(instructions: &[bpf_insn]) -> Code {
        let mut functions = BTreeMap::from([(0, Function::default())]);
        let targets = instructions.iter().enumerate().filter_map(|(at, one)| called(at, one));
        let targets = targets.filter(|target| *target < instructions.len());
        functions.extend(targets.map(|target| (target, Function::default())));
        let mut stack = Stack::default();
        let mut current = 0;
        for (at, instruction) in instructions.iter().enumerate() {
            if functions.contains_key(&at) {
                current = at;
                stack = Stack::default();
            }
            stack.step(instruction);
            if let Some(function) = functions.get_mut(&current) {
                function.depth = stack.depth;
                function.calls.extend(called(at, instruction));
            }
        }
        Code(functions)
    }

    fn deepest(&self, function: usize, frames: usize) -> Result<u32> {
        ensure!(frames <= DEEPEST, "more than {DEEPEST} functions call each other");
        let function = self.0.get(&function).context("a call leads nowhere")?;
        let below = function.calls.iter().map(|call| self.deepest(*call, frames + 1));
        let below = below.collect::<Result<Vec<u32>>>()?.into_iter().max().unwrap_or(0);
        Ok(function.depth.max(1).next_multiple_of(STEP) + below)
    }
}

/// The function of the same program that is called here, or given to a helper to call.
fn called(at: usize, instruction: &bpf_insn) -> Option<usize> {
    const CALL: u8 = 0x85;
    const LOAD_ADDRESS: u8 = 0x18;
    const PSEUDO_CALL: u8 = 1;
    const PSEUDO_FUNC: u8 = 4;
    let is_call = instruction.code == CALL && instruction.src_reg() == PSEUDO_CALL;
    let is_address = instruction.code == LOAD_ADDRESS && instruction.src_reg() == PSEUDO_FUNC;
    let by = isize::try_from(instruction.imm).ok()?;
    (is_call || is_address).then(|| (at + 1).checked_add_signed(by))?
}

/// How far below the frame pointer a function's addresses go.
#[derive(Default)]
struct Stack {
    depth: u32,
    /// Registers that are the frame pointer. The compiler makes an address by adding to such a copy, once.
    copies: [bool; 11],
}

const FRAME_POINTER: u8 = 10;

impl Stack {
    fn step(&mut self, instruction: &bpf_insn) {
        const MOVE: u8 = 0xbf;
        const ADD_NUMBER: u8 = 0x07;
        const CALL: u8 = 0x85;
        let (to, from) = (instruction.dst_reg(), instruction.src_reg());
        match instruction.code {
            MOVE => self.set(to, self.is_frame(from)),
            CALL => (0..=5).for_each(|register| self.set(register, false)),
            code => match code & 7 {
                // Loads.
                1 => {
                    self.reach(from, instruction.off.into());
                    self.set(to, false);
                }
                // Stores.
                2 | 3 => self.reach(to, instruction.off.into()),
                // Comparisons and jumps.
                5 | 6 => {}
                _ => {
                    if code == ADD_NUMBER {
                        self.reach(to, instruction.imm);
                    }
                    self.set(to, false);
                }
            },
        }
    }

    fn is_frame(&self, register: u8) -> bool {
        register == FRAME_POINTER || self.copies.get(usize::from(register)) == Some(&true)
    }

    fn set(&mut self, register: u8, is_frame: bool) {
        if let Some(copy) = self.copies.get_mut(usize::from(register)) {
            *copy = is_frame;
        }
    }

    fn reach(&mut self, register: u8, offset: i32) {
        if self.is_frame(register) {
            self.depth = self.depth.max(offset.min(0).unsigned_abs());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u8, to: u8, from: u8, off: i16, imm: i32) -> bpf_insn {
        let registers = bpf_insn::new_bitfield_1(to, from);
        bpf_insn { code, _bitfield_align_1: [], _bitfield_1: registers, off, imm }
    }

    const EXIT: (u8, u8, u8, i16, i32) = (0x95, 0, 0, 0, 0);

    fn depth(code: &[(u8, u8, u8, i16, i32)]) -> Result<u32> {
        let code: Vec<bpf_insn> = code
            .iter()
            .map(|(code, to, from, off, imm)| instruction(*code, *to, *from, *off, *imm))
            .collect();
        Code::of(&code).deepest(0, 1)
    }

    #[test]
    fn stacks_of_calls_add_up() {
        let main = [
            // *(u64 *)(r10 - 40) = r1; call +1
            (0x7b, 10, 1, -40, 0),
            (0x85, 0, 1, 0, 1),
            EXIT,
        ];
        let callee = [
            // r2 = r10; r2 += -100
            (0xbf, 2, 10, 0, 0),
            (0x07, 2, 0, 0, -100),
            EXIT,
        ];
        assert_eq!(depth(&[main, callee].concat()).unwrap(), 64 + 128);
        assert_eq!(depth(&[EXIT]).unwrap(), 32, "a function takes a step at least");
    }

    #[test]
    fn what_is_no_address_is_not_counted() {
        let code = [(0xbf, 2, 10, 0, 0), (0x85, 0, 0, 0, 1), (0x07, 2, 0, 0, -400), EXIT];
        assert_eq!(depth(&code).unwrap(), 32, "a helper has overwritten the register");
    }

    #[test]
    fn calls_without_end_are_refused() {
        assert!(depth(&[(0x85, 0, 1, 0, -1), EXIT]).is_err(), "calls itself");
        assert!(depth(&[(0x85, 0, 1, 0, 7), EXIT]).is_err(), "leads out of the program");
    }
}
