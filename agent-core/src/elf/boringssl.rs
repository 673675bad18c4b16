//! BoringSSL in a file without symbols, known by what its functions complain of.
//!
//! Its errors name their source file, a text that stays in the program, and a reason, a number that never
//! changes (`ssl/ssl_lib.cc`, `crypto/err/ssl.errordata`). `SSL_write` is the one function there with its four
//! reasons, `SSL_do_handshake` the one with its own that `SSL_write` calls, and `SSL_read` the one that calls
//! what reads records. All three are certain, or none is given.

use super::{Elf, Image, PF_X, Segment, frames};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use std::collections::BTreeMap;

/// How the text ends: before it goes the path of whoever built it.
const SOURCE: &[u8] = b"ssl/ssl_lib.cc\0";
/// Longest path.
const MAX_PATH: u64 = 1024;
/// Errors in that source file at most, and bytes of one of its functions.
const MAX_ERRORS: usize = 1024;
const MAX_FUNCTION: u64 = 16 << 10;

/// `ERR_LIB_SSL`.
const LIB_SSL: u32 = 16;
/// `ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED`, `SSL_R_BAD_LENGTH`, `SSL_R_CONNECTION_TYPE_NOT_SET`,
/// `SSL_R_SSL_HANDSHAKE_FAILURE`, `SSL_R_UNINITIALIZED`.
const NOT_TO_BE_CALLED: u32 = 66;
const BAD_LENGTH: u32 = 111;
const NO_TYPE: u32 = 134;
const HANDSHAKE_FAILURE: u32 = 215;
const UNINITIALIZED: u32 = 226;

/// `lea rcx, [rip + …]`: the fourth argument of `ERR_put_error`.
const LEA_RCX: &[u8] = &[0x48, 0x8d, 0x0d];

/// Its functions: offsets in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// `int SSL_read(SSL *, void *, int)`
    pub read: u64,
    /// `int SSL_write(SSL *, const void *, int)`
    pub write: u64,
    /// `int SSL_do_handshake(SSL *)`
    pub handshake: u64,
}

/// Looks for it. `None` where there is none, or anything is uncertain.
pub fn find<I: Image>(elf: &Elf<I>) -> Option<Found> {
    let source = source(elf)?;
    let begins = frames::begins(elf)?;
    let mut functions = BTreeMap::new();
    for error in errors(elf, source)? {
        let index = begins.partition_point(|begin| *begin <= error).checked_sub(1)?;
        let (begin, end) = (*begins.get(index)?, *begins.get(index + 1)?);
        if functions.contains_key(&begin) || end - begin > MAX_FUNCTION {
            continue;
        }
        let code = elf.image.read(elf.file_offset(begin)?, (end - begin) as usize)?;
        functions.insert(begin, Shape::of(&code, begin, source));
    }
    let chosen = choose(&functions)?;
    Some(Found {
        read: elf.file_offset(chosen.read)?,
        write: elf.file_offset(chosen.write)?,
        handshake: elf.file_offset(chosen.handshake)?,
    })
}

/// The three among functions by their addresses.
fn choose(functions: &BTreeMap<u64, Shape>) -> Option<Found> {
    let only = |fits: &dyn Fn(&Shape, u64) -> bool| {
        let mut found = functions.iter().filter(|(address, shape)| fits(shape, **address));
        let (address, _) = found.next()?;
        found.next().is_none().then_some(*address)
    };
    let writes = [NOT_TO_BE_CALLED, BAD_LENGTH, HANDSHAKE_FAILURE, UNINITIALIZED];
    let write = only(&|shape, _| shape.reasons == writes)?;
    let calls = &functions.get(&write)?.calls;
    // `SSL_connect` and `SSL_accept` may have the same within them.
    let handshake = only(&|shape, at| shape.reasons == [NO_TYPE] && calls.contains(&at))?;
    // What checks the peer's alerts may lie within it.
    let records = only(&|shape, _| {
        let has = |reason| shape.reasons.contains(&reason);
        let both = has(HANDSHAKE_FAILURE) && has(UNINITIALIZED);
        both && !has(BAD_LENGTH) && shape.calls.contains(&handshake)
    })?;
    // `SSL_peek` is the same, and leaves what it has given where it was.
    let read = only(&|shape, _| {
        shape.reasons == [NOT_TO_BE_CALLED] && shape.calls.contains(&records) && shape.stores
    })?;
    Some(Found { read, write, handshake })
}

