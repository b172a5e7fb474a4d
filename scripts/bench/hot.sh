#!/usr/bin/env bash
# The hot path: wrk on chat completions through victor, and through nginx proxy_pass, with the
# same simulator behind, in interleaved rounds. Prints requests a second and the ratio.
#
#   ROUNDS=5 SECONDS_EACH=5 scripts/bench/hot.sh
# shellcheck source=scripts/bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need wrk
need nginx

rounds=${ROUNDS:-5}
seconds=${SECONDS_EACH:-5}
start_simulator
start_victor 256 1024

start_nginx "upstream simulator { server $simulator_addr; keepalive 256; keepalive_requests 100000000; }" \
    'location / { proxy_pass http://simulator; proxy_http_version 1.1; proxy_set_header Connection ""; }'

lua() { # lua MODEL
    cat <<LUA
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"model":"$1","messages":[{"role":"user","content":"Hello there"}]}'
LUA
}
lua simo/sim >"$run/victor.lua"
lua sim >"$run/direct.lua"

# one TARGET CONNECTIONS: requests a second; anything but 2xx ends the run.
one() {
    local url script=$run/direct.lua threads=2 out
    case $1 in
        victor) url=http://$api script=$run/victor.lua ;;
        nginx) url=http://127.0.0.1:$nginx_port ;;
        simulator) url=http://$simulator_addr ;;
    esac
    [ "$2" -ge 2 ] || threads=1
    out=$(wrk -t "$threads" -c "$2" -d "${seconds}s" --latency -s "$script" "$url/v1/chat/completions")
    if grep -qE 'Non-2xx|Socket errors' <<<"$out"; then
        echo "$1 at $2 connections:" >&2
        echo "$out" >&2
        exit 1
    fi
    awk '/Requests\/sec/ { print $2 }' <<<"$out"
}

for target in simulator nginx victor; do one "$target" 32 >/dev/null; done # warm
echo "requests a second, $rounds rounds of ${seconds} s, $(nproc) cores; log level ${LOG_LEVEL:-info}"
for connections in 1 32 256; do
    : >"$run/rows"
    for round in $(seq 1 "$rounds"); do
        # In turns, and in the other order every second round, so that drift favours nobody.
        if [ $((round % 2)) -eq 1 ]; then
            v=$(one victor "$connections") n=$(one nginx "$connections")
        else
            n=$(one nginx "$connections") v=$(one victor "$connections")
        fi
        s=$(one simulator "$connections")
        echo "$v $n $s" >>"$run/rows"
    done
    awk -v c="$connections" '
        function sorted(a, n,   i, j, t) { for (i = 1; i < n; i++) for (j = i + 1; j <= n; j++) if (a[j] < a[i]) { t = a[i]; a[i] = a[j]; a[j] = t } }
        { v[NR] = $1; n[NR] = $2; s[NR] = $3; r[NR] = $1 / $2 }
        END { m = int((NR + 1) / 2); sorted(v, NR); sorted(n, NR); sorted(s, NR); sorted(r, NR)
              printf "%4d connections: victor %.0f (%.0f to %.0f)  nginx %.0f (%.0f to %.0f)  simulator alone %.0f  ratio %.3f (%.3f to %.3f)\n", c, v[m], v[1], v[NR], n[m], n[1], n[NR], s[m], r[m], r[1], r[NR] }' "$run/rows"
done
echo "resident after it: victor $(rss_mib "$victor_pid") MiB"
