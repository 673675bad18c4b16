#!/bin/sh
# Examines kernspan.service under systemd: ready, confined as the unit says, sees requests, stops
# in time, and is not started again after a mistake in its configuration.
set -eu
work=$(mktemp -d)
listen=127.0.0.1:9464
web=18080
requests=20

wrong() {
    echo "WRONG: $*"
    # Both fail for a service that is down, which is what is shown here.
    systemctl status --no-pager --full kernspan.service || true
    journalctl --no-pager -n 40 -u kernspan.service || true
    exit 1
}

property() {
    systemctl show --value -p "$1" kernspan.service
}

field() {
    sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status"
}

until_ready() {
    tries=0
    until curl -s -f -o /dev/null "http://$listen/readyz"; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || wrong "not ready after 30 s"
        sleep 0.1
    done
    pid=$(property MainPID)
}

start_nginx() {
    cat >"$work/nginx.conf" <<CONF
user root;
pid $work/nginx.pid;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path $work/body;
    proxy_temp_path $work/proxy;
    fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi;
    scgi_temp_path $work/scgi;
    server { listen 127.0.0.1:$web; location / { return 200 "hello\n"; } }
}
CONF
    nginx -e "$work/error.log" -c "$work/nginx.conf" -p "$work"
}

# BPF 39, PERFMON 38, SYS_RESOURCE 24, SYS_PTRACE 19, NET_ADMIN 12, DAC_READ_SEARCH 2.
is_confined() {
    [ "$(field CapEff)" = 000000c001081004 ] || wrong "capabilities are $(field CapEff)"
    [ "$(field NoNewPrivs)" = 1 ] || wrong "new privileges are allowed"
    [ "$(field Seccomp)" = 2 ] || wrong "no system call filter"
}

has_every_feature() {
    curl -s "http://$listen/status" >"$work/status.json"
    /usr/bin/python3 - "$work/status.json" <<'CHECK' || wrong "a feature is missing"
import json, sys
hooks = json.load(open(sys.argv[1]))["hooks"]
off = [hook for hook in hooks if not hook["hook"] and hook["why"] != "not asked for"]
print("hooks:", ", ".join(f"{hook['feature']} {hook['hook']}" for hook in hooks))
sys.exit(bool(off) and print("off:", off) is None)
CHECK
}

sees_requests() {
    i=0
    while [ "$i" -lt "$requests" ]; do
        curl -s -f -o /dev/null "http://127.0.0.1:$web/systemd/$i" || wrong "request $i"
        i=$((i + 1))
    done
    sleep 3
    journalctl --no-pager -o cat -u kernspan.service >"$work/journal"
    i=0
    while [ "$i" -lt "$requests" ]; do
        # Without a match grep fails, and says 0.
        seen=$(grep -c "/systemd/$i\b" "$work/journal" || true)
        [ "$seen" -ge 1 ] || wrong "no trace of request $i in the journal"
        i=$((i + 1))
    done
    grep -m 3 -B 2 "/systemd/1\b" "$work/journal"
}

stops() {
    began=$(date +%s%N)
    systemctl stop kernspan.service
    took=$((($(date +%s%N) - began) / 1000000))
    [ "$(property Result)" = success ] || wrong "its result is $(property Result)"
    [ ! -d "/proc/$pid" ] || wrong "it still runs"
    # Emulated processors are some twenty times as slow as real ones.
    [ "$took" -lt 5000 ] || wrong "stopping took $took ms"
    echo "stopped in $took ms"
}

stays_down_after_a_mistake() {
    mkdir -p /run/systemd/system/kernspan.service.d
    printf '[Service]\nEnvironment=OTEL_EXPORTER_OTLP_ENDPOINT=no-url\n' \
        >/run/systemd/system/kernspan.service.d/mistake.conf
    systemctl daemon-reload
    # Type=exec: whether this fails depends on how soon the agent has read its configuration.
    systemctl start kernspan.service || true
    sleep 7
    [ "$(property ExecMainStatus)" = 2 ] || wrong "a mistake ended it with $(property ExecMainStatus)"
    [ "$(property NRestarts)" = 0 ] || wrong "it was started again after a mistake"
    [ "$(property ActiveState)" = failed ] || wrong "it is $(property ActiveState)"
}

until_ready
is_confined
has_every_feature
start_nginx
sees_requests
stops
stays_down_after_a_mistake
kill -TERM "$(cat "$work/nginx.pid")"
echo "kernspan.service: ready, confined, $requests requests seen, stopped, not restarted in vain"
. /run/tests/deb_check.sh
