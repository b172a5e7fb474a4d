#!/usr/bin/env bash
# The cache beside moka, quick_cache and lru: hit rates on a Zipf trace, operations a second on 1, 2
# and 8 threads, also with answers that are made and freed, what a key costs, and the memory behind
# the bytes that are counted. Medians with their quartiles; the contenders take turns, a few
# hundredths of a second each.
#
#   scripts/bench/cache.sh [memory | keys | calls [CONTENDER,... [THREADS]]]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# PROFILE=dev tries it out; only the release build's numbers mean anything.
profile=${PROFILE:-release}
cargo build --profile "$profile" --locked --quiet --example cache
echo "$(nproc) cores"
exec "${CARGO_TARGET_DIR:-target}/${profile/dev/debug}/examples/cache" "$@"
