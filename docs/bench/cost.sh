#!/usr/bin/env bash
# Measures the processor time and memory that nodes take for an operation and
# for each other: what hashring/capacity calculates with. First one region of 3,
# 12 and 24 idle node processes on loopback, then two regions of 3, of which
# atoll bench loads the first; /proc tells what they took, whatever the speed.
# Usage: cost.sh [DURATION]. The data directory is temporary; BASE_PORT (18000)
# is the first of 120 ports. Needs some 14 GiB of memory.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
duration=${1:-8s}
base=${BASE_PORT:-18000}
keys=${KEYS:-50000}
clients=${CLIENTS:-64}
bin=${BIN:-./bin/atoll}
hertz=$(getconf CLK_TCK)
dir= pids=()
stop() {
  for p in "${pids[@]}"; do kill -INT "$p" 2>/dev/null || true; done
  wait 2>/dev/null || true
  pids=()
  rm -rf "$dir"
}
trap stop EXIT

# port REGION NODE WHICH: 0 clients, 1 peers, 2 admin, 3 nats, 4 nats cluster
port() { echo "$((base + ($1 - 1) * 15 + ($2 - 1) * 5 + $3))"; }
addr() { echo "127.0.0.1:$(port "$@")"; }
regions() {
  for g in $(seq "$1"); do
    echo "  - name: r$g"
    echo "    id: $g"
    echo "    nats: [$(for j in $(seq "$3"); do echo -n "\"nats://$(addr "$g" "$j" 3)\","; done)]"
    echo "    members:"
    for j in $(seq "$2"); do
      echo "      - {id: r$g-$j, rack: k$((j % 3)), client: \"$(addr "$g" "$j" 0)\", peer: \"$(addr "$g" "$j" 1)\"}"
    done
  done
}
# begin REGIONS NODES SERVERS
begin() {
  dir=$(mktemp -d)
  head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$dir/secret"
  for g in $(seq "$1"); do
    for i in $(seq "$2"); do
      cat >"$dir/$g-$i.yaml" <<YAML
node: r$g-$i
region: r$g
data_dir: $dir/r$g-$i
secret_file: $dir/secret
partitions: 256
listen: {client: "$(addr "$g" "$i" 0)", peer: "$(addr "$g" "$i" 1)", admin: "$(addr "$g" "$i" 2)"}
log: {level: warn}
nats:
  listen: "$(if [ "$i" -le "$3" ]; then addr "$g" "$i" 3; fi)"
$(if [ "$3" -gt 1 ]; then
        echo "  cluster:"
        echo "    listen: \"$(addr "$g" "$i" 4)\""
        echo "    routes: [$(for j in $(seq "$3"); do echo -n "\"$(addr "$g" "$j" 4)\","; done)]"
      fi)
regions:
$(regions "$@")
YAML
      $bin start --config "$dir/$g-$i.yaml" >"$dir/$g-$i.log" 2>&1 &
      pids+=($!)
    done
  done
  sleep 10 # elections of the NATS servers
}
# micros PID...: processor time so far
micros() {
  local n=0 p
  for p in "$@"; do n=$((n + $(awk '{print $14 + $15}' "/proc/$p/stat"))); done
  echo $((n * 1000000 / hertz))
}
memory() { for p in "$@"; do awk '/^RssAnon/ {print $2}' "/proc/$p/status"; done; }

echo "$(nproc) cores, $(date -u +%F), $($bin version | head -1)"
for nodes in 3 12 24; do
  begin 1 "$nodes" 1
  others=("${pids[@]:1}") # but for the one with the NATS server
  a=$(micros "${others[@]}")
  sleep 15
  b=$(micros "${others[@]}")
  memory "${others[@]}" | awk -v n="$nodes" -v us=$(((b - a) / 15 / (nodes - 1))) \
    '{kib += $1} END {printf "idle, %d nodes: %d us a second and node, %d KiB of anonymous memory\n", n, us, kib / NR}'
  stop
done

begin 2 3 3
ATOLL_ENDPOINTS="$(addr 1 1 0),$(addr 1 2 0),$(addr 1 3 0)"
export ATOLL_ENDPOINTS
first=("${pids[@]:0:3}") second=("${pids[@]:3:3}")
for _ in $(seq 150); do
  if $bin put ready yes --consistency local-all >/dev/null 2>&1; then break; fi
  sleep 0.2
done
a=$(micros "${pids[@]}")
sleep 5
idle=$((($(micros "${pids[@]}") - a) / 10))
echo "idle, two regions of 3 nodes and NATS servers: $((idle / 3)) us a second and node"
# settle waits until the second region has all that the first one wrote: until
# it takes little more than when idle.
settle() {
  local a
  for _ in $(seq 60); do
    a=$(micros "${second[@]}")
    sleep 1
    if [ $(($(micros "${second[@]}") - a)) -lt $((idle * 2 + 30000)) ]; then return; fi
  done
}
for size in 100 1000 10000; do
  n=$((size > 5000 ? keys / 5 : keys))
  $bin bench --mix put --ops "$n" --keys "$n" --value-size "$size" --clients "$clients" --interval 0 >/dev/null
  settle
  for mix in put get; do
    case $mix in put) args=(--mix put --w 2) ;; get) args=(--mix c --r 2) ;; esac
    a=$(micros "${first[@]}") b=$(micros "${second[@]}") t=$(date +%s%N)
    ok=$($bin bench "${args[@]}" --keys "$n" --value-size "$size" --clients "$clients" --duration "$duration" --interval 0 -o json |
      sed -E 's/.*"ok":([0-9]+),.*"rate":.*/\1/')
    settle
    ms=$((($(date +%s%N) - t) / 1000000))
    awk -v mix=$mix -v size="$size" -v n="$ok" \
      -v near=$(($(micros "${first[@]}") - a - idle * ms / 1000)) -v far=$(($(micros "${second[@]}") - b - idle * ms / 1000)) \
      'BEGIN {printf "%s %d B: %d operations, %.0f us each in their region, %.0f us in the other\n", mix, size, n, near / n, far / n}'
  done
done
memory "${pids[@]}" | awk '{m = $1 / 1024; lo = NR == 1 || m < lo ? m : lo; hi = m > hi ? m : hi}
  END {printf "anonymous memory of a node after that: %d..%d MiB\n", lo, hi}'
