#!/usr/bin/env bash
# tests/fuzz.sh TARGET SECONDS: libFuzzer on the stable toolchain.
#
# rustc can add LLVM's coverage counters without the nightly sanitizer flags, so no other toolchain is needed; a C++
# compiler is, for libFuzzer itself. Without arguments it lists the targets. New inputs stay in target/fuzz-corpus;
# one that breaks something is printed with its path: put it into tests/fuzz/corpus/TARGET and fix the defect.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -ne 2 ]; then
    echo "usage: tests/fuzz.sh TARGET SECONDS; targets:"
    sed -n 's/.*name: "\([a-z_]*\)".*/  \1/p' tests/src/fuzz/mod.rs
    exit 1
fi
target=$1
seconds=$2
host=$(rustc -vV | sed -n 's/^host: //p')

flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# --target keeps the flags away from build scripts and procedural macros.
RUSTFLAGS="$flags" CARGO_TARGET_DIR=target/fuzz cargo build --quiet --release --target "$host" --manifest-path tests/fuzz/Cargo.toml

corpus=target/fuzz-corpus/$target
mkdir -p "$corpus" "tests/fuzz/corpus/$target" target/fuzz-artifacts
FLK_FUZZ_TARGET=$target FLK_FUZZ_SEEDS=$corpus "target/fuzz/$host/release/flkfuzz" "$corpus" "tests/fuzz/corpus/$target" \
    -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=4096 -timeout=10 -artifact_prefix=target/fuzz-artifacts/
