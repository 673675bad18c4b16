//! Where the machine itself gets Debian packages from.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Base addresses of the archives that the machine's own apt sources name.
#[derive(Debug, Eq, PartialEq)]
pub struct Mirror {
    /// The main archive.
    pub main: String,
    /// The security archive.
    pub security: String,
}

impl Mirror {
    /// Reads `/etc/apt/sources.list` and `sources.list.d`, in both formats.
    ///
    /// # Errors
    /// When they name no Debian archive.
    pub fn of_this_machine() -> Result<Mirror> {
        let mut text = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
        for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
            let known = |suffix| entry.path().extension().is_some_and(|found| found == suffix);
            if known("list") || known("sources") {
                text.push_str("\n\n");
                text.push_str(&fs::read_to_string(entry.path()).unwrap_or_default());
            }
        }
        Mirror::parse(&text).context("the machine's apt sources name no Debian archive")
    }

    /// A suite's own archive.
    pub fn of(&self, suite: &str) -> &str {
        if suite.ends_with("-security") { &self.security } else { &self.main }
    }

    fn parse(text: &str) -> Option<Mirror> {
        let sources: Vec<_> = one_line(text).chain(deb822(text)).collect();
        let with = |security: bool| {
            let found = sources.iter().find(|(uri, suites)| {
                is_debian(uri)
                    && suites.split_whitespace().any(|s| s.contains("-security") == security)
            });
            found.map(|(uri, _)| uri.trim_end_matches('/').to_owned())
        };
        let main = with(false)?;
        Some(Mirror { security: with(true).unwrap_or_else(|| main.clone()), main })
    }
}

/// Other vendors' archives lie elsewhere than under `debian` or `debian-security`.
fn is_debian(uri: &str) -> bool {
    uri.split('/').any(|part| part == "debian" || part == "debian-security")
}

/// `deb [options] URI SUITE COMPONENT…`
fn one_line(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let rest = rest.strip_prefix('[').map_or(Some(rest), |r| Some(r.split_once(']')?.1))?;
        let mut words = rest.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    })
}

/// Paragraphs with `URIs:` and `Suites:` (sources.list(5), deb822 style).
fn deb822(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split("\n\n").filter_map(|paragraph| {
        let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name));
        let uri = field("URIs:")?.split_whitespace().next()?;
        Some((uri.to_owned(), field("Suites:")?.trim().to_owned()))
    })
}

/// The archive's keys, as apt's `signed-by` option.
pub fn signed_by() -> &'static str {
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    if Path::new(keys).is_file() {
        "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read() {
        let expected = Mirror {
            main: "http://mirror.example/debian".into(),
            security: "http://mirror.example/debian-security".into(),
        };
        let one_line = "# comment\ndeb https://vendor.example/apt stable main\n\
            deb [arch=amd64] http://mirror.example/debian/ bookworm main\n\
            deb http://mirror.example/debian-security bookworm-security main\n";
        assert_eq!(Mirror::parse(one_line), Some(expected));
        let deb822 = "Types: deb\n# note\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\n\
            Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\n";
        assert_eq!(
            Mirror::parse(deb822).map(|m| m.of("sid").to_owned()).as_deref(),
            Some("http://mirror.example/debian")
        );
        assert_eq!(
            Mirror::parse(deb822).unwrap().of("trixie-security"),
            "http://mirror.example/debian-security"
        );
        assert_eq!(Mirror::parse("deb https://vendor.example/apt stable main"), None);
    }
}
