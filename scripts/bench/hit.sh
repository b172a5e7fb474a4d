#!/usr/bin/env bash
# A hit end to end: `wrk` on answers from the cache, beside nginx `return 200` with a body of the
# same size, to the same requests, interleaved in one run.
#
#   scripts/bench/hit.sh [SECONDS] [ROUNDS]
#   CONNECTIONS="32 256" LOG_LEVEL=warn scripts/bench/hit.sh
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
seconds=${1:-3}
rounds=${2:-5}
connections=${CONNECTIONS:-"32"}
need wrk
need nginx

start_simulator
export CACHE='{enabled: true, default_ttl: 86400}'
start_victor 10 100

question='{"model":"simo/sim","messages":[{"role":"user","content":"Hello there"}]}'
cat >"$run/ask.lua" <<LUA
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '$question'
LUA
ask() { curl -sS -o "$run/answer" -D "$run/head" -H 'content-type: application/json' -d "$question" "http://$api/v1/chat/completions"; }
ask
ask
grep -qi '^x-victor-cache: hit' "$run/head" || {
    echo "the second call was no hit:" >&2
    cat "$run/head" >&2
    exit 1
}
size=$(wc -c <"$run/answer")

body=$(head -c "$size" </dev/zero | tr '\0' x)
start_nginx '' "location / { default_type application/json; return 200 '$body'; }"
for _ in $(seq 1 100); do curl -sS -o /dev/null "http://127.0.0.1:$nginx_port/" && break; sleep 0.05; done 2>/dev/null

one() { # one URL CONNECTIONS: requests a second; anything but 2xx ends the run.
    local out
    out=$(wrk -t2 -c"$2" -d"${seconds}s" -s "$run/ask.lua" "$1/v1/chat/completions")
    if grep -q 'Non-2xx\|Socket errors' <<<"$out"; then
        echo "$out" >&2
        exit 1
    fi
    awk '/^Requests\/sec:/ { print $2 }' <<<"$out"
}

echo "a body of $size bytes, $rounds rounds of $seconds s, log level ${LOG_LEVEL:-info}"
for many in $connections; do
    one "http://$api" "$many" >/dev/null
    for _ in $(seq "$rounds"); do
        echo "$(one "http://$api" "$many") $(one "http://127.0.0.1:$nginx_port" "$many")"
    done | awk '{ print $1 / $2, $1, $2 }' | sort -g | awk -v many="$many" '
        { ratio[NR] = $1; ours[NR] = $2; theirs[NR] = $3 }
        END {
            middle = int((NR + 1) / 2)
            printf "%d connections: victor %.0f/s, nginx %.0f/s, ratio %.3f (%.3f to %.3f)\n", many,
                ours[middle], theirs[middle], ratio[middle], ratio[1], ratio[NR]
        }'
done
