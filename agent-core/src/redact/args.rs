//! Secrets in command lines, also in command lines inside an argument (`sh -c "…"`), headers,
//! JSON bodies and URLs given as arguments.
//!
//! A word is what stands between separators. A word that names a secret makes what follows it a
//! secret: up to the end of the argument when the word begins the argument (the program sees it so,
//! blanks and all), else as far as a shell's word goes, quotes respected.

use super::name::{Place, is_secret};
use super::replace;
use super::tool::{Form, Part, TOKEN_PREFIXES, Tool, tool};
use super::url::{find, userinfo};
use std::ops::Range;

/// Arguments with [`super::REDACTED`] in place of their secrets.
pub fn args<S: AsRef<str>>(args: &[S]) -> Vec<String> {
    let mut state = State::default();
    args.iter()
        .map(|arg| {
            let arg = arg.as_ref();
            replace(arg, state.argument(arg.as_bytes())).into_owned()
        })
        .collect()
}

/// Where the secrets lie in a block of NUL-terminated arguments, ascending, none empty. The last
/// argument may be cut.
pub fn arg_block_ranges(block: &[u8]) -> Vec<Range<usize>> {
    let mut state = State::default();
    let mut start = 0;
    let mut ranges = Vec::new();
    for arg in block.split(|&byte| byte == 0) {
        let found = state.argument(arg);
        ranges.extend(found.into_iter().map(|range| start + range.start..start + range.end));
        start += arg.len() + 1;
    }
    ranges
}

/// What the arguments so far say about the next one.
#[derive(Default)]
struct State {
    /// The latest program named.
    tool: Option<&'static Tool>,
    /// Its subcommand has been seen, or it needs none.
    armed: bool,
    /// The next argument is the value of a secret option.
    pending: Option<Part>,
}

/// Ends a word.
fn is_separator(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(byte, b'\'' | b'"' | b'`' | b'\\' | b'=' | b':' | b'?' | b'#' | b',')
        || matches!(byte, b'{' | b'}' | b'[')
        || ends_shell_word(byte)
}

/// Ends a shell's word outside of quotes.
fn ends_shell_word(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b';' | b'|' | b'&' | b'(' | b')' | b'<' | b'>')
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'\'' | b'"' | b'`')
}

impl State {
    /// The secrets of the next argument.
    fn argument(&mut self, arg: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        if let Some(part) = self.pending.take()
            && !is_option(arg)
        {
            push(&mut found, secret_part(arg, 0..arg.len(), part));
            return found;
        }
        let mut at = 0;
        while at < arg.len() {
            at = self.word(arg, at, &mut found);
        }
        found
    }

    /// Reads the word at `at`, notes the secrets it announces, and returns where to read on.
    fn word(&mut self, arg: &[u8], at: usize, found: &mut Vec<Range<usize>>) -> usize {
        let end = find(arg, at, is_separator);
        let word = arg.get(at..end).unwrap_or_default();
        if word.is_empty() {
            return at + 1;
        }
        let before = at.checked_sub(1).and_then(|before| arg.get(before)).copied();
        let begins_word = before.is_none_or(|byte| ends_shell_word(byte) || is_quote(byte));
        if begins_word {
            if let Some(next) = self.short_option(arg, at, word, found) {
                return next;
            }
            self.program(word);
        }
        if let Some(token) = token(arg, at, word) {
            let next = token.end;
            push(found, Some(token));
            return next;
        }
        if arg.get(end..).is_some_and(|rest| rest.starts_with(b"://")) {
            return credentials(arg, end + 3, found);
        }
        self.named(arg, at..end, before, found).unwrap_or(end)
    }

    /// Takes note of a program or of its subcommand.
    fn program(&mut self, word: &[u8]) {
        let base = word.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        if let Some(tool) = tool(base) {
            self.tool = Some(tool);
            self.armed = tool.subcommand.is_none();
        } else if let Some(subcommand) = self.tool.and_then(|tool| tool.subcommand) {
            self.armed |= subcommand.as_bytes() == word;
        }
    }

