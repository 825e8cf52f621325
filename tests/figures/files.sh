#!/usr/bin/env bash
# A large file between two real processes of the release build: rate, memory of both, SHA-256.
# Not run by CI, for it takes minutes and three times the file's size on disk:
#
#   cargo build --release --locked && tests/figures/files.sh [MIB] [none|cut|kill]
#
# none  nothing happens on the way
# cut   at a third and at two thirds nothing that the two send arrives, for 45 s: both find the link
#       dead, make a new one, and go on. Each has a network namespace of its own, and a cable to the
#       other for the link beside the one for the signaling server. Needs root
# kill  the receiver is killed there, and started again: it goes on from what is on its disk
#
# Nothing leaves this machine; everything is in a folder of its own that is removed at the end.
set -euo pipefail

mib=${1:-1024} how=${2:-none}
program=$(realpath "${IFSWARM:-$(dirname "$0")/../../target/release/ifswarm}")
[ -x "$program" ] || { echo "no $program: cargo build --release --locked" >&2; exit 2; }
if [ "$how" = cut ] && [ -z "${IFSWARM_NAMESPACE:-}" ]; then
  IFSWARM_NAMESPACE=1 IFSWARM=$program exec unshare --net "$0" "$@"
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/ifswarm-files.XXXXXX")
pids=()
trap 'kill -KILL "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null; rm -rf "$dir"' EXIT

host=127.0.0.1 link_a=127.0.0.1 link_b=127.0.0.1 there=()
if [ "$how" = cut ]; then
  unshare --net sleep 3600 &
  pids+=($!)
  there=(nsenter --net --target "$!")
  host=10.1.0.1 link_a=10.2.0.1 link_b=10.2.0.2
  until [ "$(readlink "/proc/$!/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do :; done
  for n in 1 2; do
    ip link add "here$n" type veth peer name "there$n" netns "$!"
    ip addr add "10.$n.0.1/24" dev "here$n"
    "${there[@]}" ip addr add "10.$n.0.2/24" dev "there$n"
    ip link set "here$n" up
    "${there[@]}" ip link set "there$n" up
  done
  ip link set lo up
  "${there[@]}" ip link set lo up
fi

mkfifo "$dir/listening"
"$program" signal --open --listen "$host:0" >"$dir/listening" 2>"$dir/signal.log" &
pids+=($!)
read -r _ _ url <"$dir/listening"
"$program" keygen --out "$dir/bob.pem" >/dev/null 2>&1

receive() {
  "${there[@]}" "$program" agent --id bob --key "$dir/bob.pem" --signal "$url" --swarm-name files --stay \
    --address "$link_b" --witness "$dir/witness" --accept-files "$dir/in" --accept-size 64GiB \
    </dev/null >>"$dir/bob.jsonl" 2>>"$dir/bob.log" &
  bob=$!
  pids+=("$bob")
}
peak() { awk '/VmHWM/ { print int($2 / 1024) }' "/proc/$1/status" 2>/dev/null || true; }
arrived() { stat -c %s "$dir"/in/.ifswarm-*.part 2>/dev/null | sort -n | tail -1 || true; }
# Slower than anything can be: what is sent into the cable is dropped, and nobody is told.
cable() { tc qdisc "$1" dev here2 root ${2:-} && "${there[@]}" tc qdisc "$1" dev there2 root ${2:-}; }

echo "making $mib MiB of random bytes" >&2
dd if=/dev/urandom of="$dir/large.bin" bs=1M count="$mib" status=none
receive
"$program" send --as ann --to bob --signal "$url" --swarm-name files --patience 30s \
  --address "$link_a" --witness "$dir/witness" --file "$dir/large.bin" --json \
  >"$dir/send.json" 2>"$dir/send.log" &
ann=$!
pids+=("$ann")

size=$((mib << 20)) cuts=0 peak_ann=0 peak_bob=0
while kill -0 "$ann" 2>/dev/null; do
  n=$(peak "$ann"); peak_ann=$((${n:-0} > peak_ann ? n : peak_ann))
  n=$(peak "$bob"); peak_bob=$((${n:-0} > peak_bob ? n : peak_bob))
  have=$(arrived)
  if [ "$how" != none ] && [ $cuts -lt 2 ] && [ "${have:-0}" -gt $((size * (cuts + 1) / 3)) ]; then
    cuts=$((cuts + 1))
    echo "cut $cuts at $have bytes" >&2
    case $how in
      cut) cable add "tbf rate 8bit burst 1600 limit 1600"; sleep 45; cable del ;;
      kill) kill -KILL "$bob"; wait "$bob" 2>/dev/null || true; receive ;;
    esac
  fi
  sleep 0.05
done
wait "$ann" || { cat "$dir/send.log" >&2; exit 1; }

[ "$how" = none ] || [ "$cuts" = 2 ] || { echo "only $cuts cuts: the file is too small" >&2; exit 1; }
sent=$(sha256sum <"$dir/large.bin") came=$(sha256sum <"$dir/in/large.bin")
[ "$sent" = "$came" ] || { echo "DIFFERENT" >&2; exit 1; }
ms=$(sed 's/.*"files":.*"elapsed_ms":\([0-9.]*\).*/\1/' "$dir/send.json")
echo "$mib MiB, cuts: $cuts ($how), $(awk "BEGIN { printf \"%.1f s, %.1f MiB/s\", $ms / 1000, $mib / ($ms / 1000) }"), peak resident: sender $peak_ann MiB, receiver $peak_bob MiB, SHA-256 equal: ${sent%% *}"
echo "accepted from: $(grep -h file_accepted "$dir"/witness/files/bob/entries.jsonl | sed 's/.*"offset":\([0-9]*\).*/\1/' | tr '\n' ' ')"
"$program" verify "$dir"/witness/files/*/ >&2
