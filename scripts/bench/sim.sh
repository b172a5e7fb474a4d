#!/usr/bin/env bash
# The simulator alone: requests a second, and 4,000 paced streams at once.
#
#   SECONDS_EACH=10 scripts/bench/sim.sh
# shellcheck source=scripts/bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need wrk

start_simulator
cat >"$run/post.lua" <<'LUA'
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"model":"sim","messages":[{"role":"user","content":"Hello there"}]}'
LUA
for connections in 1 32 256; do
    wrk -t 2 -c "$((connections < 2 ? 2 : connections))" -d "${SECONDS_EACH:-10}s" \
        -s "$run/post.lua" "http://$simulator_addr/v1/chat/completions" \
        | awk -v c="$connections" '/Requests\/sec/ { r = $2 } /Non-2xx/ { bad = $0 } END { print c " connections: " r " requests a second " bad }'
done
"$load" streams --addr "$simulator_addr" --model "${MODEL:-sim+pace-200x50}" --stream \
    --streams "${STREAMS:-4000}" --pid "$simulator_pid"
