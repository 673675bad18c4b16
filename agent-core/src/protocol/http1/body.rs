//! Where a body ends: RFC 9112, 6.3 and 7.1.

use crate::protocol::Read;

/// Longest chunk-size line and longest trailer section. nginx allows 4 KiB and 8 KiB; longer ones
/// are no framing to trust.
const MAX_FRAMING: u32 = 8 * 1024;

/// A body under way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    /// Bytes still to come.
    Length { left: u64 },
    /// Chunked transfer coding.
    Chunked(Chunked),
    /// Everything until the connection ends: so many bytes up to now, unless a coding hides how many they are.
    UntilClose { size: Option<u64> },
}

/// What became of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It took everything and goes on.
    More,
    /// It ended after so many of the bytes given.
    Done(u64),
    /// Its framing is not known from here on.
    Broken,
}

impl Body {
    /// Takes captured bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Step {
        match self {
            Body::Length { .. } | Body::UntilClose { .. } => self.skip(bytes.len() as u64),
            Body::Chunked(chunked) => chunked.feed(bytes),
        }
    }

    /// Names each of `bytes` that is framing and not content: offset, byte, and as what it is read.
    pub(super) fn framing(&self, bytes: &[u8], mut each: impl FnMut(usize, u8, Read)) {
        let Body::Chunked(mut chunked) = *self else { return };
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if chunked.at == At::Data {
                at += chunked.data(bytes.len() - at);
                continue;
            }
            let text = matches!(chunked.at, At::Extension | At::TrailerStart | At::Trailer);
            chunked.line += 1;
            let step = chunked.framing(byte);
            if step != Step::Broken || byte < b' ' {
                let what = if text && byte >= b' ' { Read::Text } else { Read::Framing };
                each(at, byte, what);
            }
            if step != Step::More {
                return;
            }
            at += 1;
        }
    }

    /// Takes `missing` bytes whose content is not known.
    pub(super) fn skip(&mut self, missing: u64) -> Step {
        match self {
            Body::Length { left } if missing < *left => {
                *left -= missing;
                Step::More
            }
            Body::Length { left } => Step::Done(*left),
            Body::Chunked(chunked) => chunked.skip(missing),
            Body::UntilClose { size } => {
                *size = size.and_then(|size| size.checked_add(missing));
                Step::More
            }
        }
    }

    /// Size of the content that chunks have carried so far; `None` for the other framings.
    pub(super) fn chunked_size(&self) -> Option<u64> {
        match self {
            Body::Chunked(chunked) => Some(chunked.size),
            Body::Length { .. } | Body::UntilClose { .. } => None,
        }
    }
}

/// Decoder of the chunked transfer coding that looks only for its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunked {
    size: u64,
    /// Of the chunk: its size while its line is read, then what is left of it.
    left: u64,
    /// Bytes of the size line or trailer section so far.
    line: u32,
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the first digit of a size.
    SizeStart,
    Size,
    /// Chunk extension: to the end of the line.
    Extension,
    Data,
    /// The line end after the data.
    DataEnd,
    /// At the start of a trailer line.
    TrailerStart,
    Trailer,
    /// After the carriage return of the empty line that ends everything.
    LastLine,
}

impl Chunked {
    pub(super) fn new() -> Chunked {
        Chunked { size: 0, left: 0, line: 0, at: At::SizeStart }
    }

