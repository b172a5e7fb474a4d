#!/usr/bin/env bash
# The whole suite: the tools it needs, format, lints, tests, documentation, scripts, links.
#
#   scripts/test.sh                # installs what is missing on Debian (as root or through sudo)
#   NO_INSTALL=1 scripts/test.sh   # installs nothing; says what is skipped for it
#
# With CI=true, whatever cannot be run is a failure. Ends with one line: N passed, N failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cache=${XDG_CACHE_HOME:+$XDG_CACHE_HOME/victor}
cache=${cache:-$PWD/.cache}
skipped=()
failed=()

say() { printf '\n== %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

skip() {
    echo "SKIPPED $*"
    skipped+=("$*")
}

# step NAME COMMAND...: runs it, remembers a failure, goes on.
step() {
    local name=$1
    shift
    say "$name"
    "$@" || failed+=("$name")
}

# As root: apt never starts a service that it brings (prometheus would take port 9090, ours).
apt_install() {
    local as_root=() policy=/usr/sbin/policy-rc.d made=
    if [ "$(id -u)" -ne 0 ]; then
        have sudo && sudo -n true 2>/dev/null || return 1
        as_root=(sudo -n)
    fi
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        made=1
    fi
    local status=0
    "${as_root[@]}" apt-get update -qq || true
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null || status=$?
    [ -z "$made" ] || "${as_root[@]}" rm -f "$policy"
    return "$status"
}

install_tools() {
    local pair missing=() wanted=(
        prometheus:prometheus promtool:prometheus amtool:prometheus-alertmanager
        jq:jq curl:curl strace:strace prlimit:util-linux python3:python3 cc:build-essential
        shellcheck:shellcheck node:nodejs npm:npm redis-server:redis-server
    )
    for pair in "${wanted[@]}"; do
        have "${pair%%:*}" || missing+=("${pair#*:}")
    done
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    if [ ${#missing[@]} -gt 0 ] && [ -z "${NO_INSTALL:-}" ] && have apt-get; then
        say "installing ${missing[*]}"
        apt_install "${missing[@]}" || echo "could not install ${missing[*]}"
    fi
    for pair in "${wanted[@]}"; do
        have "${pair%%:*}" || skip "what needs ${pair%%:*}: it is not here and could not be installed"
    done
}

# make_venv PINS NAME: the packages of tests/sdk/PINS live in a virtual environment of that name,
# which is made anew only when the pins change.
make_venv() {
    local pins=tests/sdk/$1 venv=$cache/$2
    if cmp -s "$pins" "$venv/pins" || [ -n "${NO_INSTALL:-}" ]; then
        return
    fi
    say "Python environment of $pins"
    rm -rf "$venv"
    mkdir -p "$cache"
    if python3 -m venv "$venv" \
        && "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$pins"; then
        cp "$pins" "$venv/pins"
    else
        skip "the tests with $pins: their Python environment could not be made"
    fi
}

# Node looks for packages only in folders above the program: tests/sdk gets a link to the cache.
make_node_modules() {
    local pins=tests/sdk/package-lock.json node=$cache/node
    if ! cmp -s "$pins" "$node/pins" && [ -z "${NO_INSTALL:-}" ]; then
        say "Node packages of $pins"
        rm -rf "$node"
        mkdir -p "$node"
        cp tests/sdk/package.json "$pins" "$node"
        if npm --prefix "$node" ci --ignore-scripts --no-audit --no-fund --loglevel=error; then
            cp "$pins" "$node/pins"
        else
            skip "the tests with $pins: their packages could not be installed"
        fi
    fi
    if [ -d "$node/node_modules" ]; then
        ln -sfn "$node/node_modules" tests/sdk/node_modules
    fi
}

# Every relative link of the documents leads to a file that is there.
check_links() {
    local file target status=0
    while IFS= read -r file; do
        while IFS= read -r target; do
            target=${target%%#*}
            case $target in '' | *://* | mailto:*) continue ;; esac
            if [ ! -e "$(dirname "$file")/$target" ]; then
                echo "$file: dead link: $target"
                status=1
            fi
        done < <(grep -oE '\]\([^) ]+\)' "$file" | sed -E 's/^\]\(//; s/\)$//')
    done < <(git ls-files '*.md')
    return "$status"
}

check_scripts() {
    have shellcheck || return 0
    git ls-files 'scripts/*.sh' 'scripts/**/*.sh' '.ci/run' | sort -u | xargs -r shellcheck
}

# Private items included: readers of a program's documentation are the ones who change it.
check_docs() {
    RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --no-deps --document-private-items --quiet
}

# The tests, at most an hour; their own results are added up for the last line.
run_tests() {
    local log
    log=$(mktemp)
    local status=0
    timeout 3600 cargo test --locked 2>&1 | tee "$log" || status=1
    read -r passed tests_failed < <(awk '
        /^test result:/ { for (i = 1; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1) } }
        END { print p + 0, f + 0 }' "$log")
    local line
    while IFS= read -r line; do
        skipped+=("$line")
    done < <(sed -n 's/^SKIPPED //p' "$log")
    rm -f "$log"
    return "$status"
}

passed=0
tests_failed=0
install_tools
make_venv requirements.txt venv
make_venv requirements-ecosystem.txt venv-ecosystem
make_node_modules
export VICTOR_TEST_PYTHON=$cache/venv/bin/python
export VICTOR_TEST_ECOSYSTEM_PYTHON=$cache/venv-ecosystem/bin/python
step "format" cargo fmt --check
step "lints" cargo clippy --locked --all-targets --quiet -- -D warnings
step "tests" run_tests
step "documentation" check_docs
step "scripts" check_scripts
step "links" check_links

say "summary"
for line in "${skipped[@]}"; do echo "skipped: $line"; done
for line in "${failed[@]}"; do echo "failed: $line"; done
if [ "${CI:-}" = true ] && [ ${#skipped[@]} -gt 0 ]; then
    failed+=("skipped where CI=true allows none")
fi
# A step that failed without a failed test of its own (lints, format) counts as one failure.
count=${#failed[@]}
if [ "$tests_failed" -gt 0 ]; then
    count=$((count - 1 + tests_failed))
fi
echo "$passed passed, $count failed"
[ "$count" -eq 0 ]
