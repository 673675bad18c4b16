//! Names that whoever started a program has given it: supervisord, npm, systemd.

use super::found::Found;
use super::text::base;
use crate::process::ProcessFacts;
use crate::process::container::id_of_segment;
use crate::process::resource::variable;

/// Units that start what others give them: their name is nobody's.
const HOSTS_OF_OTHERS: &[&str] = &[
    "atd",
    "containerd",
    "cron",
    "crond",
    "cronie",
    "crio",
    "docker",
    "getty",
    "init",
    "k3s",
    "kubelet",
    "podman",
    "rc-local",
    "serial-getty",
    "ssh",
    "sshd",
    "supervisor",
    "supervisord",
    "user",
    "user-runtime-dir",
];

/// The name under which a manager of processes knows this one. Programs that run others' code are
/// asked only: what they start (`curl`) inherits the variables.
pub(super) fn managed(facts: &ProcessFacts, language: Option<&str>) -> Option<Found> {
    if language == Some("java")
        && let Some(found) = variable(facts, "SPRING_APPLICATION_NAME").and_then(Found::declared)
    {
        return Some(found);
    }
    supervised(facts).or_else(|| {
        // `npm start` of the package `@acme/shop`.
        let package = variable(facts, "npm_package_name").filter(|_| language == Some("nodejs"))?;
        Found::declared(base(package))
    })
}

/// supervisord's program. Several processes of one (`shop_00`) are one service; a group that holds
/// different programs is their namespace.
fn supervised(facts: &ProcessFacts) -> Option<Found> {
    let process = variable(facts, "SUPERVISOR_PROCESS_NAME")?;
    let group = variable(facts, "SUPERVISOR_GROUP_NAME").unwrap_or(process);
    if group == process {
        return Found::declared(process);
    }
    // Of several: `shop_00`, or the number alone.
    let stem = process.trim_end_matches(|c: char| c.is_ascii_digit());
    let program = match stem.strip_suffix(['_', '-']) {
        Some(program) if stem != process && !program.is_empty() => program,
        _ if stem.is_empty() => group,
        _ => process,
    };
    let mut found = Found::declared(program)?;
    found.namespace = (group != program).then(|| group.to_owned());
    Some(found)
}

/// The name of the systemd service that a process belongs to, out of `/proc/PID/cgroup`.
pub(super) fn of_unit(cgroup: &str) -> Option<Found> {
    let unit = unit(cgroup)?;
    let name = unit.strip_suffix(".service").unwrap_or(unit);
    // Of a template, which instance it is does not name it.
    let name = unescaped(name.split('@').next().unwrap_or(name));
    let says = !HOSTS_OF_OTHERS.contains(&name.as_str()) && !name.starts_with("run-");
    if says { Found::declared(&name) } else { None }
}

/// The innermost systemd service that `/proc/PID/cgroup` names, inside of the innermost container:
/// `shop@1.service`.
pub(super) fn unit(cgroup: &str) -> Option<&str> {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.filter_map(innermost_unit).next()
}

fn innermost_unit(path: &str) -> Option<&str> {
    let unit = path
        .rsplit('/')
        .find(|segment| segment.ends_with(".service") || id_of_segment(segment).is_some())?;
    // `containerd.service` around a container is not the service of what runs in it.
    unit.ends_with(".service").then_some(unit)
}

/// systemd writes `-` within a name as `\x2d`.
fn unescaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, behind)) = rest.split_once("\\x") {
        out.push_str(before);
        let byte = behind.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(u8::is_ascii_graphic) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                out.push_str("\\x");
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}