    /// An option of the latest program that carries a secret: `-pSECRET`, `-u user:SECRET`.
    fn short_option(
        &mut self,
        arg: &[u8],
        at: usize,
        word: &[u8],
        found: &mut Vec<Range<usize>>,
    ) -> Option<usize> {
        let tool = self.tool.filter(|_| self.armed)?;
        if let Some((_, part)) = tool.long.iter().find(|(name, _)| name.as_bytes() == word) {
            return Some(self.next_value(arg, at + word.len(), *part, found));
        }
        let letters = word.strip_prefix(b"-").filter(|letters| !letters.starts_with(b"-"))?;
        let skipped = letters.iter().take_while(|letter| tool.cluster.contains(letter)).count();
        let letter = letters.get(skipped)?;
        let (_, form, part) = tool.options.iter().find(|(known, ..)| known == letter)?;
        let value = at + 1 + skipped + 1;
        let attached = arg.get(value).is_some_and(|byte| !byte.is_ascii_whitespace());
        if !attached {
            return (*form == Form::Either).then(|| self.next_value(arg, value, *part, found));
        }
        let range = if at == 0 { value..arg.len() } else { shell_value(arg, value) };
        let next = range.end;
        push(found, secret_part(arg, range, *part));
        Some(next)
    }

    /// The value of an option that ends at `end`: behind `=`, the next word, or the next argument.
    fn next_value(
        &mut self,
        arg: &[u8],
        end: usize,
        part: Part,
        found: &mut Vec<Range<usize>>,
    ) -> usize {
        if arg.get(end) == Some(&b'=') {
            let begins =
                arg.get(..end).is_some_and(|word| !word.iter().any(|&b| ends_shell_word(b)));
            let range = if begins { end + 1..arg.len() } else { shell_value(arg, end + 1) };
            let next = range.end;
            push(found, secret_part(arg, range, part));
            return next;
        }
        let value = find(arg, end, |byte| !byte.is_ascii_whitespace());
        match arg.get(value) {
            None if value == end => self.pending = Some(part),
            None | Some(b'-') => {}
            Some(_) if value == end => {}
            Some(_) => {
                let range = shell_value(arg, value);
                let next = range.end;
                push(found, secret_part(arg, range, part));
                return next;
            }
        }
        value
    }

    /// A word that names a secret: option, assignment, header, JSON key.
    fn named(
        &mut self,
        arg: &[u8],
        word: Range<usize>,
        before: Option<u8>,
        found: &mut Vec<Range<usize>>,
    ) -> Option<usize> {
        let name = arg.get(word.clone())?;
        let in_query = matches!(before, Some(b'?' | b'&' | b'#'));
        if !is_secret(name, if in_query { Place::Query } else { Place::Command }) {
            return None;
        }
        let closed = find(arg, word.end, |byte| !(is_quote(byte) || byte == b'\\'));
        let sign = find(arg, closed, |byte| !byte.is_ascii_whitespace());
        let range = match arg.get(sign) {
            Some(b'=') if word.start == 0 => sign + 1..arg.len(),
            Some(b'=') if in_query => {
                let ends = |byte: u8| byte.is_ascii_whitespace() || is_quote(byte) || byte == b'&';
                sign + 1..find(arg, sign + 1, ends)
            }
            Some(b'=') => shell_value(arg, sign + 1),
            Some(b':') => {
                let value = find(arg, sign + 1, |byte| !byte.is_ascii_whitespace());
                match before {
                    None => value..arg.len(),
                    Some(quote) if is_quote(quote) && closed == word.end => {
                        value..closing_quote(arg, value, quote, false)
                    }
                    Some(_) if name.to_ascii_lowercase().ends_with(b"authorization") => {
                        value..find(arg, value, |byte| byte == b'\n' || is_quote(byte))
                    }
                    Some(_) => shell_value(arg, value),
                }
            }
            _ if name.starts_with(b"-") => {
                let negated = name.starts_with(b"--no-") || name.starts_with(b"-no-");
                return (!negated).then(|| self.next_value(arg, word.end, Part::Whole, found));
            }
            // `Bearer secret`, and `PASSWORD 'secret'` of SQL.
            Some(_) if closed > word.end || sign == closed => return None,
            Some(_) if name.eq_ignore_ascii_case(b"bearer") => shell_value(arg, sign),
            Some(&quote) if is_quote(quote) => quoted(arg, sign)?.0,
            _ => return None,
        };
        let next = range.end;
        push(found, Some(range));
        Some(next)
    }
}

