#!/usr/bin/env bash
# Everything that must hold before a change lands, in the order in which it fails fastest.
# Installs what it needs beyond a Rust toolchain (Debian's packages, PyPI, Go modules by their ordinary clients).
#
#   tests/run.sh            all of it (what .ci/run calls)
#   tests/run.sh fast       format, clippy, unit tests, a short simulation
set -euo pipefail
cd "$(dirname "$0")/.."
mode="${1:-all}"
started=$SECONDS
passed=0
failed=0
skipped=0
declare -a summary

step() { # step NAME COMMAND...
  local name="$1" begin=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if "$@"; then
    passed=$((passed + 1)); summary+=("ok      $((SECONDS - begin))s  $name")
  else
    failed=$((failed + 1)); summary+=("FAILED  $((SECONDS - begin))s  $name")
  fi
}

finish() {
  printf '\n== summary after %ss\n' "$((SECONDS - started))"
  printf '%s\n' "${summary[@]}"
  printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" -eq 0 ]
}

step "format" cargo fmt --all --check
step "clippy" cargo clippy --workspace --all-targets --release --locked -- -D warnings
step "build" cargo build --workspace --release --locked
# The integration binary drives the real processes built just above.
step "unit, property and integration tests" cargo test --workspace --release --locked
fresh=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
step "simulator, fixed seeds" target/release/sim --seed 1 --count 40
step "simulator, fresh seed $fresh" target/release/sim --seed "$fresh" --count 10
step "simulator, mutants" target/release/sim --mutants
if [ "$mode" = all ]; then
  step "outsiders' tools" tests/outsiders/run.sh
fi
finish
