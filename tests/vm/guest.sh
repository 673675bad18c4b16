#!/bin/sh
# The scenario of `cargo xtask vm`, run inside a guest: guest.sh AGENT payload|processes HOOKS...
# For each of HOOKS (auto, tracepoint, fexit, kprobe; auto/4 with four payload rings): 100 requests from curl to
# nginx; what the agent reports must agree with the access log. All that is written lies in the guest's memory.
set -eu
agent=$1
promise=$2
shift 2
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
requests=100
web=18080
listen=18081

start_nginx() {
    mkdir -p "$work/www" && echo hello >"$work/www/index.html"
    cat >"$work/nginx.conf" <<CONF
user root;
worker_processes 1;
pid $work/nginx.pid;
events { worker_connections 64; }
http {
    access_log $work/access.log;
    client_body_temp_path $work/body;
    proxy_temp_path $work/proxy;
    fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi;
    scgi_temp_path $work/scgi;
    server { listen 127.0.0.1:$web; root $work/www; location / { try_files /index.html =404; } }
}
CONF
    nginx -e "$work/error.log" -c "$work/nginx.conf" -p "$work"
}

# A missing feature is no error, and is named with its reason.
examine() {
    "$agent" doctor >"$work/doctor" || { cat "$work/doctor"; echo "WRONG: doctor failed"; exit 1; }
    if [ "$promise" = payload ]; then
        missing=
        for feature in processes payload 'connection state' 'arrival time' 'send time'; do
            grep -q "^  $feature  *[a-z][a-z ]*:" "$work/doctor" || missing="$missing $feature"
        done
        [ -z "$missing" ] && return
        echo "WRONG: doctor does not say that these are on:$missing"
    else
        grep -q '^  processes  *tracepoint' "$work/doctor" &&
            grep -q '^  payload  *off  *[a-z]' "$work/doctor" && cat "$work/doctor" && return
        echo "WRONG: doctor does not say that there are processes, and why no payload"
    fi
    cat "$work/doctor"
    exit 1
}

start_agent() {
    chosen="--payload-rings $2"
    [ "$1" = auto ] || chosen="$chosen --hooks $1"
    # shellcheck disable=SC2086
    "$agent" run --output "json:$work/out.json" --listen "127.0.0.1:$listen" $chosen \
        >"$work/agent.log" 2>&1 &
    agent_pid=$!
    tries=0
    until curl -s -f -o /dev/null "http://127.0.0.1:$listen/readyz"; do
        tries=$((tries + 1))
        if [ "$tries" -gt 300 ] || ! kill -0 "$agent_pid" 2>/dev/null; then
            echo "WRONG: the agent is not ready:"; cat "$work/agent.log"; exit 1
        fi
        sleep 0.1
    done
}

stop_agent() {
    curl -s "http://127.0.0.1:$listen/status" >"$work/status.json"
    # The last records leave the rings, and traces settle.
    sleep 1
    kill -TERM "$agent_pid"
    wait "$agent_pid" || { echo "WRONG: the agent ended with $?:"; cat "$work/agent.log"; exit 1; }
}

send_requests() {
    i=0
    while [ "$i" -lt "$requests" ]; do
        curl -s -f -o /dev/null "http://127.0.0.1:$web/vm/$i" || { echo "WRONG: request $i"; exit 1; }
        i=$((i + 1))
    done
}

examine
start_nginx
for way in "$@"; do
    hooks=${way%/*} rings=1
    [ "$hooks" = "$way" ] || rings=${way#*/}
    rm -f "$work/out.json"
    : >"$work/access.log"
    start_agent "$hooks" "$rings"
    began=$(date +%s)
    send_requests
    stop_agent
    seconds=$(($(date +%s) - began))
    if ! /usr/bin/python3 "$here/count.py" "$work" "$promise" "$hooks" "$rings" "$requests" "$seconds"; then
        echo "-- the agent's log"; tail -n 30 "$work/agent.log"
        exit 1
    fi
done
# A program in Go, where probes in user space are to be shown too.
if [ "${KERNSPAN_VM_GOTLS:-none}" != none ]; then
    . "$here/uprobes.sh"
fi
kill -TERM "$(cat "$work/nginx.pid")"
