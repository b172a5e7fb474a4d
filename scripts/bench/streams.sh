#!/usr/bin/env bash
# Many paced streams at once through one coordinator: none lost, and the resident memory.
#
#   STREAMS=2000 MODEL=sim+pace-200x50 scripts/bench/streams.sh
# shellcheck source=scripts/bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

streams=${STREAMS:-2000}
model=${MODEL:-sim+pace-200x50}
start_simulator
start_victor "$streams" 100
echo "resident before: victor $(rss_mib "$victor_pid") MiB"
"$load" streams --addr "$api" --model "simo/$model" --stream --streams "$streams" --pid "$victor_pid"
"$load" streams --addr "$api" --path /v1/messages --model "sima/$model" --stream \
    --streams "$streams" --pid "$victor_pid"
sleep 3
echo "resident after: victor $(rss_mib "$victor_pid") MiB"
