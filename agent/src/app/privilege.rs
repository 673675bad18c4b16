//! Whether this process may do what the agent needs, and what it does without where it may not.

use crate::cli::Failure;

/// A capability that is used: its number (include/uapi/linux/capability.h), and what is lost
/// without it.
struct Used {
    number: u32,
    name: &'static str,
    without: &'static str,
}

const CAP_SYS_ADMIN: u32 = 21;

/// Nothing works without these.
const NEEDED: [(u32, &str); 2] = [(39, "CAP_BPF"), (38, "CAP_PERFMON")];

/// What is there for one feature each.
const USED: [Used; 3] = [
    Used {
        number: 19,
        name: "CAP_SYS_PTRACE",
        without: "executables, environments and libraries of most processes are closed: services \
                  are called after their commands, and TLS is not read",
    },
    Used {
        number: 2,
        name: "CAP_DAC_READ_SEARCH",
        without: "environments and files of other users' processes are closed: names declared \
                  there, and TLS in files that not everybody may read",
    },
    Used {
        number: 12,
        name: "CAP_NET_ADMIN",
        without: "UDP sockets that are not connected have no peers",
    },
];

fn effective() -> Result<u64, Failure> {
    procfs::process::Process::myself()
        .and_then(|process| process.status())
        .map(|status| status.capeff)
        .map_err(|error| anyhow::Error::new(error).context("reading the own capabilities").into())
}

/// Checks the capabilities without which no program can be loaded.
///
/// # Errors
/// One sentence that names what is missing.
pub fn check() -> Result<(), Failure> {
    let effective = effective()?;
    let missing = needed_of(effective);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::Operator(format!(
        "the kernel lets only privileged processes load probes, and this one lacks {} (start it as root, or with these capabilities)",
        missing.join(" and ")
    )))
}

fn needed_of(effective: u64) -> Vec<&'static str> {
    if effective & (1 << CAP_SYS_ADMIN) != 0 {
        return Vec::new();
    }
    let missing = NEEDED.into_iter().filter(|(number, _)| effective & (1 << number) == 0);
    missing.map(|(_, name)| name).collect()
}

/// Capabilities that are missing and cost one feature each, with what that is. Nothing when the
/// own ones cannot be read.
pub fn lacking() -> Vec<(&'static str, &'static str)> {
    effective().map(lacking_of).unwrap_or_default()
}

fn lacking_of(effective: u64) -> Vec<(&'static str, &'static str)> {
    let missing = USED.iter().filter(|used| effective & (1 << used.number) == 0);
    missing.map(|used| (used.name, used.without)).collect()
}

/// Says what is missing, a line each.
pub fn warn() {
    for (name, without) in lacking() {
        tracing::warn!("without {name}: {without}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_capability_is_named_with_what_it_costs() {
        let all = NEEDED.iter().map(|(number, _)| *number).chain(USED.iter().map(|u| u.number));
        let all = all.fold(0_u64, |set, number| set | 1 << number);
        assert!(lacking_of(all).is_empty() && needed_of(all).is_empty());
        assert_eq!(needed_of(all & !(1 << 38)), ["CAP_PERFMON"]);
        assert!(needed_of(1 << CAP_SYS_ADMIN).is_empty(), "as before Linux 5.8");
        for used in &USED {
            let lacking = lacking_of(all & !(1 << used.number));
            assert_eq!(lacking, [(used.name, used.without)]);
        }
    }
}
