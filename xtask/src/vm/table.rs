//! What the guests found, as one table.

/// Begins the line that `tests/vm/count.py` ends with: the cells of a row, separated by `|`.
const ROW: &str = "kernspan-vm-row: ";

const COLUMNS: [&str; 10] = [
    "kernel",
    "payload hooks",
    "send time",
    "requests",
    "server spans",
    "client spans",
    "joined",
    "inside",
    "execs",
    "seconds",
];

/// A guest's output without the rows, and the rows.
pub fn split(output: &str) -> (String, Vec<Vec<String>>) {
    let (mut text, mut rows) = (String::new(), Vec::new());
    for line in output.lines() {
        match line.strip_prefix(ROW) {
            Some(cells) => rows.push(cells.split('|').map(str::to_owned).collect()),
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    (text, rows)
}

/// The table; nothing without rows.
pub fn shown(rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heads = COLUMNS.map(str::to_owned).to_vec();
    let mut text = String::from("\n");
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let cells = std::iter::once(&heads).chain(rows).filter_map(|row| row.get(column));
            let width = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_out_and_aligned() {
        let (text, rows) = split("a\nkernspan-vm-row: 6.1.0|fexit|fentry|100\nb\n");
        assert_eq!(text, "a\nb\n");
        let shown = shown(&rows);
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[1].starts_with("kernel  payload hooks  send time  requests  server spans"));
        assert_eq!(lines[2], "6.1.0   fexit          fentry     100");
        assert_eq!(super::shown(&[]), "");
    }
}
