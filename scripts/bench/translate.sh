#!/usr/bin/env bash
# What translation costs: wrk on calls that pass through and on calls that are translated, with
# the same simulator behind, in interleaved rounds; then the memory that a body of 30 MB takes.
#
#   ROUNDS=5 SECONDS_EACH=5 scripts/bench/translate.sh
# shellcheck source=scripts/bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need wrk
need curl

rounds=${ROUNDS:-5}
seconds=${SECONDS_EACH:-5}
start_simulator
start_victor 64 1024

# lua MODEL BYTES: a call with a prompt of that size.
lua() {
    cat <<LUA
local prompt = string.rep("What a day it was. ", math.ceil($2 / 19))
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"model":"$1","max_tokens":64,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"' .. prompt .. '"}]}'
if string.find("$1", "pace") then
    wrk.body = '{"stream":true,' .. string.sub(wrk.body, 2)
end
if "$3" == "messages" then
    wrk.body = '{"model":"$1","max_tokens":64,"system":"Be brief.","messages":[{"role":"user","content":"' .. prompt .. '"}]}'
end
LUA
}

# one PATH MODEL BYTES: requests a second; anything but 2xx ends the run.
one() {
    local out
    lua "$2" "$3" "$1" >"$run/call.lua"
    out=$(wrk -t 2 -c 32 -d "${seconds}s" -s "$run/call.lua" "http://$api/v1/$1")
    if grep -qE 'Non-2xx|Socket errors' <<<"$out"; then
        echo "$1 $2:" >&2
        echo "$out" >&2
        exit 1
    fi
    awk '/Requests\/sec/ { print $2 }' <<<"$out"
}

# compare NAME PATH THROUGH TRANSLATED BYTES
compare() {
    local round through translated
    one "$2" "$4" "$5" >/dev/null # warm
    : >"$run/rows"
    for round in $(seq 1 "$rounds"); do
        if [ $((round % 2)) -eq 1 ]; then
            through=$(one "$2" "$3" "$5") translated=$(one "$2" "$4" "$5")
        else
            translated=$(one "$2" "$4" "$5") through=$(one "$2" "$3" "$5")
        fi
        echo "$through $translated" >>"$run/rows"
    done
    awk -v name="$1" '
        function sorted(a, n,   i, j, t) { for (i = 1; i < n; i++) for (j = i + 1; j <= n; j++) if (a[j] < a[i]) { t = a[i]; a[i] = a[j]; a[j] = t } }
        { p[NR] = $1; t[NR] = $2; r[NR] = $2 / $1 }
        END { m = int((NR + 1) / 2); sorted(p, NR); sorted(t, NR); sorted(r, NR)
              printf "%-44s passed through %.0f (%.0f to %.0f)  translated %.0f (%.0f to %.0f)  ratio %.3f (%.3f to %.3f)\n", name, p[m], p[1], p[NR], t[m], t[1], t[NR], r[m], r[1], r[NR] }' "$run/rows"
}

echo "requests a second at 32 connections, $rounds rounds of ${seconds} s, $(nproc) cores"
compare "chat, 100 B prompt" chat/completions simo/sim sima/sim 100
compare "chat, 16 KiB prompt" chat/completions simo/sim sima/sim 16384
compare "chat, 200 KiB prompt" chat/completions simo/sim sima/sim 204800
compare "chat stream of 64 tokens" chat/completions simo/sim+pace-0x64 sima/sim+pace-0x64 100
compare "messages, 100 B prompt" messages sima/sim simo/sim 100
compare "messages, 16 KiB prompt" messages sima/sim simo/sim 16384

# peak MODEL: the resident high-water mark of a fresh daemon that carries one body of 30 MB.
python3 - >"$run/body.json" <<'PY'
data = "iVBORw0KGgo" * (30 * 1024 * 1024 // 11)
print('{"model":"MODEL","messages":[{"role":"user","content":[{"type":"text","text":"What is this?"},'
      '{"type":"image_url","image_url":{"url":"data:image/png;base64,' + data + '"}}]}]}', end="")
PY
for model in simo/sim sima/sim; do
    kill "$victor_pid"
    wait "$victor_pid" 2>/dev/null || true
    start_victor 64 1024
    before=$(awk '/^VmHWM:/ { print $2 }' "/proc/$victor_pid/status")
    sed "s#MODEL#$model#" "$run/body.json" >"$run/call.json"
    status=$(curl -s -o /dev/null -w '%{http_code} in %{time_total} s' --data-binary @"$run/call.json" \
        -H 'content-type: application/json' -H 'expect:' "http://$api/v1/chat/completions")
    after=$(awk '/^VmHWM:/ { print $2 }' "/proc/$victor_pid/status")
    awk -v m="$model" -v s="$status" -v b="$before" -v a="$after" -v size="$(stat -c %s "$run/call.json")" 'BEGIN {
        printf "30 MB body to %s: %s, peak %.1f MiB over %.1f MiB at rest: %.2f bodies\n", m, s, a / 1024, b / 1024, (a - b) * 1024 / size }'
done
