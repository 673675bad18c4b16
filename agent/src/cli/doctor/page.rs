//! Text on a terminal of so many columns, or in a pipe, where a line is as long as it has to be.

use crate::export::is_unsafe;
use std::io::{self, IsTerminal};
use unicode_width::UnicodeWidthChar;

/// Columns of a terminal that does not say how many it has.
const UNKNOWN: usize = 80;

/// Columns below which words could not be told from each other: a narrower terminal breaks the lines itself.
const NARROWEST: usize = 40;

/// Columns of text: eyes do not find the next line of longer ones.
const READABLE: usize = 96;

/// Longest text of one subject, in characters: what a verifier says of a program has thousands of lines.
const MOST_TEXT: usize = 1000;

/// Longest cell of a table in a pipe, in characters: one service must not widen the lines of all.
pub const MOST_CELL: usize = 120;

/// Columns of the terminal at standard output; none where that is a pipe or a file.
pub fn columns() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let told = rustix::termios::tcgetwinsize(&out).map_or(0, |size| usize::from(size.ws_col));
    Some(usable(told))
}

/// One that was never told its size says 0.
fn usable(told: usize) -> usize {
    if told == 0 { UNKNOWN } else { told.max(NARROWEST) }
}

/// What is to be printed.
#[derive(Debug)]
pub struct Page {
    text: String,
    columns: Option<usize>,
}

impl Page {
    /// An empty one for a terminal of so many columns, or for a pipe.
    pub fn new(columns: Option<usize>) -> Page {
        Page { text: String::new(), columns }
    }

    /// All that was written.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Columns of a line, where they are limited.
    pub fn columns(&self) -> Option<usize> {
        self.columns
    }

    /// What stands above others, behind an empty line.
    pub fn heading(&mut self, what: &str) {
        self.blank();
        self.line("", what);
    }

    /// An empty line.
    pub fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A subject: `start` is the agent's own and stands once, `end` is anybody's and is continued below itself.
    pub fn line(&mut self, start: &str, end: &str) {
        let under = width(start);
        self.wrapped(start, under, end, self.columns);
    }

    /// The same, for something to read.
    pub fn paragraph(&mut self, start: &str, what: &str) {
        let columns = self.columns.map(|columns| columns.min(READABLE));
        self.wrapped(start, width(start), what, columns);
    }

    /// Cells that belong below those of the other rows: what has no room is cut.
    pub fn row(&mut self, row: &str) {
        let row = row.trim_end();
        let row = self.columns.map_or_else(|| clean(row), |columns| cut(row, columns));
        self.push(&row);
    }

    fn wrapped(&mut self, start: &str, under: usize, end: &str, columns: Option<usize>) {
        let end = cut_characters(end, MOST_TEXT);
        let Some(columns) = columns else { return self.push(&format!("{start}{end}")) };
        // Where the beginning takes most of the line, below it is no room to read in.
        let under = if under * 2 > columns { 4 } else { under };
        let mut row = start.to_owned();
        let mut room = columns.saturating_sub(width(start)).max(1);
        let mut is_empty = true;
        for word in end.split(' ').flat_map(|word| pieces(word, columns.saturating_sub(under))) {
            let needed = width(&word) + usize::from(!is_empty);
            // Behind a long beginning there may be less room than below it.
            if needed > room && (!is_empty || room < columns.saturating_sub(under)) {
                self.push(&row);
                row = " ".repeat(under);
                room = columns.saturating_sub(under);
                is_empty = true;
            }
            if !is_empty {
                row.push(' ');
            }
            room = room.saturating_sub(width(&word) + usize::from(!is_empty));
            row.push_str(&word);
            is_empty = false;
        }
        self.push(&row);
    }

    fn push(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }
}

/// A word, in pieces that have room on a line.
fn pieces(word: &str, room: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut used = 0;
    for c in word.chars() {
        let needed = c.width().unwrap_or(0);
        if used + needed > room.max(1) {
            pieces.push(String::new());
            used = 0;
        }
        used += needed;
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
    }
    pieces
}

/// Columns that a text takes on terminals that go by characters (`wcwidth`), as most do.
pub fn width(text: &str) -> usize {
    text.chars().filter_map(UnicodeWidthChar::width).sum()
}

/// A text with blanks behind it.
pub fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// At most so many columns, with a mark where something is left out.
pub fn cut(text: &str, columns: usize) -> String {
    let text = clean(text);
    if width(&text) <= columns {
        return text;
    }
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > columns {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

/// At most so many characters, with a mark where something is left out.
pub fn cut_characters(text: &str, most: usize) -> String {
    let mut kept = clean(text);
    if let Some((at, _)) = kept.char_indices().nth(most) {
        kept.truncate(at);
        kept.pop();
        kept.push('…');
    }
    kept
}

/// A value on one line, without what a terminal would obey: names and reasons are anybody's.
fn clean(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(columns: Option<usize>, write: impl FnOnce(&mut Page)) -> String {
        let mut page = Page::new(columns);
        write(&mut page);
        page.into_text()
    }

    #[test]
    fn a_terminal_that_does_not_say_its_width_has_eighty_columns() {
        assert_eq!([usable(0), usable(10), usable(132)], [80, 40, 132]);
    }

    #[test]
    fn a_line_is_continued_below_itself() {
        let what = |page: &mut Page| {
            page.line("  no  BTF  ", "one two\u{7}three /a/long/path/of/fifty/characters")
        };
        assert_eq!(
            written(Some(20), what),
            "  no  BTF  one two\n    three\n    /a/long/path/of/\n    fifty/characters\n"
        );
        let what = |page: &mut Page| page.line("  x  ", "one two three four");
        assert_eq!(written(Some(14), what), "  x  one two\n     three\n     four\n");
        assert_eq!(written(None, what), "  x  one two three four\n", "a pipe has no width");
    }

    #[test]
    fn what_has_no_room_is_marked() {
        assert_eq!(cut("käsebrot", 4), "käs…");
        assert_eq!(cut("käse", 4), "käse");
        assert_eq!(cut("日本語の名前", 7), "日本語…", "two columns each");
        assert_eq!(padded("日本", 6), "日本  ");
        assert_eq!(cut_characters("\u{1b}[2Jlong", 5), " [2J…");
        assert_eq!(written(Some(40), |page| page.row(&"x".repeat(99))).chars().count(), 41);
        assert_eq!(written(None, |page| page.row(&"x".repeat(99))).len(), 100);
        let log = "instruction ".repeat(10_000);
        assert_eq!(written(None, |page| page.line("", &log)).chars().count(), MOST_TEXT + 1);
    }

    proptest! {
        /// Whatever names and reasons are, no line is wider than the terminal, and nothing is obeyed.
        #[test]
        fn every_line_fits(
            start in "[ -~]{0,60}",
            end in "\\PC{0,200}|[ \\x00-\\x20\\u{7f}-\\u{9f}\\u{202e}日a-z]{0,200}",
            columns in 40_usize..120,
        ) {
            let start = cut(&start, columns - 8);
            let text = written(Some(columns), |page| {
                page.line(&start, &end);
                page.paragraph("  - ", &end);
                page.row(&end);
            });
            for line in text.lines() {
                prop_assert!(width(line) <= columns, "{line:?}");
                prop_assert!(!line.chars().any(is_unsafe), "{line:?}");
            }
        }
    }
}
