#!/usr/bin/env bash
# Runs every check of this project, the tests last, so that the last lines are their summary.
#
#   bash tests/run.sh
#
# Needs Rust (with clippy and rustfmt) and a C compiler. What else the checks need is installed:
# Debian packages when root, Rust tools with cargo. Where that is not possible, it says what to do.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }
stop() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# --- what the tests need beyond Rust ---------------------------------------------------------

has_cryptography() { "$1" -c 'import cryptography.hazmat.primitives.asymmetric.ed25519' 2>/dev/null; }

# The first Python that has the package; several are on many machines.
find_python() {
    local python
    for python in ${IFSWARM_PYTHON:+"$IFSWARM_PYTHON"} /usr/bin/python3 python3; do
        if has_cryptography "$python"; then
            command -v "$python"
            return
        fi
    done
    return 1
}

# Installs Debian packages where that is possible: what for, and which.
debian() {
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "installing ${*:2} ($1)"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q
        apt-get install -q -y --no-install-recommends "${@:2}"
    fi
}

if ! command -v make >/dev/null; then
    debian 'for the memory allocator' make
    command -v make >/dev/null || stop "make is missing: as root, 'apt-get install make'"
fi

if ! IFSWARM_PYTHON=$(find_python); then
    packages=(python3 python3-cryptography)
    debian 'for the independent check in tests/interop' "${packages[@]}"
    unset IFSWARM_PYTHON
    IFSWARM_PYTHON=$(find_python) || stop "a Python 3 with the package cryptography is missing: \
as root, 'apt-get install ${packages[*]}'; or name one that has it, 'IFSWARM_PYTHON=/path/to/python3 bash tests/run.sh'"
fi
export IFSWARM_PYTHON

has_network_tools() {
    local tool
    for tool in ip nft turnserver turnutils_natdiscovery; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || return 1
    done
}

if ! has_network_tools; then
    packages=(iproute2 nftables coturn)
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        # coturn would be started as a service, and again with the machine; here it is a tool.
        policy=/usr/sbin/policy-rc.d
        [ -e "$policy" ] || {
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod +x "$policy"
            trap 'rm -f "$policy"' EXIT
        }
        debian 'for address translation in tests/it/nat' "${packages[@]}"
        [ ! -d /run/systemd/system ] || systemctl --quiet disable coturn
    fi
    has_network_tools ||
        stop "for address translation in tests/it/nat, as root: 'apt-get install ${packages[*]}'"
fi

for component in clippy fmt; do
    cargo "$component" --version >/dev/null 2>&1 ||
        stop "cargo $component is missing: rustup component add clippy rustfmt"
done

missing=()
cargo nextest --version >/dev/null 2>&1 || missing+=(cargo-nextest)
cargo deny --version >/dev/null 2>&1 || missing+=(cargo-deny)
for tool in "${missing[@]}"; do
    say "installing $tool from source, once; this takes minutes"
    # Unoptimised is built in half the time, and fast enough. One folder for both: they share much.
    CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --locked --debug --target-dir target/tools "$tool" ||
        printf 'warning: %s could not be installed\n' "$tool" >&2
done

# --- the checks ------------------------------------------------------------------------------

say 'format'
cargo fmt --check

say 'lints'
cargo clippy --quiet --locked --all-targets -- -D warnings

say 'documentation'
RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --no-deps

say 'licences, sources, duplicates'
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --locked check --hide-inclusion-graph licenses bans sources
    if cargo deny --locked fetch db >/dev/null 2>&1; then
        cargo deny --locked check --hide-inclusion-graph --disable-fetch advisories
    else
        echo 'NOT CHECKED: known vulnerabilities; the RustSec database cannot be fetched from here'
    fi
else
    echo 'NOT CHECKED: cargo-deny is missing; cargo install --locked cargo-deny'
fi

say 'examples in the documentation'
cargo test --quiet --locked --doc

say 'tests'
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked
else
    echo 'cargo-nextest is missing, so cargo test takes its place'
    cargo test --locked --lib --bins --tests
fi
