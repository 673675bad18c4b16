//! Container id out of a process's cgroup.

/// Length of a container id in all runtimes: a SHA-256 in hex.
const ID_LEN: usize = 64;

/// The id of the innermost container that `/proc/PID/cgroup` names, if any.
///
/// Runtimes put it at the end of a path segment: alone (cgroupfs driver: `/docker/ID`,
/// `/kubepods/burstable/podUID/ID`), behind the runtime's name (systemd driver:
/// `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`), or behind
/// colons (`kubepods-….slice:cri-containerd:ID`). A segment of the container's monitor
/// (`crio-conmon-ID.scope`) is outside of the container.
pub fn container_id(cgroup: &str) -> Option<&str> {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.filter_map(innermost).next()
}

fn innermost(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(id_of_segment)
}

/// The container id at the end of a path segment of a cgroup.
pub(super) fn id_of_segment(segment: &str) -> Option<&str> {
    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    let (front, id) = name.split_at_checked(name.len().checked_sub(ID_LEN)?)?;
    let is_id = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let apart = front.is_empty() || front.ends_with(['-', ':']);
    (is_id && apart && !front.contains("conmon")).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_innermost_container_of_every_runtime_is_found() {
        let cases = [
            ("none", "0::/user.slice/user-1000.slice/session-1.scope".into(), None),
            ("root", "0::/".into(), None),
            ("empty", String::new(), None),
            ("docker, systemd", format!("0::/system.slice/docker-{A}.scope"), Some(A)),
            ("docker, cgroupfs", format!("0::/docker/{A}"), Some(A)),
            ("v1", format!("12:pids:/docker/{A}\n11:cpu,cpuacct:/docker/{A}\n"), Some(A)),
            ("v1, first line outside", format!("2:rdma:/\n1:cpu:/docker/{A}"), Some(A)),
            ("v1, named hierarchy", format!("1:name=systemd:/docker/{A}"), Some(A)),
            (
                "containerd in kubernetes, systemd",
                format!(
                    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-{A}.scope"
                ),
                Some(A),
            ),
            ("kubernetes, cgroupfs", format!("0::/kubepods/besteffort/pod12-34/{A}"), Some(A)),
            ("colons", format!("0::/kubepods-pod12.slice:cri-containerd:{A}"), Some(A)),
            ("cri-o", format!("0::/kubepods.slice/kubepods-pod1.slice/crio-{A}.scope"), Some(A)),
            ("its monitor", format!("0::/kubepods.slice/crio-conmon-{A}.scope"), None),
            ("podman", format!("0::/machine.slice/libpod-{A}.scope/container"), Some(A)),
            ("podman's monitor", format!("0::/machine.slice/libpod-conmon-{A}.scope"), None),
            ("systemd inside", format!("0::/docker/{A}/system.slice/nginx.service"), Some(A)),
            ("nested", format!("0::/docker/{A}/kubepods/pod1/{B}"), Some(B)),
            ("seen from another cgroup namespace", format!("0::/../docker-{A}.scope"), Some(A)),
            ("too short", format!("0::/docker/{}", &A[1..]), None),
            ("too long", format!("0::/docker/{A}a"), None),
            ("upper case", format!("0::/docker/{}", A.to_uppercase()), None),
            ("not ASCII", format!("0::/docker/é{A}"), None),
        ];
        for (why, text, expected) in &cases {
            assert_eq!(container_id(text), *expected, "{why}");
        }
    }
}
