#!/usr/bin/env bash
# What the daemon adds to the provider's own time to the first byte, at the median.
#
#   CALLS=2000 scripts/bench/first-byte.sh
# shellcheck source=scripts/bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

calls=${CALLS:-2000}
start_simulator
start_victor 10 100
for model in sim sim+pace-5x5; do
    echo "openai, $model"
    "$load" first-byte --addr "$api" --model "simo/$model" --stream \
        --direct "$simulator_addr" --direct-model "$model" --calls "$calls"
    echo "anthropic, $model"
    "$load" first-byte --addr "$api" --path /v1/messages --model "sima/$model" --stream \
        --direct "$simulator_addr" --direct-model "$model" --calls "$calls"
done
