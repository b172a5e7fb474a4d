#!/usr/bin/env bash
# What an idle daemon costs: time from exec to ready, resident memory, system calls a second.
#
#   STARTS=20 SECONDS_EACH=20 scripts/bench/idle.sh
# shellcheck source=scripts/bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need strace

start_simulator
python3 - "$victor" "$run" "$simulator_addr" "${STARTS:-20}" <<'PY'
import subprocess, sys, time

victor, run, simulator, starts = *sys.argv[1:4], int(sys.argv[4])
config = f"""server: {{listen: 127.0.0.1:0}}
ops: {{listen: 127.0.0.1:0}}
admin: {{socket: {run}/a.sock}}
state_dir: {run}/state
providers: {{simo: {{kind: openai, base_url: "http://{simulator}/v1", api_key: none}}}}
logging: {{file: {run}/a.log}}
"""
open(f"{run}/ready.yml", "w").write(config)
times = []
for _ in range(starts):
    begun = time.monotonic()
    child = subprocess.Popen([victor, "serve", "--config", f"{run}/ready.yml"], stdout=subprocess.PIPE)
    assert child.stdout.readline().startswith(b"victor ready")
    times.append((time.monotonic() - begun) * 1e3)
    child.terminate()
    assert child.wait() == 0
times.sort()
print(f"ready after exec: n={starts} p50_ms={times[len(times) // 2]:.1f} max_ms={times[-1]:.1f}")
PY
start_victor 10 100
"$load" latency --addr "$api" --model simo/sim --calls 100
sleep 3
echo "resident: victor $(rss_mib "$victor_pid") MiB, $(awk '/^Threads:/ { print $2 }' "/proc/$victor_pid/status") threads"
seconds=${SECONDS_EACH:-20}
timeout -s INT "$seconds" strace -f -c -o "$run/strace" -p "$victor_pid" \
    2>"$run/strace.err" || true
grep -q attached "$run/strace.err" || { cat "$run/strace.err" >&2; exit 1; }
# Leaving out what strace's own arrival interrupts.
awk -v s="$seconds" '
    $1 ~ /^[0-9.]+$/ && $NF != "total" && $NF != "restart_syscall" { calls += $4 }
    END { printf "system calls: %d in %d s, %.2f a second\n", calls, s, calls / s }' "$run/strace"
cat "$run/strace"
