//! The instructions that are written into the object when it is loaded.
//!
//! [`Settings`] and [`Offsets`] go into the code as constants ([`SETTING_MARK`], [`OFFSET_MARK`]).
//!
//! `bpf_rdonly_cast` is a function of the kernel: a program calls it by its number in the running
//! kernel's type information, which aya 0.14 does not fill in. The object has calls of a helper that
//! does not exist in its place ([`CAST_CALL`]).

use super::elf::{code, place};
use agent_common::settings::{CAST_CALL, OFFSET_MARK, Offsets, SETTING_MARK, Settings};
use zerocopy::IntoBytes;

/// `BPF_JMP | BPF_CALL` (include/uapi/linux/bpf.h).
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_KFUNC_CALL` in the upper half of the register byte.
const KERNEL_FUNCTION: u8 = 2 << 4;
/// `BPF_LD | BPF_DW | BPF_IMM`: takes two slots.
const LOAD_WIDE: u8 = 0x18;
/// `BPF_ALU64 | BPF_MOV | BPF_K`; to r0 where the register byte is 0.
const MOVE: u8 = 0xb7;
/// `BPF_STX | BPF_DW | BPF_ATOMIC`, with what is to be done (`BPF_ADD | BPF_FETCH`) as number.
const ATOMIC: u8 = 0xdb;
const FETCH: i32 = 1;

/// Makes a call of the kernel function with this number of each cast; without one, `r0 = 0`. Gives
/// how many there were: 0 for bytes that are no 64-bit little-endian object file.
pub fn casts(object: &mut [u8], function: Option<u32>) -> usize {
    replace(object, |instruction| is_cast(instruction).then(|| replacement(function)))
}

/// Writes settings and offsets into the code. Gives how many places there were.
pub fn constants(object: &mut [u8], settings: &Settings, offsets: &Offsets) -> usize {
    replace(object, |instruction| {
        constant(instruction, SETTING_MARK, settings.as_bytes())
            .or_else(|| constant(instruction, OFFSET_MARK, offsets.as_bytes()))
    })
}

/// Takes the fetch off every atomic fetch-and-add, for kernels that refuse it even where it is never
/// reached. Gives how many there were.
pub fn plain_additions(object: &mut [u8]) -> usize {
    replace(object, |[code, registers, low, high, number @ ..]| {
        let is_fetch = code == ATOMIC && i32::from_le_bytes(number) == FETCH;
        is_fetch.then_some([code, registers, low, high, 0, 0, 0, 0])
    })
}

/// Has the maps that take memory as they fill take all of it at once. Gives how many there were.
pub fn preallocated(object: &mut [u8]) -> usize {
    // `struct bpf_map_def` as aya has it: type, lengths of key and value, entries, flags, id, pinning.
    const LEN: usize = 28;
    const TYPE_HASH: u32 = 1;
    const NO_PREALLOC: u32 = 1;
    let Some(maps) = place(object, b"maps").and_then(|place| object.get_mut(place)) else {
        return 0;
    };
    let grows = |map: &&mut [u8]| {
        map[..4] == TYPE_HASH.to_le_bytes() && map[16..20] == NO_PREALLOC.to_le_bytes()
    };
    maps.chunks_exact_mut(LEN).filter(grows).map(|map| map[16..20].fill(0)).count()
}

/// The move of a mark and an index, with the value at that index in its place.
fn constant(instruction: [u8; 8], mark: i32, values: &[u8]) -> Option<[u8; 8]> {
    let [code, register, low, high, number @ ..] = instruction;
    if code != MOVE {
        return None;
    }
    let index = usize::try_from(i32::from_le_bytes(number).wrapping_sub(mark)).ok()?;
    let [a, b, c, d] = *values.as_chunks::<4>().0.get(index)?;
    Some([code, register, low, high, a, b, c, d])
}

/// Puts what `by` gives in place of instructions. Gives how many it replaced.
fn replace(object: &mut [u8], by: impl Fn([u8; 8]) -> Option<[u8; 8]>) -> usize {
    let mut count = 0;
    for (start, end) in code(object) {
        let Some(code) = object.get_mut(start..end) else { continue };
        let mut wide = false;
        for instruction in code.as_chunks_mut::<8>().0 {
            let second = std::mem::replace(&mut wide, false);
            wide = !second && instruction[0] == LOAD_WIDE;
            if let Some(new) = (!second).then(|| by(*instruction)).flatten() {
                *instruction = new;
                count += 1;
            }
        }
    }
    count
}

fn is_cast(instruction: [u8; 8]) -> bool {
    let [code, registers, _, _, number @ ..] = instruction;
    code == CALL && registers == 0 && i32::from_le_bytes(number) == CAST_CALL
}

fn replacement(function: Option<u32>) -> [u8; 8] {
    let Some(function) = function else { return [MOVE, 0, 0, 0, 0, 0, 0, 0] };
    let [a, b, c, d] = function.to_le_bytes();
    [CALL, KERNEL_FUNCTION, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::{casts, code, constants, plain_additions, preallocated};
    use agent_common::settings::{CAST_CALL, OFFSET_MARK, Offsets, SETTING_MARK, Settings};
    use zerocopy::{FromBytes, IntoBytes};

    /// All code of an object, in order.
    fn instructions(object: &[u8]) -> Vec<[u8; 8]> {
        let sections = code(object).into_iter().map(|(start, end)| &object[start..end]);
        sections.flat_map(|code| code.as_chunks::<8>().0).copied().collect()
    }

    #[test]
    fn every_cast_of_the_object_is_replaced_and_nothing_else() {
        for (why, function, expected) in [
            ("a kernel function", Some(0x0102_0304), [0x85, 0x20, 0, 0, 4, 3, 2, 1]),
            ("no such function", None, [0xb7, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            let before = crate::probe::OBJECTS.typed.to_vec();
            let mut after = before.clone();
            let count = casts(&mut after, function);
            assert!(count > 0, "{why}");
            let pairs = instructions(&before).into_iter().zip(instructions(&after));
            let changed: Vec<_> = pairs.filter(|(before, after)| before != after).collect();
            assert_eq!(changed.len(), count, "{why}");
            for (before, after) in changed {
                let [a, b, c, d] = CAST_CALL.to_le_bytes();
                assert_eq!(before, [0x85, 0, 0, 0, a, b, c, d], "{why}");
                assert_eq!(after, expected, "{why}");
            }
            assert_eq!(casts(&mut after, function), 0, "{why}: none is left");
        }
    }

    /// Each offset and each setting is its own index here, so a wrong place shows.
    #[test]
    fn every_constant_of_the_object_is_replaced_and_nothing_else() {
        let numbers: Vec<u32> = (0..100).collect();
        let offsets = Offsets::read_from_prefix(numbers.as_bytes()).expect("enough").0;
        let numbers: Vec<u32> = (1000..1100).collect();
        let settings = Settings::read_from_prefix(numbers.as_bytes()).expect("enough").0;
        let before = crate::probe::OBJECTS.typed.to_vec();
        let mut after = before.clone();
        let count = constants(&mut after, &settings, &offsets);
        let pairs = instructions(&before).into_iter().zip(instructions(&after));
        let changed: Vec<_> = pairs.filter(|(before, after)| before != after).collect();
        assert!(count > 0 && changed.len() == count, "{count} {}", changed.len());
        let number = |[.., a, b, c, d]: [u8; 8]| i32::from_le_bytes([a, b, c, d]);
        for (before, after) in changed {
            assert_eq!((before[0], &before[..4]), (0xb7, &after[..4]));
            let index = match number(before) {
                mark @ SETTING_MARK.. => 1000 + mark - SETTING_MARK,
                mark => mark - OFFSET_MARK,
            };
            assert_eq!(number(after), index);
        }
        let used = |values: &[u8]| values.len() / 4;
        let marks =
            [(OFFSET_MARK, used(offsets.as_bytes())), (SETTING_MARK, used(settings.as_bytes()))];
        for instruction in instructions(&after) {
            for (mark, fields) in marks {
                let index = number(instruction).wrapping_sub(mark);
                assert!(!(0..fields as i32).contains(&index), "{instruction:?} is left");
            }
        }
        // The ones that every object has to have.
        let has = |mark: i32| instructions(&before).into_iter().any(|one| number(one) == mark);
        assert!(has(OFFSET_MARK) && has(SETTING_MARK), "task_flags and own_tgid");
    }

    #[test]
    fn additions_lose_their_fetch_and_nothing_else() {
        let before = crate::probe::OBJECTS.untyped.to_vec();
        let mut after = before.clone();
        let count = plain_additions(&mut after);
        let pairs = instructions(&before).into_iter().zip(instructions(&after));
        let changed: Vec<_> = pairs.filter(|(before, after)| before != after).collect();
        assert!(count > 0 && changed.len() == count, "{count} {}", changed.len());
        for (before, after) in changed {
            assert_eq!((before[0], before[4..].to_vec()), (0xdb, vec![1, 0, 0, 0]));
            assert_eq!((&after[..4], after[4..].to_vec()), (&before[..4], vec![0; 4]));
        }
        assert_eq!(plain_additions(&mut after), 0, "none is left");
    }

    #[test]
    fn two_maps_of_each_object_grow_unless_that_is_taken_back() {
        for object in [crate::probe::OBJECTS.typed, crate::probe::OBJECTS.untyped] {
            let mut object = object.to_vec();
            let growing = |object: &[u8]| -> Vec<String> {
                let maps = aya_obj::Object::parse(object).expect("an object").maps;
                let legacy = |map: &aya_obj::Map| matches!(map, aya_obj::Map::Legacy(_));
                let mut names: Vec<_> = maps
                    .into_iter()
                    .filter(|(_, map)| legacy(map) && map.map_flags() & 1 != 0)
                    .map(|(name, _)| name)
                    .collect();
                names.sort();
                names
            };
            assert_eq!(growing(&object), ["TLS_OBJECTS", "TLS_SOCKETS"]);
            assert_eq!(preallocated(&mut object), 2);
            assert!(growing(&object).is_empty());
        }
    }

    #[test]
    fn bytes_that_are_no_object_are_left_alone() {
        let cut = crate::probe::OBJECTS.typed.get(..5000).expect("a longer object");
        for bytes in [&[][..], &[0xff; 64], &[0; 100], cut] {
            let mut after = bytes.to_vec();
            assert_eq!(casts(&mut after, Some(1)), 0);
            assert_eq!(preallocated(&mut after), 0);
            assert_eq!(constants(&mut after, &Settings::default(), &Offsets::NONE), 0);
            assert_eq!(after, bytes);
        }
    }
}
