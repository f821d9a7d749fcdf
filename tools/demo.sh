#!/usr/bin/env bash
# From a fresh clone to signed summaries, receipts and a verified audit log, on real input. Ends with the server still up.
#
#   tools/demo.sh              everything below ./flk-demo, port 8080
#   DEMO_PORT=9090 DEMO_DIR=/tmp/x tools/demo.sh
#   DEMO_EXIT=1            stop the server at the end instead of waiting for Ctrl-C
#   DEMO_BIN_DIR=DIR            take flkd, flk and worm from there instead of building them
set -euo pipefail
cd "$(dirname "$0")/.."
port="${DEMO_PORT:-8080}"
dir="${DEMO_DIR:-flk-demo}"
url="http://127.0.0.1:$port"
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
{ [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; } || say() { printf '\n%s\n' "$*"; }
# Shows a command as a reader would type it, then runs it.
run() {
    printf '$ %s\n' "$*"
    local program=$1
    shift
    "$bin/$program" "$@"
}

if [ -n "${DEMO_BIN_DIR:-}" ]; then
    bin="$DEMO_BIN_DIR"
else
    say "0. build flkd, flk and worm"
    cargo build --release --locked -p server -p tools
    bin="$PWD/target/release"
fi

say "1. start one node with keys of its own in $dir"
mkdir -p "$dir"
"$bin/flkd" dev --data.dir "$dir/node" --http.port "$port" >"$dir/flkd.log" 2>&1 &
flkd=$!
trap 'kill "$flkd" 2>/dev/null; wait "$flkd" 2>/dev/null || true' EXIT
for _ in $(seq 300); do
    curl -fsS "$url/readyz" >/dev/null 2>&1 && break
    kill -0 "$flkd" 2>/dev/null || { cat "$dir/flkd.log" >&2; exit 1; }
    sleep 0.1
done
curl -fsS "$url/readyz" >/dev/null || { cat "$dir/flkd.log" >&2; exit 1; }
cat "$dir/flkd.log"
key=(--hmac-key "$dir/node/keys/demo.hmac" --tenant demo --url "$url")

say "2. a year of earthquakes becomes signed summaries; each is durable before it is answered"
run flk agent tools/data/earthquakes-2011.csv --columns latitude,longitude,depth,mag "${key[@]}" --outbox "$dir/outbox.jsonl"

say "3. the same again: the outbox knows that all of them were answered"
run flk agent tools/data/earthquakes-2011.csv --columns latitude,longitude,depth,mag "${key[@]}" --outbox "$dir/outbox.jsonl"

say "4. one of them once more by hand: the first answer comes back, and its receipt"
"$bin/flk" agent tools/data/earthquakes-2011.csv --columns latitude,longitude,depth,mag --limit 1 --dry-run \
    --hmac-key "$dir/node/keys/demo.hmac" >"$dir/summary.json"
run flk submit "$dir/summary.json" --tenant demo --url "$url" --receipts "$dir/receipts" --vkey "$dir/node/keys/log.vkey"
id="$(grep -o '"pcs_id":"[0-9a-f]*"' "$dir/summary.json" | cut -d'"' -f4)"

say "5. an auditor checks the log, offline and without any secret"
run worm verify "$dir/node"
run worm get "$dir/node" "$id"
run worm prove "$dir/node" "$id" --out "$dir/proof"
run worm check "$dir/proof/$id.tlog-proof" --vkey "$dir/node/keys/log.vkey"

say "6. one bit of a copy is changed, and found"
run worm demo tamper "$dir/node"

say "7. the node's state is computed again from the log, and equals the running node's"
run flk replay "$dir/node" --live "$url"

say "8. try it: the server is still up"
cat <<TRY
  curl -s $url/v1/pcs/$id -H 'X-Tenant-Id: demo'
  curl -s $url/v1/receipts/$id -H 'X-Tenant-Id: demo'
  curl -s $url/tlog/default/checkpoint
  curl -s $url/readyz?verbose
  $bin/flk bench --tenant demo --url $url --hmac-key $dir/node/keys/demo.hmac --html $dir/bench.html
TRY
if [ -n "${DEMO_EXIT:-}" ]; then
    exit 0
fi
echo "Ctrl-C stops it; $dir keeps everything"
trap - EXIT
wait "$flkd"
