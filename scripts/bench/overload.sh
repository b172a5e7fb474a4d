#!/usr/bin/env bash
# A coordinator with every worker busy and its queue full: how soon the next caller is told, and
# what others notice of it.
# shellcheck source=scripts/bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

start_simulator
start_victor 20 100 "  named:
    Slow: {max_concurrent: 10, queue_size: 100}"
slow="x-victor-coordinator: Slow"
measure() {
    "$load" latency --addr "$api" --path /health/live
    "$load" latency --addr "$api" --model simo/sim
}
echo "at rest"
measure
"$load" hold --addr "$api" --model simo/sim+latency-60000 --header "$slow" --streams 110 \
    --seconds 60 >"$run/hold.out" &
pids+=($!)
wait_for "$run/hold.out" '^held' >/dev/null
echo "with Slow full: ten run, a hundred wait"
"$load" latency --addr "$api" --model simo/sim --header "$slow"
measure
