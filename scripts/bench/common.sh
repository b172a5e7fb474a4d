# shellcheck shell=bash
# What every benchmark shares: the release build, a folder for this run, and processes that end
# with it. Everything listens on loopback, on ports that the system chooses.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

run=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$run"
}
trap finish EXIT

ulimit -n "$(ulimit -Hn)"
# PROFILE=dev tries the scripts out; only the release build's numbers mean anything.
profile=${PROFILE:-release}
target=${CARGO_TARGET_DIR:-target}/${profile/dev/debug}
cargo build --profile "$profile" --locked --quiet --bin victor --example load
victor=$target/victor
export load=$target/examples/load

need() {
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || {
        echo "$0 needs $1, which is not installed" >&2
        exit 1
    }
}

# wait_for FILE PATTERN: prints the first line that matches, within 10 s.
wait_for() {
    local _
    for _ in $(seq 1 1000); do
        grep -m1 "$2" "$1" 2>/dev/null && return
        sleep 0.01
    done
    echo "no '$2' in $1" >&2
    cat "$1" >&2
    return 1
}

# start_simulator: sets $simulator_addr and $simulator_pid.
start_simulator() {
    "$victor" simulate --listen 127.0.0.1:0 >"$run/simulator.out" 2>&1 &
    simulator_pid=$!
    pids+=("$simulator_pid")
    simulator_addr=$(wait_for "$run/simulator.out" '^victor simulate ready' | sed 's/.*listen=//')
}

# start_victor MAX_CONCURRENT QUEUE_SIZE [MORE YAML]: in front of the simulator; sets $api, $ops
# and $victor_pid.
start_victor() {
    cat >"$run/victor.yml" <<YAML
server: {listen: 127.0.0.1:0}
ops: {listen: 127.0.0.1:0}
admin: {socket: $run/admin.sock}
state_dir: $run/state
providers:
  simo: {kind: openai, base_url: "http://$simulator_addr/v1", api_key: none, models: [sim], max_connections: $1}
  sima: {kind: anthropic, base_url: "http://$simulator_addr", api_key: none, max_connections: $1}
cache: ${CACHE:-{enabled: false\}}
coordinators:
  max_concurrent: $1
  queue_size: $2
${3:-}
logging: {level: ${LOG_LEVEL:-info}, file: $run/victor.log}
YAML
    "$victor" serve --config "$run/victor.yml" >"$run/victor.out" 2>&1 &
    victor_pid=$!
    pids+=("$victor_pid")
    local line
    line=$(wait_for "$run/victor.out" '^victor ready')
    api=$(sed -E 's/.*api=([^ ]+).*/\1/' <<<"$line")
    ops=$(sed -E 's/.*ops=([^ ]+).*/\1/' <<<"$line")
    export api ops victor_pid
}

# start_nginx HTTP SERVER: with these lines more in its blocks; sets $nginx_port.
start_nginx() {
    # It needs a port in its file: take one that is free now.
    nginx_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    export nginx_port
    cat >"$run/nginx.conf" <<CONF
daemon off;
pid $run/nginx.pid;
error_log $run/nginx.err;
worker_processes auto;
worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path $run/body;
    proxy_temp_path $run/proxy;
    fastcgi_temp_path $run/fastcgi;
    uwsgi_temp_path $run/uwsgi;
    scgi_temp_path $run/scgi;
    keepalive_requests 100000000;
    $1
    server {
        listen 127.0.0.1:$nginx_port;
        $2
    }
}
CONF
    "$(command -v nginx || echo /usr/sbin/nginx)" -e "$run/nginx.err" -c "$run/nginx.conf" &
    pids+=($!)
}

rss_mib() { awk '/^VmRSS:/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"; }
