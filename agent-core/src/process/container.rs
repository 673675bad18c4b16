//! Container and pod out of a process's cgroup: `/proc/PID/cgroup` of cgroup v1, v2 and both.
//!
//! Nobody writes down what a cgroup is called; these are the habits of the runtimes:
//!
//! | Who | Path |
//! |---|---|
//! | Docker, cgroupfs and systemd driver | `/docker/ID`, `/system.slice/docker-ID.scope` |
//! | Podman: systemd, cgroupfs, split | `…/libpod-ID.scope/container`, `/libpod_parent/libpod-ID`, `…/libpod-payload-ID` |
//! | containerd below a kubelet, cgroupfs | `/kubepods/burstable/podUID/ID` |
//! | the same, systemd | `…/kubepods-burstable-podU_I_D.slice/cri-containerd-ID.scope` |
//! | the same, where the two are not told of one driver | `…-podU_I_D.slice:cri-containerd:ID` |
//! | CRI-O | `…-podU_I_D.slice/crio-ID.scope`, `/kubepods/…/podUID/crio-ID` |
//! | ECS | `/ecs/TASK/ID`, on Fargate `/ecs/TASK/TASK-NUMBER` |
//!
//! A kubelet's root may be below others (`kubelet-kubepods-….slice` in kind), and containers may run
//! in containers: what is innermost comes first. A container that may make cgroups may call them
//! whatever it likes, so the names are a claim of whoever runs it, like its command line.

use smallvec::SmallVec;

/// Length of a container id in all runtimes but one: a SHA-256 in hex.
const ID_LEN: usize = 64;

/// Length of a task's id of ECS, in hex.
const TASK_LEN: usize = 32;

/// Most lines looked at: v1 has one for each controller (14 in Linux 6.18) and named hierarchy.
const MAX_LINES: usize = 64;

/// Most containers, and pods, that lie in one another: a runtime in a pod in a node that is a
/// container are three.
const MAX_NESTED: usize = 4;

/// Where a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// Ids of its containers, the innermost first.
    pub containers: SmallVec<[&'a str; 2]>,
    /// Its pods, the innermost first.
    pub pods: SmallVec<[PodUid; 1]>,
}

/// The uid of a pod as its cgroup says it. A pod that the kubelet has from a file has the hash of
/// that file there, and another uid at the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid {
    /// Its 32 hex digits.
    pub number: u128,
    /// It is a UUID, not a hash.
    pub is_uuid: bool,
}

impl PodUid {
    /// A UUID, with dashes or with what a slice has in their place, or 32 hex digits.
    pub fn parse(text: &str) -> Option<PodUid> {
        let is_uuid = match text.len() {
            36 => true,
            32 => false,
            _ => return None,
        };
        let mut number = 0;
        for (at, byte) in text.bytes().enumerate() {
            if is_uuid && matches!(at, 8 | 13 | 18 | 23) {
                if byte != b'-' && byte != b'_' {
                    return None;
                }
                continue;
            }
            let digit = char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase())?;
            number = number << 4 | u128::from(digit);
        }
        Some(PodUid { number, is_uuid })
    }
}

impl std::fmt::Display for PodUid {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex = format!("{:032x}", self.number);
        if !self.is_uuid {
            return out.write_str(&hex);
        }
        let part = |range| hex.get(range).unwrap_or_default();
        let parts = [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)];
        out.write_str(&parts.join("-"))
    }
}

/// Where a process with these lines in `/proc/PID/cgroup` runs: by the first line that names a
/// container, else the first that names a pod. Controllers of v1 differ in whether they do.
pub fn place(cgroup: &str) -> Place<'_> {
    let mut pod_only = Place::default();
    for path in cgroup.lines().take(MAX_LINES).filter_map(|line| line.splitn(3, ':').nth(2)) {
        let found = place_of_path(path);
        if !found.containers.is_empty() {
            return found;
        }
        if pod_only.pods.is_empty() {
            pod_only = found;
        }
    }
    pod_only
}

/// The id of the innermost container that `/proc/PID/cgroup` names, if any.
pub fn container_id(cgroup: &str) -> Option<&str> {
    place(cgroup).containers.first().copied()
}

fn place_of_path(path: &str) -> Place<'_> {
    let mut place = Place::default();
    // A pod is one below what a kubelet calls its root: `pod…` alone may be anybody's.
    let kubernetes = path.contains("kubepods");
    for segment in path.rsplit('/') {
        if let Some(id) = id_of_segment(segment)
            && place.containers.len() < MAX_NESTED
        {
            place.containers.push(id);
        }
        if let Some(pod) = pod_of_segment(segment).filter(|_| kubernetes)
            && place.pods.len() < MAX_NESTED
        {
            place.pods.push(pod);
        }
    }
    place
}

/// The id at the end of a segment, alone or behind the runtime's name. What monitors a container
/// (`crio-conmon-ID.scope`) is outside of it.
pub(super) fn id_of_segment(segment: &str) -> Option<&str> {
    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    if is_task_container(name) {
        return Some(name);
    }
    let (front, id) = name.split_at_checked(name.len().checked_sub(ID_LEN)?)?;
    let apart = front.is_empty() || front.ends_with(['-', ':']);
    (is_hex(id) && apart && !front.contains("conmon")).then_some(id)
}

/// `TASK-NUMBER`, as Fargate has it.
fn is_task_container(name: &str) -> bool {
    let Some((task, number)) = name.split_at_checked(TASK_LEN) else { return false };
    let number = number.strip_prefix('-').unwrap_or_default();
    let digits = (1..=20).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    is_hex(task) && digits
}

/// `podUID`, or `…-podU_I_D.slice` with nothing or `:RUNTIME:ID` behind it.
fn pod_of_segment(segment: &str) -> Option<PodUid> {
    let slice = segment.split(':').next().unwrap_or(segment);
    let name = match slice.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1,
        None => slice.strip_prefix("pod")?,
    };
    PodUid::parse(name)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
