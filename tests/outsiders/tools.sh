#!/usr/bin/env bash
# tools.sh go|promtool|python|anchors|trestle|witness|chromium|faketime|runc: makes sure that an outsider's tool is there and prints its path as the last line.
#
# Debian's packages are used where a tool is missing; the Python tools live in a virtual environment under target/
# with the versions of requirements.txt. Anything that cannot be had ends with a message that says what to install.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
    echo "tests/outsiders/tools.sh: $*" >&2
    exit 1
}

# debian COMMAND PACKAGE...: installs the packages unless the command is there.
debian() {
    local command=$1
    shift
    command -v "$command" >/dev/null && return
    command -v apt-get >/dev/null || fail "$command is missing and this is no Debian: install it and run again"
    [ "$(id -u)" = 0 ] || fail "$command is missing: as root, run: apt-get install -y $*"
    {
        apt-get update -qq || fail "apt-get update failed: is the package mirror reachable?"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" ||
            fail "apt-get install $* failed: is the package mirror reachable?"
    } >&2
    command -v "$command" >/dev/null || fail "$command is still missing after installing $*"
}

# environment NAME REQUIREMENTS: a virtual environment under target/ that holds exactly these versions.
environment() {
    debian python3 python3 python3-venv
    local venv=target/outsiders/$1 wanted=tests/outsiders/$2
    cmp -s "$wanted" "$venv/installed.txt" && return
    rm -rf "$venv"
    mkdir -p target/outsiders
    if ! python3 -m venv "$venv" >&2; then
        # A Python without ensurepip, as Debian ships it by default.
        [ "$(id -u)" = 0 ] || fail "python3 cannot make a virtual environment: as root, run: apt-get install -y python3-venv"
        { apt-get update -qq && apt-get install -y -qq python3-venv && python3 -m venv "$venv"; } >&2 ||
            fail "python3-venv could not be installed: is the package mirror reachable?"
    fi
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted" >&2 ||
        fail "pip could not install $wanted: is the Python package index reachable?"
    cp "$wanted" "$venv/installed.txt"
}

case "${1:-}" in
go)
    debian go golang-go ca-certificates
    command -v go
    ;;
promtool)
    debian promtool prometheus
    command -v promtool
    ;;
chromium)
    debian chromium chromium
    command -v chromium
    ;;
runc)
    debian runc runc
    command -v runc
    ;;
faketime)
    debian faketime faketime
    command -v faketime
    ;;
python)
    environment python requirements.txt
    echo "$PWD/target/outsiders/python/bin/python"
    ;;
anchors)
    environment anchors anchors.txt
    echo "$PWD/target/outsiders/anchors/bin/python"
    ;;
trestle)
    environment trestle trestle.txt
    echo "$PWD/target/outsiders/trestle/bin/trestle"
    ;;
witness)
    # A witness of others, which needs a newer Python than the other tools do. Exit status 3: this machine has none.
    find_python() {
        local name
        for name in python3.14 python3.13 python3.12 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python; do
            if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
                echo "$name"
                return
            fi
        done
        echo "tools.sh: no Python 3.12 or newer, which the witness needs: install one and run again" >&2
        exit 3
    }
    python=$(find_python)
    venv=target/outsiders/witness
    wanted=tests/outsiders/witness.txt
    if ! cmp -s "$wanted" "$venv/installed.txt"; then
        rm -rf "$venv"
        mkdir -p target/outsiders
        "$python" -m venv "$venv" >&2 || fail "$python cannot make a virtual environment"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted" >&2 ||
            fail "pip could not install $wanted: is the Python package index reachable?"
        cp "$wanted" "$venv/installed.txt"
    fi
    echo "$PWD/$venv/bin/aics-witness"
    ;;
*)
    fail "usage: tools.sh go|promtool|python|anchors|trestle|witness|chromium|faketime|runc"
    ;;
esac
