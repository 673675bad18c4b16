//! Which tests may be skipped on this kernel: `tests/skips/<major.minor>.txt`.

use crate::{command, paths};
use std::collections::HashMap;
use std::fs;

/// Tests that may be skipped, with the reason. Lines are `test: reason`; `#` begins a comment.
#[derive(Debug, Default)]
pub struct Skips(HashMap<String, String>);

impl Skips {
    /// The list for the running kernel; empty when there is no file for it.
    pub fn of_this_kernel() -> Skips {
        let release = command::output(&mut command::command("uname", ["-r"])).unwrap_or_default();
        let file = paths::root().join(format!("tests/skips/{}.txt", series(&release)));
        Skips::parse(&fs::read_to_string(file).unwrap_or_default())
    }

    /// A list from text.
    pub fn parse(text: &str) -> Skips {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let entries = lines.filter_map(|line| line.split_once(": "));
        Skips(entries.map(|(test, why)| (test.to_owned(), why.to_owned())).collect())
    }

    /// Whether this test may be skipped.
    pub fn allow(&self, test: &str) -> bool {
        self.0.contains_key(test)
    }
}

/// `6.18` of `6.18.44-cloud-amd64`.
fn series(release: &str) -> String {
    release.trim().split('.').take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_named_by_its_series() {
        assert_eq!(series("6.18.44-cloud-amd64\n"), "6.18");
        assert_eq!(series("7.0-rc1"), "7.0-rc1");
    }

    #[test]
    fn only_listed_tests_may_be_skipped() {
        let skips = Skips::parse("# reason: comment\nuring: seccomp\n\n");
        assert!(skips.allow("uring"));
        assert!(!skips.allow("netns") && !skips.allow("# reason"));
    }
}
