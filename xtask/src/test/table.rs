//! The table at the end of a run; its last line is `N passed, N failed`.

use super::libtest::Tally;
use std::time::Duration;

/// One phase.
pub struct Row {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub time: Duration,
    /// What it counted.
    pub tally: Tally,
}

/// Prints failures, the table and the sum; the sum.
pub fn print(rows: &[Row]) -> Tally {
    let mut total = Tally::default();
    rows.iter().for_each(|row| total.add(&row.tally));
    for failure in &total.failures {
        println!("\nFAILED  {failure}");
    }
    println!("\n{:<8} {:>8} {:>8} {:>8} {:>8}", "phase", "time", "passed", "failed", "skipped");
    for row in rows {
        line(&row.name, row.time, &row.tally);
    }
    line("total", rows.iter().map(|row| row.time).sum(), &total);
    println!("\n{} passed, {} failed", total.passed, total.failed);
    total
}

fn line(name: &str, time: Duration, tally: &Tally) {
    let seconds = time.as_secs();
    println!(
        "{name:<8} {:>5}:{:02} {:>8} {:>8} {:>8}",
        seconds / 60,
        seconds % 60,
        tally.passed,
        tally.failed,
        tally.skipped
    );
}
