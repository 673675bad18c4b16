//! Calls that the kernel did not show to a program: while a program runs on a CPU, a second run of
//! it there (an interrupt's, or a call that it brings about itself) is skipped.
//!
//! The kernel counts those (`recursion_misses`, Linux 5.12 and later; Documentation/bpf,
//! `bpf_prog_show_fdinfo` in kernel/bpf/syscall.c), and nobody else can.

use super::in_kernel::LATER;
use super::load::Loaded;
use super::plan::PLAN;
use super::returns::Definition;
use agent_core::ledger::{Entry, Side};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

/// The loaded programs, to be asked. Keeps them in memory, but not attached.
#[derive(Debug, Default)]
pub struct Misses {
    programs: Vec<(&'static str, OwnedFd)>,
    returns: Vec<(&'static str, Arc<Definition>)>,
}

impl Misses {
    /// The programs that are loaded.
    pub fn of(loaded: &Loaded) -> Misses {
        let parts = || PLAN.iter().flat_map(|entry| entry.choices).flat_map(|choice| choice.parts);
        let programs = loaded.ebpf.programs().filter_map(|(name, program)| {
            let planned = parts().map(|part| part.program);
            let program_name = planned.chain(LATER).find(|planned| *planned == name)?;
            // Not loaded: not asked for, or refused.
            let fd = program.fd().ok()?.as_fd().try_clone_to_owned().ok()?;
            Some((program_name, fd))
        });
        let returns = loaded.returns.iter().map(|(name, it)| (*name, it.definition()));
        Misses { programs: programs.collect(), returns: returns.collect() }
    }

    /// Calls not shown, by program. An older kernel does not count them.
    pub fn read(&self) -> Vec<(&'static str, u64)> {
        let read = |fd: &OwnedFd| {
            let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
            misses(&std::fs::read_to_string(path).ok()?)
        };
        let skipped = self.programs.iter().filter_map(|(name, fd)| Some((*name, read(fd)?)));
        // Of a call whose return cannot be noted its program knows nothing.
        let unnoted = |name| -> u64 {
            let mut of = self.returns.iter().filter(|(program, _)| *program == name);
            of.next().map_or(0, |(_, definition)| definition.missed())
        };
        skipped.map(|(name, count)| (name, count + unnoted(name))).collect()
    }

    /// As an account: what came to the programs in vain, and was lost to which.
    pub fn ledger(&self) -> Vec<Entry> {
        entries(&self.read())
    }
}

fn entries(read: &[(&'static str, u64)]) -> Vec<Entry> {
    let entry = |side, count| Entry { stage: "kernel_skipped", unit: "calls", side, count };
    let sum = read.iter().map(|(_, count)| count).sum();
    let mut entries = vec![entry(Side::In, sum)];
    entries.extend(read.iter().map(|(name, count)| entry(Side::Lost(name), *count)));
    entries
}

/// The number in the description of a program's descriptor.
fn misses(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{entries, misses};
    use agent_core::ledger::Side;

    #[test]
    fn the_number_is_read_from_the_descriptors_description() {
        for (why, info, expected) in [
            (
                "6.18",
                "pos:\t0\nflags:\t02000002\nprog_type:\t26\nprog_jited:\t1\nrun_time_ns:\t0\n\
                 run_cnt:\t0\nrecursion_misses:\t17\nverified_insns:\t2817\n",
                Some(17),
            ),
            ("before 5.12", "pos:\t0\nprog_type:\t26\nrun_cnt:\t0\n", None),
            ("no program", "pos:\t0\nflags:\t02\n", None),
            ("no number", "recursion_misses:\tmany\n", None),
        ] {
            assert_eq!(misses(info), expected, "{why}");
        }
    }

    #[test]
    fn the_account_balances() {
        let entries = entries(&[("send_tracepoint", 3), ("arrival_tracepoint", 4)]);
        let sum = |of: fn(Side) -> bool| -> u64 {
            entries.iter().filter(|entry| of(entry.side)).map(|entry| entry.count).sum()
        };
        assert_eq!(sum(|side| side == Side::In), 7);
        assert_eq!(sum(|side| matches!(side, Side::Lost(_))), 7);
    }
}
