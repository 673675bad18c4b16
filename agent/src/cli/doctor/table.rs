//! Services in rows, as `kernspan doctor` shows them.

use super::group::Group;
use super::page::{MOST_CELL, Page, cut, cut_characters, padded, width};
use super::programs::{percent, size};
use agent_core::traffic::Class;

/// Columns of texts, with the fewest that each keeps.
const TEXTS: [(&str, usize); 3] = [("SERVICE", 10), ("RUNTIME", 7), ("TLS", 7)];

/// Classes whose shares are shown.
const SHARES: [(&str, Class); 4] = [
    ("DECO", Class::Decoded),
    ("ENCR", Class::Encrypted),
    ("UNKN", Class::Unknown),
    ("UNRE", Class::Unreachable),
];

/// Columns of a size, `18447 PB` being the largest; and of a share.
const SIZE: usize = 8;
const SHARE: usize = 4;

/// Where the cells of all rows are.
pub struct Table {
    texts: [usize; TEXTS.len()],
    count: usize,
    watched: bool,
}

impl Table {
    /// As wide as these groups need it, and no wider than the page.
    pub fn of(groups: &[&Group], watched: bool, page: &Page) -> Table {
        let mut texts = TEXTS.map(|(head, _)| width(head));
        for cells in groups.iter().map(|group| group.cells()) {
            for (widest, cell) in texts.iter_mut().zip(&cells) {
                *widest = (*widest).max(width(&cut_characters(cell, MOST_CELL)));
            }
        }
        let count = groups.iter().map(|group| group.pids.len().to_string().len()).max();
        let mut table = Table { texts, count: count.unwrap_or(1), watched };
        if let Some(columns) = page.columns() {
            table.shrink(columns);
        }
        table
    }

    /// The widest gives way first.
    fn shrink(&mut self, columns: usize) {
        while self.width() > columns {
            let pairs = self.texts.iter_mut().zip(TEXTS);
            let shrinkable = pairs.filter(|(now, (_, least))| **now > *least);
            let Some((widest, _)) = shrinkable.max_by_key(|(now, _)| **now) else { return };
            *widest -= 1;
        }
    }

    fn width(&self) -> usize {
        let numbers = if self.watched { 2 + SIZE + SHARES.len() * (1 + SHARE) } else { 0 };
        2 + self.texts.iter().sum::<usize>() + self.count + 3 * 2 + numbers
    }

    /// The names of the columns.
    pub fn head(&self, page: &mut Page) {
        let shares = SHARES.map(|(head, _)| head.to_owned());
        self.line(page, &TEXTS.map(|(head, _)| head.to_owned()), "N", "BYTES", shares);
    }

    /// A service.
    pub fn row(&self, page: &mut Page, group: &Group) {
        let seen = &group.seen;
        let shares = SHARES.map(|(_, class)| percent(seen.percent(class), seen.streams()));
        let count = group.pids.len().to_string();
        self.line(page, &group.cells(), &count, &size(seen.bytes.total()), shares);
    }

    fn line(
        &self,
        page: &mut Page,
        texts: &[String; 3],
        count: &str,
        bytes: &str,
        shares: [String; 4],
    ) {
        let [service, runtime, tls] = texts;
        let cell = |text: &str, number: usize| {
            let columns = self.texts.get(number).copied().unwrap_or(0);
            padded(&cut(text, columns), columns)
        };
        let most = self.count;
        let mut row = format!(
            "  {}  {count:>most$}  {}  {}",
            cell(service, 0),
            cell(runtime, 1),
            cell(tls, 2)
        );
        if self.watched {
            row.push_str(&format!("  {bytes:>SIZE$}"));
            shares.iter().for_each(|share| row.push_str(&format!(" {share:>SHARE$}")));
        }
        page.row(&row);
    }
}
