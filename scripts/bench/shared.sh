#!/usr/bin/env bash
# What the shared cache adds to a call: each operation against a real redis-server, and 16 workers
# that look up and put while the server answers, stands still, is gone, and is back. Three rounds.
#
#   scripts/bench/shared.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# PROFILE=dev tries it out; only the release build's numbers mean anything.
profile=${PROFILE:-release}
cargo build --profile "$profile" --locked --quiet --example shared
echo "$(nproc) cores"
exec "${CARGO_TARGET_DIR:-target}/${profile/dev/debug}/examples/shared"
