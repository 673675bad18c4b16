//! What the loaded programs take of the watched ones' time.
//!
//! The kernel measures that while somebody holds a descriptor of `BPF_ENABLE_STATS`
//! (include/uapi/linux/bpf.h, Linux 5.8): two looks at a clock for each run of any program on the
//! machine. So it is held for a moment only.

use super::load::Loaded;
use crate::uprobe::program::Programs;
use crate::uprobe::round_trip::RoundTrip;
use aya::sys::{Stats, enable_stats};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The loaded programs, to be asked. Keeps them in memory, but not attached.
#[derive(Debug, Default)]
pub struct RunTimes(Vec<OwnedFd>);

/// A measurement that is under way; dropping it ends it.
#[derive(Debug)]
pub struct Measuring {
    _enabled: OwnedFd,
    before_ns: u64,
}

impl RunTimes {
    /// The programs that are loaded, also those for functions in user space.
    pub fn of(loaded: &Loaded) -> RunTimes {
        let fd =
            |program: &aya::programs::Program| program.fd().ok()?.as_fd().try_clone_to_owned().ok();
        let mut programs: Vec<_> =
            loaded.ebpf.programs().filter_map(|(_, program)| fd(program)).collect();
        let others = loaded.libraries.as_ref().map(Programs::descriptors).unwrap_or_default();
        programs.extend(others.into_iter().map(|(_, fd)| fd));
        programs.extend(loaded.round_trip.as_ref().and_then(RoundTrip::descriptor));
        RunTimes(programs)
    }

    /// Begins to measure. `None` where the kernel refuses: then nothing is known of its side.
    pub fn begin(&self) -> Option<Measuring> {
        let enabled = enable_stats(Stats::RunTime).ok()?;
        Some(Measuring { _enabled: enabled, before_ns: self.sum_ns() })
    }

    /// Ends a measurement: what all programs together took since it began, ns.
    pub fn end(&self, measuring: Measuring) -> u64 {
        self.sum_ns().saturating_sub(measuring.before_ns)
    }

    fn sum_ns(&self) -> u64 {
        let times = self.0.iter().filter_map(|fd| of(fd.as_fd()));
        times.map(|(_, time)| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).sum()
    }
}

/// Runs of a program while they were measured, and the time that they took.
pub fn of(program: BorrowedFd<'_>) -> Option<(u64, Duration)> {
    let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    run_time(&std::fs::read_to_string(path).ok()?)
}

/// The numbers in the description of a program's descriptor (`bpf_prog_show_fdinfo` in
/// kernel/bpf/syscall.c).
fn run_time(info: &str) -> Option<(u64, Duration)> {
    let number =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok();
    Some((number("run_cnt:")?, Duration::from_nanos(number("run_time_ns:")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_read_from_the_descriptors_description() {
        let info = "pos:\t0\nprog_type:\t26\nrun_time_ns:\t1234\nrun_cnt:\t5\n";
        assert_eq!(run_time(info), Some((5, Duration::from_nanos(1234))));
        assert_eq!(run_time("pos:\t0\n"), None);
    }
}
