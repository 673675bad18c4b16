#!/bin/sh
# The scenario of `cargo xtask vm`, run inside a guest: guest.sh AGENT payload|processes
# 100 requests from curl to nginx; what the agent reports must agree with the access log.
set -eu
agent=$1
promise=$2
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
requests=100
web=18080
listen=18081

echo "kernel $(uname -r), promise: $promise"
mkdir "$work/www" && echo hello >"$work/www/index.html"
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

"$agent" doctor || { echo "doctor failed"; exit 1; }

"$agent" run --output "json:$work/out.json" --listen "127.0.0.1:$listen" >"$work/agent.log" 2>&1 &
agent_pid=$!
nginx -e "$work/error.log" -c "$work/nginx.conf" -p "$work"
tries=0
until curl -s -f -o /dev/null "http://127.0.0.1:$listen/readyz"; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ] || ! kill -0 "$agent_pid" 2>/dev/null; then
        echo "the agent is not ready:"; cat "$work/agent.log"; exit 1
    fi
    sleep 0.1
done

i=0
while [ "$i" -lt "$requests" ]; do
    curl -s -f -o /dev/null "http://127.0.0.1:$web/vm/$i" || { echo "request $i failed"; exit 1; }
    i=$((i + 1))
done
curl -s "http://127.0.0.1:$listen/status" >"$work/status.json"
# The last records leave the rings, and traces settle.
sleep 3
kill -TERM "$agent_pid"
wait "$agent_pid" || { echo "the agent ended with $?:"; cat "$work/agent.log"; exit 1; }
kill -TERM "$(cat "$work/nginx.pid")"

if ! /usr/bin/python3 "$here/count.py" "$work" "$promise" "$requests"; then
    echo "-- the agent's log"; tail -n 30 "$work/agent.log"
    echo "-- its status"; head -c 4000 "$work/status.json"; echo
    exit 1
fi
