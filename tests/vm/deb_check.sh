# Examines what dpkg makes of the package, in the guest of systemd_check.sh, whose functions it uses:
# installed and idle, enabled, reloaded, upgraded, removed, purged.
options=/etc/kernspan/kernspan.yaml
wanted=/etc/systemd/system/multi-user.target.wants/kernspan.service

installs() {
    # Without waiting for a disk that is memory.
    dpkg --force-unsafe-io --install "$1" >"$work/dpkg" 2>&1 || wrong "dpkg: $(cat "$work/dpkg")"
}

# Its answer is what counts: it fails as well for `disabled`, and complains of a unit that is gone.
is_enabled() {
    systemctl is-enabled kernspan.service 2>/dev/null || true
}

# The unit of the checks before would win over the package's.
rm -rf /run/systemd/system/kernspan.service /run/systemd/system/kernspan.service.d /usr/local/bin/kernspan
systemctl reset-failed kernspan.service
systemctl daemon-reload

installs /run/tests/first.deb
[ "$(dpkg-query -W -f='${Status}' kernspan)" = "install ok installed" ] || wrong "$(dpkg -s kernspan)"
for file in /etc/kernspan/environment "$options"; do
    dpkg-query -W -f='${Conffiles}' kernspan | grep -q " $file " || wrong "$file is no conffile"
    [ "$(stat -c %a:%U "$file")" = 600:root ] || wrong "$file: $(stat -c %a:%U "$file")"
done
[ "$(property FragmentPath)" = /usr/lib/systemd/system/kernspan.service ] ||
    [ "$(property FragmentPath)" = /lib/systemd/system/kernspan.service ] || wrong "no unit of the package"
[ "$(is_enabled)" = disabled ] || wrong "after the installation it is $(is_enabled)"
[ "$(property ActiveState)" = inactive ] || wrong "it was started without being asked for"

# The fewest programs for the verifier, which emulated processors run for seconds at each start.
echo 'probes: [exec]' >>"$options"
systemctl --quiet enable --now kernspan.service
until_ready
is_confined
began=$pid

# What the operator has written stays, and is taken up.
echo 'sample: 0.5' >>"$options"
systemctl reload kernspan.service || wrong "it cannot be reloaded"
tries=0
until journalctl --no-pager -o cat -u kernspan.service | grep -q "the new configuration is in use"; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || wrong "its changed file was not taken up"
    sleep 0.1
done
[ "$(property MainPID)" = "$began" ] || wrong "the reload was a restart"

installs /run/tests/second.deb
until_ready
[ "$pid" != "$began" ] || wrong "the upgrade left the old program running"
[ "$(is_enabled)" = enabled ] || wrong "after the upgrade it is $(is_enabled)"
grep -q '^sample: 0.5' "$options" || wrong "the upgrade took the operator's file"

dpkg --remove kernspan >"$work/dpkg" 2>&1 || wrong "dpkg: $(cat "$work/dpkg")"
[ ! -d "/proc/$pid" ] || wrong "it runs without its package"
[ ! -e /usr/bin/kernspan ] || wrong "its program stayed"
grep -q '^sample: 0.5' "$options" || wrong "removal took the operator's file"

dpkg --purge kernspan >"$work/dpkg" 2>&1 || wrong "dpkg: $(cat "$work/dpkg")"
[ ! -e /etc/kernspan ] && [ ! -L "$wanted" ] || wrong "purged, it left $(ls -d /etc/kernspan "$wanted" 2>&1)"
[ "$(property LoadState)" = not-found ] || wrong "purged, its unit is $(property LoadState)"
echo "kernspan.deb: installed and idle, enabled, reloaded, upgraded, removed, purged"
