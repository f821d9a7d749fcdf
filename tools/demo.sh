#!/usr/bin/env bash
# From a fresh clone to signed summaries, receipts and a verified audit log, on real input. Ends with the server still up.
#
#   tools/demo.sh              everything below ./flk-demo, port 8080
#   FLK_DEMO_PORT=9090 FLK_DEMO_DIR=/tmp/x tools/demo.sh
#   FLK_DEMO_EXIT=1            stop the server at the end instead of waiting for Ctrl-C
set -euo pipefail
cd "$(dirname "$0")/.."
port="${FLK_DEMO_PORT:-8080}"
dir="${FLK_DEMO_DIR:-flk-demo}"
url="http://127.0.0.1:$port"
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

say "1. build flkd, flk and worm"
cargo build --release --locked -p server -p tools
bin="$PWD/target/release"