/// What is seen of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shape {
    /// Of its errors, ascending, each once.
    reasons: Vec<u32>,
    /// Whom it calls, or jumps to.
    calls: Vec<u64>,
    /// It writes to memory that is not its stack.
    stores: bool,
}

impl Shape {
    /// Of a function that lies at `address`.
    fn of(code: &[u8], address: u64, source: u64) -> Shape {
        let mut shape = Shape::default();
        let mut error = Error::default();
        let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
        while decoder.can_decode() {
            let instruction = decoder.decode();
            shape.stores |= stores(&instruction);
            if !goes_elsewhere(&instruction) {
                error.prepared_by(&instruction, source);
                continue;
            }
            // Here what was prepared is passed on.
            shape.reasons.extend(std::mem::take(&mut error).reason());
            if matches!(instruction.code(), Code::Call_rel32_64 | Code::Jmp_rel32_64) {
                shape.calls.push(instruction.near_branch_target());
            }
        }
        shape.reasons.sort_unstable();
        shape.reasons.dedup();
        shape
    }
}

/// Arguments of `ERR_put_error`, as far as they have been seen.
#[derive(Default)]
struct Error {
    library: Option<u32>,
    reason: Option<u32>,
    is_here: bool,
}

impl Error {
    fn prepared_by(&mut self, instruction: &Instruction, source: u64) {
        let value = (instruction.code() == Code::Mov_r32_imm32).then(|| instruction.immediate32());
        match instruction.op0_register() {
            Register::EDI => self.library = value,
            Register::EDX => self.reason = value,
            Register::RCX => {
                self.is_here = instruction.mnemonic() == Mnemonic::Lea
                    && instruction.is_ip_rel_memory_operand()
                    && instruction.ip_rel_memory_address() == source;
            }
            _ => {}
        }
    }

    /// One that is not known counts as a reason that no function has.
    fn reason(self) -> Option<u32> {
        let known = self.reason.filter(|_| self.library == Some(LIB_SSL));
        self.is_here.then(|| known.unwrap_or(u32::MAX))
    }
}

/// A jump, a call, a return.
fn goes_elsewhere(instruction: &Instruction) -> bool {
    use Mnemonic::{Call, Int3, Jmp, Ret, Ud2};
    instruction.op0_kind() == OpKind::NearBranch64
        || matches!(instruction.mnemonic(), Call | Jmp | Ret | Int3 | Ud2)
}

fn stores(instruction: &Instruction) -> bool {
    let writes = matches!(
        instruction.mnemonic(),
        Mnemonic::Mov
            | Mnemonic::Add
            | Mnemonic::Sub
            | Mnemonic::Movups
            | Mnemonic::Movaps
            | Mnemonic::Movdqu
            | Mnemonic::Movdqa
            | Mnemonic::Movq
            | Mnemonic::Movlps
            | Mnemonic::Movhps
            | Mnemonic::Vmovups
            | Mnemonic::Vmovdqu
    );
    writes
        && instruction.op0_kind() == OpKind::Memory
        && !matches!(instruction.memory_base(), Register::RSP | Register::RBP)
}

/// Where the one text that names the source file begins.
fn source<I: Image>(elf: &Elf<I>) -> Option<u64> {
    let [end] = elf.places(SOURCE, 2)[..] else { return None };
    let segment = elf.segments.iter().find(|segment| segment.has(end))?;
    let len = MAX_PATH.min(end - segment.address);
    let before =
        elf.image.read(segment.offset.checked_add(end - segment.address - len)?, len as usize)?;
    let path = before.iter().rev().take_while(|byte| **byte != 0).count() as u64;
    (path < len).then_some(end - path)
}

