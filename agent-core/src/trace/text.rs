//! A text that rarely changes and is mostly short: addresses, of which each connection keeps two.

use std::ops::Deref;

/// Bytes that lie in place: every IPv4 address, and the IPv6 addresses that people write.
const SHORT: usize = 22;

/// As long as a `String`, and without memory elsewhere as long as it is short.
#[derive(Debug)]
pub(super) enum Text {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<str>),
}

impl Default for Text {
    fn default() -> Self {
        Text::Short { len: 0, bytes: [0; SHORT] }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(text.as_bytes());
                Text::Short { len, bytes }
            }
            _ => Text::Long(text.into()),
        }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Short { len, bytes } => {
                let bytes = bytes.get(..usize::from(*len)).unwrap_or_default();
                std::str::from_utf8(bytes).unwrap_or_default()
            }
            Text::Long(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_length_come_back() {
        let all = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff";
        for len in 0..=all.len() {
            let text = Text::from(&all[..len]);
            assert_eq!(&*text, &all[..len]);
            assert_eq!(matches!(text, Text::Short { .. }), len <= SHORT);
        }
        assert_eq!(&*Text::from("ä".repeat(11).as_str()), "ä".repeat(11), "22 bytes, 11 letters");
        assert_eq!(&*Text::from("ä".repeat(12).as_str()), "ä".repeat(12));
        assert!(size_of::<Text>() <= size_of::<String>());
    }
}
