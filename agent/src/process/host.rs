//! Facts of the host.

use agent_core::process::HostFacts;
use std::fs::File;
use std::io::Read as _;

/// Bytes read of a file that holds one short line.
const MAX_LINE: u64 = 4096;

/// What is the same for all processes of this host. What cannot be read stays empty.
pub fn host_facts() -> HostFacts {
    let names = rustix::system::uname();
    HostFacts {
        name: host_name(&names.nodename().to_string_lossy()),
        id: machine_id(),
        arch: arch(&names.machine().to_string_lossy()),
        kernel: names.release().to_string_lossy().into_owned(),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Our own host name, unless we are in a UTS namespace of our own and see the host's first
/// process: a container's name is not the host's.
fn host_name(own: &str) -> String {
    let namespace = |path: &str| std::fs::read_link(path).ok();
    let (first, ours) = (namespace("/proc/1/ns/uts"), namespace("/proc/self/ns/uts"));
    let elsewhere = first.is_some() && first != ours;
    let host = if elsewhere { line("/proc/1/root/etc/hostname") } else { String::new() };
    if host.is_empty() { own.to_owned() } else { host }
}

/// The host's machine id: of the first process's root, else of our own.
fn machine_id() -> String {
    const PLACES: [&str; 4] = [
        "/proc/1/root/etc/machine-id",
        "/proc/1/root/var/lib/dbus/machine-id",
        "/etc/machine-id",
        "/var/lib/dbus/machine-id",
    ];
    let ids = PLACES.iter().map(|path| line(path));
    let is_id = |id: &String| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    ids.into_iter().find(is_id).unwrap_or_default()
}

/// `host.arch` in OpenTelemetry's words.
fn arch(machine: &str) -> String {
    let known = match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i486" | "i586" | "i686" => "x86",
        "ppc64" | "ppc64le" => "ppc64",
        other if other.starts_with("arm") => "arm32",
        other => other,
    };
    known.to_owned()
}

fn line(path: &str) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_LINE).read_to_string(&mut text));
    if read.is_err() {
        return String::new();
    }
    text.lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_what_the_system_says() {
        let host = host_facts();
        let said = |program: &str, arg: &str| {
            let output = std::process::Command::new(program).arg(arg).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(host.kernel, said("uname", "-r"));
        assert_eq!(host.arch, arch(&said("uname", "-m")));
        assert_eq!(host.boot_id.len(), 36, "{}", host.boot_id);
        assert!(!host.name.is_empty());
    }

    #[test]
    fn architectures_have_the_names_of_the_conventions() {
        for (machine, expected) in
            [("x86_64", "amd64"), ("aarch64", "arm64"), ("armv7l", "arm32"), ("riscv64", "riscv64")]
        {
            assert_eq!(arch(machine), expected);
        }
    }
}
