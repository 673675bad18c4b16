//! Which conversations are selected. Executables are chosen where results leave; here it is asked for
//! ports, processes (and their descendants) and cgroups.

use crate::config::Selection;
use agent_core::flow::Conversation;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

/// Answers remembered.
const REMEMBERED: usize = 4096;

/// Most ancestors asked for: beyond lies a loop that should not be.
const MAX_DEPTH: u32 = 64;

/// The selection, with answers that were given.
pub struct Watched {
    ports: Vec<u16>,
    pids: HashSet<u32>,
    cgroup: Option<PathBuf>,
    answers: HashMap<(u32, u64), bool>,
}

impl Watched {
    /// As the settings say.
    pub fn new(selection: &Selection) -> Watched {
        Watched {
            ports: selection.ports.clone(),
            pids: selection.pids.iter().copied().collect(),
            cgroup: selection.cgroup.clone(),
            answers: HashMap::new(),
        }
    }

    /// Whether a conversation is selected. One of an unknown process is, unless processes are.
    pub fn takes(&mut self, conversation: &Conversation) -> bool {
        let ends = [conversation.local.port, conversation.remote.port];
        if !self.ports.is_empty() && !ends.iter().any(|port| self.ports.contains(port)) {
            return false;
        }
        if self.pids.is_empty() && self.cgroup.is_none() {
            return true;
        }
        let Some(process) = conversation.process else { return false };
        let key = (process.tgid, process.start_ns);
        if let Some(answer) = self.answers.get(&key) {
            return *answer;
        }
        if self.answers.len() >= REMEMBERED {
            self.answers.clear();
        }
        let answer = self.is_selected(process.tgid);
        self.answers.insert(key, answer);
        answer
    }

    /// Whether a process is, whatever its ports.
    pub fn is_selected(&self, tgid: u32) -> bool {
        (self.pids.is_empty() || self.descends(tgid)) && self.is_in_cgroup(tgid)
    }

    fn descends(&self, tgid: u32) -> bool {
        let mut tgid = tgid;
        for _ in 0..MAX_DEPTH {
            if self.pids.contains(&tgid) {
                return true;
            }
            let stat = procfs::process::Process::new(tgid.cast_signed())
                .and_then(|process| process.stat());
            match stat.map(|stat| stat.ppid) {
                Ok(parent) if parent > 0 => tgid = parent.cast_unsigned(),
                _ => return false,
            }
        }
        false
    }

    fn is_in_cgroup(&self, tgid: u32) -> bool {
        let Some(selected) = &self.cgroup else { return true };
        let text = std::fs::read_to_string(format!("/proc/{tgid}/cgroup")).unwrap_or_default();
        let own = text.lines().find_map(|line| line.strip_prefix("0::"));
        own.is_some_and(|own| {
            ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
                .iter()
                .any(|root| PathBuf::from(format!("{root}{own}")).starts_with(selected))
        })
    }
}
