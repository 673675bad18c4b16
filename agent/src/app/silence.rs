//! Says which processes talk in what is not decoded, so that nobody looks at silence.

use agent_core::connection::{Census, KindCounts};
use std::fmt::Write;

/// Processes named in one note; the rest are counted.
const MOST: usize = 8;

/// Remembers what was said, to say it again only when it changes.
#[derive(Default)]
pub struct Silence {
    said: String,
}

impl Silence {
    /// A note on connections that carry no spans, when it is news.
    pub fn note(&mut self, census: &Census, name: impl Fn(u32) -> String) -> Option<String> {
        let text = describe(census, name);
        if text == self.said {
            return None;
        }
        self.said.clone_from(&text);
        (!text.is_empty()).then_some(text)
    }
}

fn describe(census: &Census, name: impl Fn(u32) -> String) -> String {
    let mut mute: Vec<_> = census.iter().filter(|(_, counts)| undecoded(counts) > 0).collect();
    mute.sort_by_key(|(process, counts)| (std::cmp::Reverse(undecoded(counts)), process.tgid));
    let mut text = String::new();
    for (process, counts) in mute.iter().take(MOST) {
        let separator = if text.is_empty() { "not decoded: " } else { "; " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{} ({})", name(process.tgid), process.tgid);
        for (kind, count) in counts.by_name() {
            if count > 0 && !matches!(kind, "http1" | "undecided") {
                let _ = write!(text, " {count} {kind}");
            }
        }
    }
    if mute.len() > MOST {
        let _ = write!(text, "; {} more processes", mute.len() - MOST);
    }
    text
}

fn undecoded(counts: &KindCounts) -> u32 {
    counts.tls + counts.http2 + counts.upgraded + counts.unknown
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_core::event::ProcessKey;

    #[test]
    fn a_note_names_the_processes_once_and_again_when_it_changes() {
        let process = |tgid| ProcessKey { tgid, start_ns: 1 };
        let http = KindCounts { http1: 3, ..KindCounts::default() };
        let tls = KindCounts { http1: 1, tls: 2, ..KindCounts::default() };
        let name = |tgid| format!("p{tgid}");
        let mut silence = Silence::default();
        assert_eq!(silence.note(&vec![(process(1), http)], name), None);
        let census = vec![(process(1), http), (process(2), tls)];
        assert_eq!(silence.note(&census, name).as_deref(), Some("not decoded: p2 (2) 2 tls"));
        assert_eq!(silence.note(&census, name), None);
        assert_eq!(silence.note(&Vec::new(), name), None);
        assert!(silence.note(&census, name).is_some());
    }
}
