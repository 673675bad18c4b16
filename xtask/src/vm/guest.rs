//! What runs first inside a guest.

/// Begins the line with which a guest reports its script's exit status.
pub const STATUS: &str = "kernspan-vm-exit: ";

/// The guest's first program on the host's file system. Nothing there is written: the root is
/// mounted read-only, and what programs write to lies in memory. `/tmp` stays as it is, because
/// the tree under test may lie in it; programs get `TMPDIR`.
///
/// A script that leaves an executable `/run/init` gives its place to that program, which then has
/// to write the status and to power off.
pub fn init(script: &str) -> String {
    format!(
        r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run/home TMPDIR=/run/tmp LC_ALL=C.UTF-8
mount -n -t proc proc /proc
mount -n -t sysfs sys /sys
grep -q ' /dev devtmpfs' /proc/mounts || mount -n -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS1 2>&1
mount -n -t tmpfs run /run
mount -n -t tmpfs log /var/log
mount -n -t tmpfs tmp /var/tmp
mkdir -p /run/tmp /run/home /dev/pts /dev/shm
mount -n -t tmpfs shm /dev/shm
mount -n -t devpts pts /dev/pts
mount -n -t tracefs trace /sys/kernel/tracing
mount -n -t securityfs security /sys/kernel/security
mount -n -t bpf bpf /sys/fs/bpf
mount -n -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
cd /run/tmp
sh <<'kernspan-end-of-script'
{script}
kernspan-end-of-script
status=$?
[ -x /run/init ] && exec /run/init
echo "{STATUS}$status"
exec /bin/busybox poweroff -f
"#
    )
}

/// The first program of an initramfs: loads modules, then goes on with `init` on the host's files.
pub fn initramfs_init(modules: &[String], init: &str) -> String {
    let loads: String =
        modules.iter().map(|module| format!("/bin/busybox insmod /{module}\n")).collect();
    format!(
        r#"#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
{loads}/bin/busybox mount -t virtiofs -o ro rootfs /root
exec /bin/busybox switch_root /root /bin/sh '{init}'
"#
    )
}
