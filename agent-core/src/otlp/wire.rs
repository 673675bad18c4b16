//! Protobuf's wire format (encoding.proto documentation, "Message Structure"): only what OTLP
//! needs, appended to a reused buffer.
//!
//! A nested message is written behind a guessed length that is put right afterwards, so nothing
//! is measured beforehand; lengths are always in their shortest form.

/// Wire type of a field.
#[derive(Clone, Copy)]
enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

/// Appends `value` in base 128, least significant group first.
pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`varint`] takes for `value`.
pub fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Bytes of a length-delimited field with `len` bytes inside, field numbers up to 15.
pub fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

fn key(out: &mut Vec<u8>, field: u32, wire_type: WireType) {
    varint(out, u64::from(field) << 3 | wire_type as u64);
}

/// Appends an integer, enumeration or truth value, also when it is the default.
pub fn uint(out: &mut Vec<u8>, field: u32, value: u64) {
    key(out, field, WireType::Varint);
    varint(out, value);
}

/// Appends eight bytes, least significant first.
pub fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    key(out, field, WireType::Fixed64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends four bytes, least significant first.
pub fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    key(out, field, WireType::Fixed32);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends bytes or text.
pub fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    length(out, field, value.len());
    out.extend_from_slice(value);
}

/// Appends text, nothing when it is empty: the default of a field outside a `oneof`.
pub fn text(out: &mut Vec<u8>, field: u32, value: &str) {
    if !value.is_empty() {
        bytes(out, field, value.as_bytes());
    }
}

/// Appends the head of a nested message whose length is known.
pub fn length(out: &mut Vec<u8>, field: u32, len: usize) {
    key(out, field, WireType::Bytes);
    varint(out, len as u64);
}

/// Appends a nested message that `write` fills. `guess` is the expected length: a wrong guess
/// costs one move of the message, nothing else.
pub fn nested(out: &mut Vec<u8>, field: u32, guess: usize, write: impl FnOnce(&mut Vec<u8>)) {
    key(out, field, WireType::Bytes);
    let at = out.len();
    let reserved = varint_len(guess as u64);
    out.resize(at + reserved, 0);
    write(out);
    let len = out.len() - at - reserved;
    let needed = varint_len(len as u64);
    let start = at + reserved;
    if needed > reserved {
        out.resize(out.len() + needed - reserved, 0);
        out.copy_within(start..start + len, at + needed);
    } else if needed < reserved {
        out.copy_within(start..start + len, at + needed);
        out.truncate(at + needed + len);
    }
    put_varint(out, at, len as u64);
}

/// Overwrites the bytes from `at` on with `value`; the room was made by the caller.
fn put_varint(out: &mut [u8], at: usize, mut value: u64) {
    for byte in out.iter_mut().skip(at) {
        if value < 0x80 {
            *byte = value as u8;
            return;
        }
        *byte = value as u8 | 0x80;
        value >>= 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_varints_are_those_written() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1] {
                let mut out = Vec::new();
                varint(&mut out, value);
                assert_eq!(varint_len(value), out.len(), "{value}");
                assert_eq!(prost::encoding::decode_varint(&mut &out[..]), Ok(value));
            }
        }
    }

    #[test]
    fn a_nested_message_is_right_whatever_was_guessed() {
        for len in [0usize, 1, 127, 128, 129, 16_383, 16_384, 70_000] {
            let inside: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut expected = vec![0xee, 3 << 3 | 2];
            varint(&mut expected, len as u64);
            expected.extend_from_slice(&inside);
            for guess in [0, 127, 128, 20_000] {
                let mut out = vec![0xee];
                nested(&mut out, 3, guess, |out| out.extend_from_slice(&inside));
                assert!(out == expected, "{len} bytes, guessed {guess}");
            }
        }
    }
}
