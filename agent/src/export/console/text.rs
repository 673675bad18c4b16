//! Words, numbers and colours of the console.

use std::fmt::Write;

/// Whether escape sequences are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    Plain,
    /// With the sixteen standard colours.
    Colour,
}

/// Part of a line, as it is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// As everything else.
    Normal,
    /// Names of services.
    Strong,
    /// What matters less.
    Dim,
    /// Failures.
    Bad,
    /// Security events.
    Event,
}

/// Appends `text` so that it looks like `look`.
pub fn put(out: &mut String, style: Style, look: Look, text: &str) {
    let code = match (style, look) {
        (Style::Plain, _) | (_, Look::Normal) => return out.push_str(text),
        (_, Look::Strong) => "1",
        (_, Look::Dim) => "2",
        (_, Look::Bad) => "31",
        (_, Look::Event) => "33",
    };
    let _ = write!(out, "\x1b[{code}m{text}\x1b[0m");
}

/// A line that is no span.
pub fn note(text: &str, style: Style) -> String {
    let mut out = String::new();
    put(&mut out, style, Look::Dim, &format!("· {}", printable(text, 400)));
    out.push('\n');
    out
}

/// At most `max` characters of `text`, none of which moves the cursor, starts an escape sequence
/// or changes the direction of writing: names come from the network.
pub fn printable(text: &str, max: usize) -> String {
    let mut out: String =
        text.chars().take(max).map(|c| if is_unsafe(c) { '·' } else { c }).collect();
    if text.chars().nth(max).is_some() {
        out.pop();
        out.push('…');
    }
    out
}

/// What a terminal would obey, and what hides or reorders what stands beside it.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `812 µs`, `12.8 ms`, `1.23 s`: three digits.
pub fn duration(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let decimals = if unit == "µs" || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.decimals$} {unit}")
}

/// `10:15:02.123` UTC.
pub fn time_of_day(unix_ns: u64) -> String {
    let ms = unix_ns / 1_000_000 % 86_400_000;
    let (s, ms) = (ms / 1000, ms % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", s / 3600, s / 60 % 60, s % 60)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        let table = [
            (0, "0 µs"),
            (812_400, "812 µs"),
            (1_000_000, "1.00 ms"),
            (9_996_000, "10.0 ms"),
            (12_840_000, "12.8 ms"),
            (123_456_789, "123 ms"),
            (1_234_000_000, "1.23 s"),
        ];
        for (ns, expected) in table {
            assert_eq!(duration(ns), expected);
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_made_visible() {
        let table = [
            ("\x1b[2J/x", 99, "·[2J/x"),
            ("a\r\nb\tc", 99, "a··b·c"),
            ("\u{202e}gpj.exe", 99, "·gpj.exe"),
            ("käse", 4, "käse"),
            ("käsebrot", 4, "käs…"),
        ];
        for (input, max, expected) in table {
            assert_eq!(printable(input, max), expected);
        }
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time_of_day(1_700_000_000_123_456_789), "22:13:20.123");
    }
}
