//! One hello: fixed part, then extensions.

use super::{Facts, MAX_NAME};

/// What the first message of a direction turned out to be.
pub(super) enum Outcome {
    /// A hello, read.
    Read,
    /// Not all of it is there.
    NeedMore,
    /// No hello.
    Other,
}

pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;

pub(super) const SERVER_NAME: u16 = 0;
pub(super) const PROTOCOLS: u16 = 16;
pub(super) const SUPPORTED_VERSIONS: u16 = 43;

/// Length of `random`.
pub(super) const RANDOM: usize = 32;

/// Reads the first handshake message.
pub(super) fn read(messages: &[u8], facts: &mut Facts) -> Outcome {
    let [kind, high, middle, low, rest @ ..] = messages else { return Outcome::NeedMore };
    if !matches!(*kind, CLIENT_HELLO | SERVER_HELLO) {
        return Outcome::Other;
    }
    let len = u32::from_be_bytes([0, *high, *middle, *low]);
    let Some(body) = usize::try_from(len).ok().and_then(|len| rest.get(..len)) else {
        return Outcome::NeedMore;
    };
    let mut reader = Reader(body);
    // A field that is missing ends it: what stood before counts.
    let _ =
        if *kind == CLIENT_HELLO { client(&mut reader, facts) } else { server(&mut reader, facts) };
    Outcome::Read
}

fn client(hello: &mut Reader<'_>, facts: &mut Facts) -> Option<()> {
    hello.take(2 + RANDOM)?;
    hello.short_block()?;
    hello.block()?;
    hello.short_block()?;
    let mut extensions = Reader(hello.block()?);
    while let Some((kind, body)) = extensions.extension() {
        if kind == SERVER_NAME {
            // ServerNameList: entries of type 0 (host_name) and a name (RFC 6066 section 3).
            let mut names = Reader(Reader(body).block()?);
            if names.byte()? == 0 {
                facts.server_name = text(names.block()?);
            }
        }
    }
    Some(())
}

fn server(hello: &mut Reader<'_>, facts: &mut Facts) -> Option<()> {
    facts.version = Some(hello.number()?);
    hello.take(RANDOM)?;
    hello.short_block()?;
    facts.cipher = Some(hello.number()?);
    hello.byte()?;
    let mut extensions = Reader(hello.block()?);
    while let Some((kind, body)) = extensions.extension() {
        match kind {
            SUPPORTED_VERSIONS => facts.version = Some(Reader(body).number()?),
            PROTOCOLS => {
                let mut list = Reader(Reader(body).block()?);
                facts.protocol = text(list.short_block()?);
            }
            _ => {}
        }
    }
    Some(())
}

fn text(bytes: &[u8]) -> String {
    let visible = bytes.len() <= MAX_NAME && bytes.iter().all(u8::is_ascii_graphic);
    if visible { String::from_utf8_lossy(bytes).into_owned() } else { String::new() }
}

/// Reads from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    /// A block with 8 bits of length.
    fn short_block(&mut self) -> Option<&'a [u8]> {
        let len = self.byte()?;
        self.take(usize::from(len))
    }

    /// A block with 16 bits of length.
    fn block(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?;
        self.take(usize::from(len))
    }

    fn extension(&mut self) -> Option<(u16, &'a [u8])> {
        Some((self.number()?, self.block()?))
    }
}
