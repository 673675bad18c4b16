//! Which processes an agent's filters leave out, judged by the agent's own rules.
//!
//! A filter on ports leaves out connections, and nobody knows beforehand which a process will have.

use crate::config::{Executables, Selection};
use crate::flow::watched::Watched;
use agent_core::process::ProcessFacts;
use std::path::PathBuf;

/// Filters of one kind that are read: more than anybody types.
const MOST: usize = 256;

/// Filters as an agent tells them.
pub struct Filters {
    included: Executables,
    excluded: Executables,
    by_number: Watched,
    by_cgroup: Watched,
}

impl Filters {
    /// From `--flag value`. What cannot be understood leaves out nothing.
    pub fn of(given: &[String]) -> Filters {
        let values = |flag: &str| -> Vec<&str> {
            let pairs = given.iter().filter_map(|filter| filter.split_once(' '));
            pairs.filter(|(given, _)| *given == flag).map(|(_, value)| value).take(MOST).collect()
        };
        let globs = |flag| values(flag).into_iter().map(str::to_owned).collect();
        let selection =
            |pids, cgroup| Watched::new(&Selection { pids, cgroup, ..Selection::default() });
        let pids = values("--pid").iter().filter_map(|pid| pid.parse().ok()).collect();
        let cgroup = values("--cgroup").first().map(PathBuf::from);
        Filters {
            included: Executables::new(globs("--include"), Vec::new()).unwrap_or_default(),
            excluded: Executables::new(Vec::new(), globs("--exclude")).unwrap_or_default(),
            by_number: selection(pids, None),
            by_cgroup: selection(Vec::new(), cgroup),
        }
    }

    /// The filters that leave out this process.
    pub fn leave_out(&self, facts: &ProcessFacts) -> Vec<&'static str> {
        let pid = facts.key.tgid;
        let mut by = Vec::new();
        let mut note = |selected: bool, flag| by.extend((!selected).then_some(flag));
        note(self.included.watches(&facts.executable), "--include");
        note(self.excluded.watches(&facts.executable), "--exclude");
        note(self.by_number.is_selected(pid), "--pid");
        note(self.by_cgroup.is_selected(pid), "--cgroup");
        by
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_core::event::ProcessKey;

    #[test]
    fn a_process_is_left_out_by_what_the_agent_goes_by() {
        let own = std::process::id();
        let facts = |executable: &str| ProcessFacts {
            key: ProcessKey { tgid: own, start_ns: 1 },
            executable: executable.to_owned(),
            ..ProcessFacts::default()
        };
        let parent = std::os::unix::process::parent_id();
        for (given, executable, expected) in [
            (vec![], "/usr/sbin/nginx", vec![]),
            (vec!["--include nginx".to_owned()], "/usr/sbin/nginx", vec![]),
            (vec!["--include nginx".to_owned()], "/usr/bin/curl", vec!["--include"]),
            (vec!["--exclude /usr/sbin/*".to_owned()], "/usr/sbin/nginx", vec!["--exclude"]),
            (vec![format!("--pid {own}")], "/x", vec![]),
            (vec![format!("--pid {parent}")], "/x", vec![]),
            (vec!["--pid 8388609".to_owned()], "/x", vec!["--pid"]),
            (vec!["--port 80".to_owned()], "/x", vec![]),
            (vec!["--cgroup /sys/fs/cgroup/none".to_owned()], "/x", vec!["--cgroup"]),
            (vec!["--include [".to_owned(), "--pid x".to_owned(), "--".to_owned()], "/x", vec![]),
        ] {
            let told = Filters::of(&given).leave_out(&facts(executable));
            assert_eq!(told, expected, "{given:?} {executable}");
        }
    }
}