/// Where errors with this text are made.
fn errors<I: Image>(elf: &Elf<I>, source: u64) -> Option<Vec<u64>> {
    const LEN: usize = LEA_RCX.len() + 4;
    let mut found = Vec::new();
    elf.walk(
        |segment| segment.flags & PF_X != 0,
        LEN,
        |address, piece| {
            let here = memchr::memmem::find_iter(piece, LEA_RCX).filter_map(|at| {
                let distance = *piece.get(at + LEA_RCX.len()..)?.first_chunk()?;
                let place = address.checked_add(at as u64)?;
                let next = place.checked_add(LEN as u64)?;
                let target = next.checked_add_signed(i64::from(i32::from_le_bytes(distance)));
                (target == Some(source)).then_some(place)
            });
            found.extend(here.take(MAX_ERRORS));
        },
    );
    (found.len() <= MAX_ERRORS).then_some(found)
}

impl Segment {
    /// This address lies in what the file has of it.
    fn has(&self, address: u64) -> bool {
        self.kind == super::PT_LOAD
            && address.checked_sub(self.address).is_some_and(|within| within < self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::{PT_GNU_EH_FRAME, PT_LOAD};
    use proptest::prelude::*;

    /// Where the file is loaded: addresses are offsets and this.
    const BASE: u64 = 0x40_0000;
    const CODE: u64 = 0x1000;
    const ROOM: u64 = 0x200;

    /// One function as a compiler would write it.
    #[derive(Clone, Default)]
    struct Function {
        reasons: Vec<u32>,
        calls: Vec<usize>,
        stores: bool,
    }

    fn function(reasons: &[u32], calls: &[usize]) -> Function {
        Function { reasons: reasons.to_vec(), calls: calls.to_vec(), stores: false }
    }

    /// As BoringSSL's own lie in Envoy 1.37.
    fn real() -> Vec<Function> {
        let read = Function { stores: true, ..function(&[66], &[3]) };
        vec![
            function(&[134], &[]),
            function(&[66], &[1]),
            read,
            function(&[226, 215], &[0]),
            function(&[66, 226, 215, 111], &[0]),
            function(&[226, 291], &[4]),
        ]
    }

    /// As in grpcio 1.85, where another compiler has put one into another.
    fn within_each_other() -> Vec<Function> {
        let mut all = real();
        all[3].reasons = vec![50, 100, 110, 182, 215, 226];
        all.extend([function(&[134], &[]), function(&[134], &[])]);
        // SSL_peek.
        all.push(function(&[66], &[3]));
        all
    }

    fn address(index: usize) -> u64 {
        BASE + CODE + index as u64 * ROOM
    }

    fn code(function: &Function, own: u64, source: u64) -> Vec<u8> {
        // push rbp; mov rbp, rsp; mov [rbp - 8], rdi
        let mut code = vec![0x55, 0x48, 0x89, 0xe5, 0x48, 0x89, 0x7d, 0xf8];
        let call = |code: &mut Vec<u8>, to: u64| {
            code.push(0xe8);
            let next = own + code.len() as u64 + 4;
            code.extend((to.wrapping_sub(next) as u32).to_le_bytes());
        };
        for callee in &function.calls {
            call(&mut code, address(*callee));
        }
        if function.stores {
            // mov [rcx + 0x88], rdx
            code.extend([0x48, 0x89, 0x91, 0x88, 0, 0, 0]);
        }
        for reason in &function.reasons {
            code.extend(LEA_RCX);
            let next = own + code.len() as u64 + 4;
            code.extend((source.wrapping_sub(next) as u32).to_le_bytes());
            // mov edi, 16; xor esi, esi; mov edx, REASON; mov r8d, 7
            code.extend([0xbf, 16, 0, 0, 0, 0x31, 0xf6, 0xba]);
            code.extend(reason.to_le_bytes());
            code.extend([0x41, 0xb8, 7, 0, 0, 0]);
            call(&mut code, BASE + 0x800);
        }
        code.push(0xc3);
        code
    }

    /// A program with these functions and no symbols.
    fn program(functions: &[Function]) -> Vec<u8> {
        const TEXT: &[u8] = b"\0external/boringssl/ssl/ssl_lib.cc\0";
        const TABLE: usize = 0x400;
        let mut image = vec![0; CODE as usize];
        image[0x300..0x300 + TEXT.len()].copy_from_slice(TEXT);
        let source = BASE + 0x301;
        for (index, function) in functions.iter().enumerate() {
            image.extend(code(function, address(index), source));
            image.resize((address(index + 1) - BASE) as usize, 0xcc);
        }
        // One more, of which nothing is known, so that the last has an end.
        let count = functions.len() + 1;
        let mut table = HEADER.to_vec();
        table.extend(0_u32.to_le_bytes());
        table.extend((count as u32).to_le_bytes());
        for index in 0..count {
            let distance = address(index) - BASE - TABLE as u64;
            table.extend((distance as u32).to_le_bytes());
            table.extend(0_u32.to_le_bytes());
        }
        image[TABLE..TABLE + table.len()].copy_from_slice(&table);
        let all = image.len() as u64;
        image[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &2_u16.to_le_bytes());
        put(18, &62_u16.to_le_bytes());
        put(32, &64_u64.to_le_bytes());
        put(54, &56_u16.to_le_bytes());
        put(56, &2_u16.to_le_bytes());
        for (index, (kind, offset, size)) in
            [(PT_LOAD, 0, all), (PT_GNU_EH_FRAME, TABLE as u64, table.len() as u64)]
                .iter()
                .enumerate()
        {
            let at = 64 + index * 56;
            put(at, &kind.to_le_bytes());
            put(at + 4, &5_u32.to_le_bytes());
            put(at + 8, &offset.to_le_bytes());
            put(at + 16, &(BASE + offset).to_le_bytes());
            put(at + 32, &size.to_le_bytes());
        }
        image
    }

    const HEADER: [u8; 4] = [1, 0x1b, 3, 0x3b];

    fn found(functions: &[Function]) -> Option<Found> {
        find(&Elf::parse(program(functions).as_slice()).expect("a program"))
    }

    #[test]
    fn its_functions_are_known_by_their_errors() {
        let at = |index: usize| address(index) - BASE;
        let expected = Found { read: at(2), write: at(4), handshake: at(0) };
        assert_eq!(found(&real()), Some(expected));
        assert_eq!(found(&within_each_other()), Some(expected));
    }

    #[test]
    fn what_is_uncertain_is_not_given() {
        type Change = fn(&mut Vec<Function>);
        let cases: [(&str, Change); 8] = [
            ("SSL_peek only", |all| all[2].stores = false),
            ("two that read", |all| all.push(all[2].clone())),
            ("two that write", |all| all.push(all[4].clone())),
            ("no handshake", |all| all[0].reasons = vec![135]),
            ("SSL_write does not shake hands", |all| all[4].calls.clear()),
            ("SSL_read does not read records", |all| all[2].calls.clear()),
            ("another error among those of SSL_write", |all| all[4].reasons.push(5)),
            ("nothing", Vec::clear),
        ];
        for (why, change) in cases {
            let mut functions = real();
            change(&mut functions);
            assert_eq!(found(&functions), None, "{why}");
        }
    }

    #[test]
    fn an_error_of_another_library_is_no_reason() {
        let code = code(&function(&[66], &[]), address(0), BASE + 0x301);
        let other: Vec<u8> =
            code.iter().map(|byte| if *byte == 0xbf { 0xb8 } else { *byte }).collect();
        assert_eq!(Shape::of(&code, address(0), BASE + 0x301).reasons, [66]);
        assert_eq!(Shape::of(&other, address(0), BASE + 0x301).reasons, [u32::MAX]);
    }

    proptest! {
        #[test]
        fn damage_is_no_panic(at in 0_usize..0x2000, bytes in proptest::collection::vec(any::<u8>(), 1..9)) {
            let mut image = program(&real());
            let at = at.min(image.len() - bytes.len());
            image[at..at + bytes.len()].copy_from_slice(&bytes);
            if let Some(elf) = Elf::parse(image.as_slice()) {
                let _ = find(&elf);
            }
        }
    }
}
