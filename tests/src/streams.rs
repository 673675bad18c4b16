//! Judge of *capture*: the bytes of a recording against what each socket moved.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// One payload record of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Socket cookie.
    pub cookie: u64,
    /// True for bytes that the program sent.
    pub sent: bool,
    /// Stream position of the first byte.
    pub position: u64,
    /// Bytes that the call moved.
    pub len: u64,
    /// Those captured: the first of them.
    pub bytes: Vec<u8>,
}

/// One direction of one socket as the workload logged it (a line of `calls`).
#[derive(Clone, Debug)]
pub struct Truth {
    /// Name for messages.
    pub case: String,
    /// Socket cookie.
    pub cookie: u64,
    /// True for the direction in which it sent.
    pub sent: bool,
    /// All bytes.
    pub bytes: u64,
    /// Hash of those outside `uncaptured`, hexadecimal.
    pub sha256: String,
    /// Offsets from … to of what no buffer held.
    pub uncaptured: Vec<[u64; 2]>,
}

impl Truth {
    /// A line of the log of `calls`.
    pub fn of_log(line: &Value) -> Option<Truth> {
        let ranges = line["uncaptured"].as_array()?;
        let range = |pair: &Value| Some([pair[0].as_u64()?, pair[1].as_u64()?]);
        Some(Truth {
            case: line["case"].as_str()?.to_owned(),
            cookie: line["cookie"].as_u64()?,
            sent: line["direction"].as_str()? == "send",
            bytes: line["bytes"].as_u64()?,
            sha256: line["sha256"].as_str()?.to_owned(),
            uncaptured: ranges.iter().filter_map(range).collect(),
        })
    }

    fn is_uncaptured(&self, from: u64, to: u64) -> bool {
        self.uncaptured.iter().any(|[start, end]| *start <= from && to <= *end)
    }
}

/// What is wrong with the captured stream, if anything is.
///
/// # Errors
/// The first fault: a hole or an overlap in the positions, bytes missing or too many, bytes that
/// nobody passed in a buffer, another hash.
pub fn judge(pieces: &[Piece], truth: &Truth) -> Result<(), String> {
    let mut own: Vec<&Piece> = pieces
        .iter()
        .filter(|piece| (piece.cookie, piece.sent) == (truth.cookie, truth.sent) && piece.len > 0)
        .collect();
    own.sort_by_key(|piece| piece.position);
    let base = own.first().map_or(0, |piece| piece.position);
    let (mut hash, mut next) = (Sha256::new(), 0);
    for piece in own {
        let offset = piece.position - base;
        if offset < next {
            return Err(format!("bytes at {offset} twice, {next} was next"));
        }
        if offset > next && !truth.is_uncaptured(next, offset) {
            return Err(format!("hole from {next} to {offset}"));
        }
        next = offset + piece.len;
        if truth.is_uncaptured(offset, next) {
            if !piece.bytes.is_empty() {
                return Err(format!("{} bytes at {offset} that no buffer held", piece.bytes.len()));
            }
        } else if piece.bytes.len() as u64 != piece.len {
            return Err(format!("{} of {} bytes at {offset}", piece.bytes.len(), piece.len));
        }
        hash.update(&piece.bytes);
    }
    if next != truth.bytes {
        return Err(format!("{next} bytes of {}", truth.bytes));
    }
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if hash == truth.sha256 { Ok(()) } else { Err("other bytes than were moved".to_owned()) }
}

/// Where `needle` lies in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return None;
    }
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(position: u64, bytes: &[u8]) -> Piece {
        Piece { cookie: 7, sent: true, position, len: bytes.len() as u64, bytes: bytes.to_vec() }
    }

    fn truth(captured: &[u8], bytes: u64, uncaptured: &[[u64; 2]]) -> Truth {
        let sha256 = Sha256::digest(captured).iter().map(|byte| format!("{byte:02x}")).collect();
        let uncaptured = uncaptured.to_vec();
        Truth { case: "x".into(), cookie: 7, sent: true, bytes, sha256, uncaptured }
    }

    #[test]
    fn each_fault_is_named() {
        let plain = || truth(b"abcdef", 6, &[]);
        let holed = || truth(b"abef", 6, &[[2, 4]]);
        let silent = || Piece { len: 2, ..piece(102, b"") };
        let stranger = |piece: Piece| Piece { cookie: 8, ..piece };
        for (why, pieces, truth, expected) in [
            ("in any order", vec![piece(103, b"def"), piece(100, b"abc")], plain(), ""),
            (
                "strangers do not count",
                vec![piece(0, b"abcdef"), stranger(piece(3, b"zzz"))],
                plain(),
                "",
            ),
            ("hole", vec![piece(100, b"abc"), piece(104, b"ef")], plain(), "hole from 3 to 4"),
            (
                "peek counted twice",
                vec![piece(100, b"abc"), piece(100, b"abc"), piece(103, b"def")],
                plain(),
                "bytes at 0 twice, 3 was next",
            ),
            ("end missing", vec![piece(100, b"abc")], plain(), "3 bytes of 6"),
            ("nothing at all", vec![], plain(), "0 bytes of 6"),
            ("cut", vec![Piece { len: 6, ..piece(100, b"abc") }], plain(), "3 of 6 bytes at 0"),
            ("other bytes", vec![piece(100, b"abcdeF")], plain(), "other bytes than were moved"),
            ("counted", vec![piece(100, b"ab"), silent(), piece(104, b"ef")], holed(), ""),
            ("only by position", vec![piece(100, b"ab"), piece(104, b"ef")], holed(), ""),
            (
                "stale memory",
                vec![piece(100, b"ab"), piece(102, b"##"), piece(104, b"ef")],
                holed(),
                "2 bytes at 2 that no buffer held",
            ),
        ] {
            let verdict = judge(&pieces, &truth).err().unwrap_or_default();
            assert_eq!(verdict, expected, "{why}");
        }
    }

    #[test]
    fn a_needle_is_found_where_it_is() {
        assert_eq!(find(b"hay needle", b"needle"), Some(4));
        assert_eq!(find(b"hay", b"needle"), None);
        assert_eq!(find(b"hay", b""), None);
    }
}
