//! Processes that may be agents, and where they could be asked.
//!
//! What runs the very file that doctor runs is this program. What only has its name may be an agent of another
//! version, or anything: that shows when it is asked.

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};
use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// CAP_SYS_ADMIN and CAP_BPF (include/uapi/linux/capability.h).
const LOADING: u64 = 1 << 21 | 1 << 39;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its number.
    pub pid: u32,
    /// It runs the very file that doctor runs.
    pub same_file: bool,
    /// Whether it can be asked.
    pub place: Place,
}

/// Where a candidate is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is another user's, who does not let this one look.
    Closed,
    /// It holds no capability by which it could load programs, so it is no agent.
    Powerless,
    /// In another network namespace.
    Elsewhere,
    /// Nowhere, or at these addresses.
    Here(Vec<SocketAddr>),
}

/// All but this process, those that run its file first.
pub fn all() -> Vec<Candidate> {
    let Ok(all) = procfs::process::all_processes() else { return Vec::new() };
    let runs_it = runs_this_file();
    let mut found: Vec<_> =
        all.flatten().filter_map(|process| candidate(&process, &runs_it)).collect();
    found.sort_by_key(|one| (!one.same_file, one.pid));
    found
}

fn candidate(process: &Process, runs_it: &impl Fn(u32) -> bool) -> Option<Candidate> {
    let pid = u32::try_from(process.pid()).ok().filter(|pid| *pid != std::process::id())?;
    let same_file = runs_it(pid);
    let executable = executable(pid);
    let comm = || process.stat().map(|stat| stat.comm).unwrap_or_default();
    let place = if same_file || is_named(&executable) {
        if !holds_power(process) {
            Place::Powerless
        } else if is_same(pid, "net") {
            Place::Here(listening(process))
        } else {
            Place::Elsewhere
        }
    } else if is_closed(&executable, &comm()) {
        Place::Closed
    } else {
        return None;
    };
    Some(Candidate { pid, same_file, place })
}

/// Whether a process runs the very file that this one runs.
pub fn runs_this_file() -> impl Fn(u32) -> bool {
    let file = |path: &str| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let own = file("/proc/self/exe");
    move |pid| own.is_some() && file(&format!("/proc/{pid}/exe")) == own
}

fn executable(pid: u32) -> std::io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe"))
}

fn is_named(executable: &std::io::Result<PathBuf>) -> bool {
    let name = executable.as_ref().ok().and_then(|path| path.file_name());
    // After an upgrade the old one still runs.
    name.is_some_and(|name| name == "kernspan" || name == "kernspan (deleted)")
}

/// It may be an agent, by its name, and this user may not look into it.
fn is_closed(executable: &std::io::Result<PathBuf>, comm: &str) -> bool {
    let denied = |error: &std::io::Error| error.kind() == ErrorKind::PermissionDenied;
    comm == "kernspan" && executable.as_ref().is_err_and(denied)
}

/// In the same namespace of this kind.
fn is_same(pid: u32, kind: &str) -> bool {
    let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    of(&pid.to_string()) == of("self")
}

/// It may load programs. So no user without rights passes for an agent; in a user namespace of its own every
/// process may hold all capabilities, and none of them is of use there.
fn holds_power(process: &Process) -> bool {
    let held = process.status().is_ok_and(|status| status.capeff & LOADING != 0);
    held && u32::try_from(process.pid()).is_ok_and(|pid| is_same(pid, "user"))
}

/// Where a process takes TCP connections: any address is asked over loopback.
fn listening(process: &Process) -> Vec<SocketAddr> {
    let Ok(descriptors) = process.fd() else { return Vec::new() };
    let sockets: HashSet<u64> = descriptors
        .flatten()
        .filter_map(|descriptor| match descriptor.target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        })
        .collect();
    let entries = [process.tcp(), process.tcp6()].into_iter().flatten().flatten();
    let listens =
        entries.filter(|entry| entry.state == TcpState::Listen && sockets.contains(&entry.inode));
    listens.map(|entry| reachable(entry.local_address)).collect()
}

/// An address of all interfaces is asked over loopback.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip().is_unspecified() {
        true => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        false => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_listens_where_its_sockets_do() {
        let own = Process::myself().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let any = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let found = listening(&own);
        assert!(found.contains(&listener.local_addr().unwrap()), "{found:?}");
        let port = any.local_addr().unwrap().port();
        assert!(found.contains(&SocketAddr::from(([127, 0, 0, 1], port))), "{found:?}");
        let every = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
        assert_eq!(reachable(every), SocketAddr::from(([127, 0, 0, 1], port)));
    }

    #[test]
    fn an_agent_of_another_user_is_not_taken_for_none() {
        let denied = || Err(ErrorKind::PermissionDenied.into());
        assert!(is_closed(&denied(), "kernspan"));
        assert!(!is_closed(&denied(), "nginx"));
        assert!(!is_closed(&Err(ErrorKind::NotFound.into()), "kernspan"), "a kernel thread");
        assert!(!is_closed(&Ok(PathBuf::from("/usr/bin/other")), "kernspan"));
    }

    #[test]
    fn a_program_is_known_by_its_name_or_its_file() {
        let named = |path: &str| is_named(&Ok(PathBuf::from(path)));
        assert!(named("/usr/bin/kernspan") && named("/usr/bin/kernspan (deleted)"));
        assert!(!named("/usr/bin/kernspan-exporter") && !named("/kernspan/other"));
        assert!(runs_this_file()(std::process::id()));
        assert!(!runs_this_file()(1), "process 1 runs something else");
    }
}
