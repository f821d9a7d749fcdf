#!/usr/bin/env bash
# Measures every row and prints one table of ratios beside what each has to reach.
#
#   tests/bench/run.sh [P1 P5 ..] [--quick] [--long] [--runs N] [--seconds S] [--dir DIR] [--json FILE]
#
# Without ids all rows are measured (about half an hour; --quick: some minutes, smaller and noisier). --long adds the
# sizes that take hours and tens of GiB. The references are installed first: PostgreSQL, Redis and etcd as Debian
# packages (as root, or say yes to sudo), raft-engine, fjall and sqlite as crates. --dir has to be on a real disk: a
# file system without flushes is refused.
set -euo pipefail
cd "$(dirname "$0")/../.."

needs() { # PACKAGE PROGRAM-OR-DIRECTORY
    command -v "$2" >/dev/null 2>&1 || [ -e "$2" ] || missing+=("$1")
}
missing=()
needs postgresql /usr/lib/postgresql
needs redis-server redis-server
needs etcd-server etcd
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]} (references of P6 and P11)" >&2
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    if ! { "${root[@]}" apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >&2; then
        echo "cannot install ${missing[*]} with apt-get: the rows that need them will say so; install them by hand for" \
            "the rest" >&2
    fi
fi

cargo build --release --quiet -p server -p tools -p bench
cargo build --release --quiet --manifest-path tests/bench/peers/Cargo.toml

exec target/release/bench run "$@"
