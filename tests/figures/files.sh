#!/usr/bin/env bash
# A large file between two real processes of the release build: rate, memory of both, SHA-256.
# Not run by CI, for it takes a minute and three times the file's size on disk:
#
#   cargo build --release --locked && tests/figures/files.sh [MIB] [none|stop|kill]
#
# none  nothing happens on the way
# stop  the receiver is stopped for 35 s at a third and at two thirds: both ends lose the link
#       (no pong for 30 s), make a new one, and go on
# kill  the receiver is killed there, and started again: it goes on from what is on its disk
#
# Everything is on loopback, below a folder of its own that is removed at the end.
set -euo pipefail

mib=${1:-1024} cut=${2:-none}
program=${IFSWARM:-$(dirname "$0")/../../target/release/ifswarm}
[ -x "$program" ] || { echo "no $program: cargo build --release --locked" >&2; exit 2; }
dir=$(mktemp -d "${TMPDIR:-/tmp}/ifswarm-files.XXXXXX")
pids=()
trap 'kill -KILL "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null; rm -rf "$dir"' EXIT

mkfifo "$dir/listening"
"$program" signal --open --listen 127.0.0.1:0 >"$dir/listening" 2>"$dir/signal.log" &
pids+=($!)
read -r _ _ url <"$dir/listening"
"$program" keygen --out "$dir/bob.pem" >/dev/null 2>&1

receive() {
  "$program" agent --id bob --key "$dir/bob.pem" --signal "$url" --swarm-name files --stay --witness "$dir/witness" \
    --accept-files "$dir/in" --accept-size 64GiB </dev/null >>"$dir/bob.jsonl" 2>>"$dir/bob.log" &
  bob=$!
  pids+=("$bob")
}
peak() { awk '/VmHWM/ { print int($2 / 1024) }' "/proc/$1/status" 2>/dev/null || true; }
arrived() { stat -c %s "$dir"/in/.ifswarm-*.part 2>/dev/null | sort -n | tail -1 || true; }

echo "making $mib MiB of random bytes" >&2
dd if=/dev/urandom of="$dir/large.bin" bs=1M count="$mib" status=none
receive
"$program" send --as ann --to bob --signal "$url" --swarm-name files --patience 30s --witness "$dir/witness" \
  --file "$dir/large.bin" --json >"$dir/send.json" 2>"$dir/send.log" &
ann=$!
pids+=("$ann")

size=$((mib << 20)) cuts=0 peak_ann=0 peak_bob=0
while kill -0 "$ann" 2>/dev/null; do
  n=$(peak "$ann"); peak_ann=$((${n:-0} > peak_ann ? n : peak_ann))
  n=$(peak "$bob"); peak_bob=$((${n:-0} > peak_bob ? n : peak_bob))
  have=$(arrived)
  if [ "$cut" != none ] && [ $cuts -lt 2 ] && [ "${have:-0}" -gt $((size * (cuts + 1) / 3)) ]; then
    cuts=$((cuts + 1))
    echo "cut $cuts at $have bytes" >&2
    case $cut in
      stop) kill -STOP "$bob"; sleep 35; kill -CONT "$bob" ;;
      kill) kill -KILL "$bob"; wait "$bob" 2>/dev/null || true; receive ;;
    esac
  fi
  sleep 0.05
done
wait "$ann" || { cat "$dir/send.log" >&2; exit 1; }

[ "$cut" = none ] || [ "$cuts" = 2 ] || { echo "only $cuts cuts: the file is too small" >&2; exit 1; }
sent=$(sha256sum <"$dir/large.bin") there=$(sha256sum <"$dir/in/large.bin")
[ "$sent" = "$there" ] || { echo "DIFFERENT" >&2; exit 1; }
ms=$(sed 's/.*"files":.*"elapsed_ms":\([0-9.]*\).*/\1/' "$dir/send.json")
echo "$mib MiB, cuts: $cuts ($cut), $(awk "BEGIN { printf \"%.1f s, %.1f MiB/s\", $ms / 1000, $mib / ($ms / 1000) }"), peak resident: sender $peak_ann MiB, receiver $peak_bob MiB, SHA-256 equal: ${sent%% *}"
echo "accepted from: $(grep -h file_accepted "$dir"/witness/files/bob/entries.jsonl | sed 's/.*"offset":\([0-9]*\).*/\1/' | tr '\n' ' ')"
"$program" verify "$dir"/witness/files/*/ >&2
