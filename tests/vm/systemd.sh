#!/bin/sh
# Makes systemd the first program of a guest, with the unit of deploy/systemd and one service that
# examines it: systemd.sh AGENT PACKAGE NEWER-PACKAGE. All that is written lies in the guest's memory.
set -eu
agent=$1
here=$(dirname "$(readlink -f "$0")")
units=/run/systemd/system
mkdir -p "$units" /run/tests
cp "$here/../../deploy/systemd/kernspan.service" "$units"
cp "$here/systemd_check.sh" "$here/deb_check.sh" /run/tests
cp "$2" /run/tests/first.deb
cp "$3" /run/tests/second.deb
cp "$agent" /run/tests/kernspan
# Where dpkg writes. A policy of the host's against services is none of the guest's.
PYTHONPATH="$here/core" PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -c '
import modules, os
modules.load(os.environ["KERNSPAN_VM_KERNEL"], "overlay")'
for place in /usr /etc /var/lib; do
    upper=/run/written$place
    mkdir -p "$upper/files" "$upper/work"
    mount -n -t overlay -o "lowerdir=$place,upperdir=$upper/files,workdir=$upper/work" overlay "$place"
done
rm -f /usr/sbin/policy-rc.d
# Of the host's packages dpkg has to know those that are needed, and who owns the directories: with all of
# them it takes minutes here.
known="base-files libc6:amd64 libgcc-s1:amd64 gcc-12-base:amd64 init-system-helpers"
mkdir -p /run/dpkg/info /run/dpkg/updates /run/dpkg/triggers
dpkg-query -s $known >/run/dpkg/status
for package in $known; do
    cp "/var/lib/dpkg/info/$package.list" /run/dpkg/info
done
mount -n --bind /run/dpkg /var/lib/dpkg

# The unit starts /usr/local/bin/kernspan, and systemd makes directories in /tmp.
mount -n -t tmpfs bin /usr/local/bin
cp /run/tests/kernspan /usr/local/bin/kernspan
mount -n -t tmpfs tmp /tmp

# Nothing of the host's own services: only what the unit itself asks for.
for unit in sysinit.target basic.target network-online.target; do
    printf '[Unit]\nDescription=%s of the guest\nDefaultDependencies=no\n' "$unit" >"$units/$unit"
done
cat >"$units/kernspan-check.service" <<'UNIT'
[Unit]
Description=examines kernspan.service
Wants=kernspan.service systemd-journald.service
After=kernspan.service systemd-journald.service

[Service]
Type=oneshot
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin
StandardOutput=file:/dev/ttyS1
StandardError=inherit
ExecStart=/bin/sh /run/tests/systemd_check.sh
ExecStopPost=/bin/sh -c 'echo "kernspan-vm-exit: $EXIT_STATUS" >/dev/ttyS1; exec /bin/busybox poweroff -f'
TimeoutStartSec=340
UNIT
cat >/run/init <<'INIT'
#!/bin/sh
exec </dev/null >/dev/console 2>&1
exec /lib/systemd/systemd --system --unit=kernspan-check.service --log-target=console --show-status=1
INIT
chmod +x /run/init
