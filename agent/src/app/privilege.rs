//! Whether this process may do what the agent needs.

use crate::cli::Failure;

// Numbers from include/uapi/linux/capability.h.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Checks the capabilities without which no program can be loaded.
///
/// # Errors
/// One sentence that names what is missing.
pub fn check() -> Result<(), Failure> {
    let effective = procfs::process::Process::myself()
        .and_then(|process| process.status())
        .map(|status| status.capeff)
        .map_err(|error| anyhow::Error::new(error).context("reading the own capabilities"))?;
    let has = |capability: u32| effective & (1 << capability) != 0;
    if has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_PERFMON)) {
        return Ok(());
    }
    let missing: Vec<&str> = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter(|(capability, _)| !has(*capability))
        .map(|(_, name)| name)
        .collect();
    Err(Failure::Operator(format!(
        "the kernel lets only privileged processes load probes, and this one lacks {} (start it as root, or with these capabilities)",
        missing.join(" and ")
    )))
}
