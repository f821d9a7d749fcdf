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

# Real nodes under all faults: three, or two regions of three. 2 means that this machine cannot run it, which is said and counts as not run.
nemeses() { # nemeses SECONDS SEED REGIONS
  local code=0
  target/release/jepsen run --seconds "$1" --seed "$2" --regions "$3" || code=$?
  [ "$code" -ne 2 ] || echo "SKIPPED real nodes under all faults, regions $3 (counts as not run): it says above what is missing" >>target/skipped.txt
  [ "$code" -eq 0 ] || [ "$code" -eq 2 ]
}

finish() {
  printf '\n== summary after %ss\n' "$((SECONDS - started))"
  printf '%s\n' "${summary[@]}"
  printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" -eq 0 ]
}

rm -f target/skipped.txt

# What the tests beyond Rust need; each says itself what to do when it cannot be had.
if [ "$mode" = all ]; then
  step "outsiders: Go" tests/outsiders/tools.sh go
  step "outsiders: promtool" tests/outsiders/tools.sh promtool
  step "outsiders: Python" tests/outsiders/tools.sh python
  step "outsiders: judges of anchors" tests/outsiders/tools.sh anchors
  step "outsiders: trestle" tests/outsiders/tools.sh trestle
  step "outsiders: Chromium" tests/outsiders/tools.sh chromium
  step "outsiders: libfaketime" tests/outsiders/tools.sh faketime
  step "outsiders: runc" tests/outsiders/tools.sh runc
fi

step "format" cargo fmt --all --check
step "clippy" cargo clippy --workspace --all-targets --release --locked -- -D warnings
step "build" cargo build --release --locked
if [ "$mode" = all ]; then
  step "unit, property, crash, process and outsiders' tests" cargo test --release --locked --no-fail-fast
else
  step "unit and property tests" cargo test --release --locked --no-fail-fast --lib
fi
step "simulator, fixed seeds" target/release/sim --seed 1 --runs 100
fresh=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
step "simulator, fresh seed $fresh" target/release/sim --seed "$fresh" --runs 20
step "simulator, planted bugs" target/release/sim --mutants 200
step "simulator, groups of three, fixed seeds" target/release/sim --nodes 3 --seed 1 --runs 30 --steps 500
step "simulator, groups of three whose logs rot, fixed seeds" target/release/sim --nodes 3 --rot 1 --seed 31 --runs 10 --steps 500
step "simulator, groups of five, fixed seeds" target/release/sim --nodes 5 --seed 1 --runs 5 --steps 500
step "simulator, groups, fresh seed $fresh" target/release/sim --nodes 3 --seed "$fresh" --runs 10 --steps 500
step "simulator, planted bugs of groups" target/release/sim --nodes 3 --mutants 100
step "simulator, two regions, fixed seeds" target/release/sim --regions 2 --nodes 3 --seed 1 --runs 20 --steps 200
step "simulator, regions, fresh seed $fresh" target/release/sim --regions 2 --nodes 1 --seed "$fresh" --runs 10 --steps 200
step "simulator, three regions, fresh seed $fresh" target/release/sim --regions 3 --nodes 1 --seed "$fresh" --runs 4 --steps 200
step "simulator, planted bugs of regions" target/release/sim --regions 2 --nodes 3 --mutants 60 --steps 200
if [ "$mode" = all ]; then
  step "the demo, from start to equal replay" env DEMO_EXIT=1 DEMO_PORT=18431 DEMO_DIR="$(mktemp -d)" DEMO_BIN_DIR="$PWD/target/release" tools/demo.sh
fi
if [ "$mode" = all ]; then
  step "three nodes under all faults, 60 s, seed $fresh" nemeses 60 "$fresh" 1
  step "two regions of three nodes under all faults, 45 s, seed $fresh" nemeses 45 "$fresh" 2
fi
if [ -f target/skipped.txt ]; then
  skipped=$(wc -l <target/skipped.txt)
  cat target/skipped.txt
fi
finish