/// Whether an argument behind a secret option is the next option and not the value. A value that
/// begins with a single `-` is taken for one: base64url may.
fn is_option(arg: &[u8]) -> bool {
    arg.starts_with(b"--") || matches!(arg, [b'-', letter] if letter.is_ascii_alphabetic())
}

fn push(found: &mut Vec<Range<usize>>, range: Option<Range<usize>>) {
    found.extend(range.filter(|range| range.start < range.end));
}

fn secret_part(arg: &[u8], value: Range<usize>, part: Part) -> Option<Range<usize>> {
    match part {
        Part::Whole => Some(value),
        Part::Body => (arg.get(value.start) != Some(&b'@')).then_some(value),
        Part::After(byte) => {
            let at = memchr::memchr(byte, arg.get(value.clone())?)?;
            Some(value.start + at + 1..value.end)
        }
    }
}

/// A token that its beginning gives away.
fn token(arg: &[u8], at: usize, word: &[u8]) -> Option<Range<usize>> {
    let prefix = TOKEN_PREFIXES.iter().find(|prefix| word.starts_with(prefix.as_bytes()))?;
    let start = at + prefix.len();
    let in_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    Some(start..find(arg, start, |byte| !in_token(byte)))
}

/// Notes the credentials of a URL whose authority starts at `start`; returns where to read on.
fn credentials(arg: &[u8], start: usize, found: &mut Vec<Range<usize>>) -> usize {
    let mut next = start;
    for range in userinfo(arg, start).into_iter().flatten() {
        next = range.end;
        push(found, Some(range));
    }
    next
}

/// The value that starts at `start` inside of an argument. One quoted piece: what is in the
/// quotes. Else up to the end of the shell's word, quotes and all.
fn shell_value(arg: &[u8], start: usize) -> Range<usize> {
    if let Some((content, after)) = quoted(arg, start) {
        let ends = |byte: &u8| ends_shell_word(*byte) || matches!(byte, b',' | b'}' | b']');
        if arg.get(after).is_none_or(ends) {
            return content;
        }
    }
    let mut at = start;
    while let Some(&byte) = arg.get(at) {
        if let Some((_, after)) = quoted(arg, at) {
            at = after;
        } else if ends_shell_word(byte) {
            break;
        } else {
            at += 1;
        }
    }
    start..at
}

/// A quoted piece (`"…"`, `\"…\"`) that starts at `at`: its content, and what follows it.
fn quoted(arg: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    let escaped = arg.get(at) == Some(&b'\\');
    let open = at + usize::from(escaped);
    let quote = arg.get(open).copied().filter(|&byte| is_quote(byte))?;
    let close = closing_quote(arg, open + 1, quote, escaped);
    let slash = escaped && close > open + 1 && arg.get(close - 1) == Some(&b'\\');
    Some((open + 1..close - usize::from(slash), (close + 1).min(arg.len())))
}

/// Where the quote that is open at `from` is closed, else the end.
fn closing_quote(arg: &[u8], from: usize, quote: u8, escaped: bool) -> usize {
    let mut at = from;
    loop {
        at = find(arg, at, |byte| byte == quote);
        let slash = at > from && arg.get(at - 1) == Some(&b'\\');
        if at == arg.len() || escaped || quote == b'\'' || !slash {
            return at;
        }
        at += 1;
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
