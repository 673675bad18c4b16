# Sourced by guest.sh: probes in user space under load, on a kernel that the core scenario leaves out.
#
# Three clients of Go's TLS and their server at once, as it once brought the newest kernel down within seconds
# (agent-ebpf/src/kernel/stack.rs): the kernel has to say nothing of it, and requests have to be spans, since programs
# that share a stack spoil each other's work before they spoil the kernel's.

gotls_port=18082
gotls_requests=600

is_listening() { ss -Hltn "sport = :$1" | grep -q .; }

ask_over_tls() {
    clients=
    for name in one two three; do
        "$KERNSPAN_VM_GOTLS" --url "https://127.0.0.1:$gotls_port/vm/$name" --requests "$gotls_requests" \
            --concurrency 24 --wait 300ms >"$work/gotls-$name.log" 2>&1 &
        clients="$clients $!"
    done
    for client in $clients; do
        wait "$client" || { echo "WRONG: a client of Go's TLS failed:"; cat "$work"/gotls-*.log; dmesg | tail; exit 1; }
    done
}

# Stalls are the emulation's, and no fault. Nothing found is no failure of grep's.
faults() {
    dmesg | grep -E 'BUG: |Oops|general protection fault|stack guard page|UBSAN|KASAN' | grep -v lockup || true
}

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
    -keyout "$work/tls.key" -out "$work/tls.pem" 2>/dev/null
"$KERNSPAN_VM_GOTLS" --port "$gotls_port" --certificate "$work/tls.pem" --key "$work/tls.key" \
    >"$work/gotls.log" 2>&1 &
gotls_pid=$!
until is_listening "$gotls_port"; do
    kill -0 "$gotls_pid" 2>/dev/null || { echo "WRONG: Go's server ended:"; cat "$work/gotls.log"; exit 1; }
    sleep 0.1
done
rm -f "$work/out.json"
faults >"$work/faults"
start_agent auto 1
tries=0
until curl -s "http://127.0.0.1:$listen/status" | grep -q 'crypto/tls'; do
    tries=$((tries + 1))
    [ "$tries" -le 100 ] || { echo "WRONG: Go's TLS is not probed:"; cat "$work/agent.log"; exit 1; }
    sleep 0.1
done
began=$(date +%s)
ask_over_tls
stop_agent
kill -TERM "$gotls_pid"
if ! faults | diff "$work/faults" - >"$work/faults.new"; then
    echo "WRONG: the kernel complains:"; cat "$work/faults.new"; dmesg | tail -n 60
    exit 1
fi
/usr/bin/python3 "$here/count_tls.py" "$work" "$gotls_requests" $(($(date +%s) - began)) || {
    echo "-- the agent's log"; tail -n 30 "$work/agent.log"
    exit 1
}