    fn feed(&mut self, bytes: &[u8]) -> Step {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.at == At::Data {
                at += self.data(bytes.len() - at);
                continue;
            }
            at += 1;
            self.line += 1;
            if self.line > MAX_FRAMING {
                return Step::Broken;
            }
            match self.framing(byte) {
                Step::More => {}
                Step::Broken => return Step::Broken,
                Step::Done(_) => return Step::Done(at as u64),
            }
        }
        Step::More
    }

    /// Takes at most `available` bytes of chunk data.
    fn data(&mut self, available: usize) -> usize {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let taken = left.min(available);
        self.left -= taken as u64;
        if self.left == 0 {
            self.at = At::DataEnd;
        }
        taken
    }

    fn framing(&mut self, byte: u8) -> Step {
        self.at = match (self.at, byte) {
            (At::SizeStart | At::Size, digit) if digit.is_ascii_hexdigit() => {
                let value = char::from(digit).to_digit(16).unwrap_or_default();
                let Some(left) = self.left.checked_mul(16) else { return Step::Broken };
                self.left = left + u64::from(value);
                At::Size
            }
            (At::Size | At::Extension, b'\n') => return self.size_line_end(),
            (At::Size, b'\r' | b';' | b' ' | b'\t') => At::Extension,
            (At::Extension, b'\r' | b'\t' | b' '..) => At::Extension,
            (At::DataEnd, b'\r') if self.line == 1 => At::DataEnd,
            (At::DataEnd, b'\n') => {
                self.line = 0;
                At::SizeStart
            }
            (At::TrailerStart, b'\n') => return Step::Done(0),
            (At::TrailerStart, b'\r') => At::LastLine,
            (At::LastLine, b'\n') => return Step::Done(0),
            (At::TrailerStart | At::Trailer, b'\t' | b' '..) => At::Trailer,
            (At::Trailer, b'\r') => At::Trailer,
            (At::Trailer, b'\n') => At::TrailerStart,
            _ => return Step::Broken,
        };
        Step::More
    }

    fn size_line_end(&mut self) -> Step {
        let Some(size) = self.size.checked_add(self.left) else { return Step::Broken };
        self.size = size;
        self.line = 0;
        self.at = if self.left == 0 { At::TrailerStart } else { At::Data };
        Step::More
    }

    fn skip(&mut self, missing: u64) -> Step {
        if missing == 0 {
            return Step::More;
        }
        if self.at != At::Data || missing > self.left {
            return Step::Broken;
        }
        self.left -= missing;
        if self.left == 0 {
            self.at = At::DataEnd;
        }
        Step::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked(pieces: &[&[u8]]) -> (Step, Option<u64>) {
        let mut body = Body::Chunked(Chunked::new());
        let mut step = Step::More;
        for piece in pieces {
            step = body.feed(piece);
            if step != Step::More {
                break;
            }
        }
        (step, body.chunked_size())
    }

    #[test]
    fn chunked_coding() {
        for (why, input, expected, size) in [
            ("empty", &b"0\r\n\r\n"[..], Step::Done(5), 0),
            ("two chunks", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", Step::Done(20), 5),
            ("extension", b"3;a=\"b\"\r\nabc\r\n0\r\n\r\n", Step::Done(19), 3),
            ("trailers", b"1\r\na\r\n0\r\nX: y\r\nZ: w\r\n\r\n", Step::Done(23), 1),
            ("bare line feeds", b"1\na\n0\n\n", Step::Done(7), 1),
            ("what follows is left alone", b"0\r\n\r\nHTTP/1.1", Step::Done(5), 0),
            ("no size", b"\r\n", Step::Broken, 0),
            ("size not hexadecimal", b"g\r\n", Step::Broken, 0),
            ("size too large", b"11111111111111111\r\n", Step::Broken, 0),
            ("data longer than its size", b"1\r\nab\r\n", Step::Broken, 1),
            ("two carriage returns after data", b"1\r\na\r\r\n", Step::Broken, 1),
            ("carriage return alone at the end", b"0\r\n\rX", Step::Broken, 0),
            ("not ended", b"1\r\na\r\n0\r\n", Step::More, 1),
        ] {
            assert_eq!(chunked(&[input]), (expected, Some(size)), "{why}");
        }
    }

    #[test]
    fn chunked_coding_does_not_mind_how_it_is_cut() {
        let whole = b"3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n";
        for cut in 0..whole.len() {
            let (head, tail) = whole.split_at(cut);
            let expected = (Step::Done(tail.len() as u64), Some(3));
            assert_eq!(chunked(&[head, tail]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_hole_in_chunk_data_is_skipped_and_one_in_framing_is_not() {
        for (why, before, missing, expected) in [
            ("within data", &b"8\r\nab"[..], 5, Step::More),
            ("to the end of data", b"8\r\nab", 6, Step::More),
            ("past the data", b"8\r\nab", 7, Step::Broken),
            ("in a size line", b"8", 1, Step::Broken),
            ("nothing missing", b"8", 0, Step::More),
        ] {
            let mut body = Body::Chunked(Chunked::new());
            assert_eq!(body.feed(before), Step::More, "{why}");
            assert_eq!(body.skip(missing), expected, "{why}");
        }
    }

    #[test]
    fn a_framing_line_without_end_is_given_up() {
        let mut line = b"1;".to_vec();
        line.resize(MAX_FRAMING as usize + 1, b'x');
        assert_eq!(chunked(&[&line]).0, Step::Broken);
    }

    #[test]
    fn content_length_counts_through_holes() {
        let mut body = Body::Length { left: 10 };
        assert_eq!(body.feed(b"abcd"), Step::More);
        assert_eq!(body.skip(5), Step::More);
        assert_eq!(body.feed(b"xyz"), Step::Done(1));
    }
}
