#!/usr/bin/env bash
# Starts a region of three node processes on loopback and runs atoll bench
# against it: the figures of docs/bench. Usage: region.sh [DURATION [VALUE_SIZE]]
# The data directory is temporary; BASE_PORT (17400) is the first of 15 ports.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
duration=${1:-10s}
size=${2:-100}
base=${BASE_PORT:-17400}
keys=${KEYS:-100000}
clients=${CLIENTS:-256}
mixes=${MIXES:-"put get1 get2"}
bin=./bin/atoll
dir=$(mktemp -d)
pids=()
stop() {
  for p in "${pids[@]}"; do kill -INT "$p" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap stop EXIT

head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$dir/secret"
port() { echo $((base + ($1 - 1) * 5 + $2)); }
for i in 1 2 3; do
  cat >"$dir/$i.yaml" <<YAML
node: eu-$i
region: eu
data_dir: $dir/eu-$i
secret_file: $dir/secret
partitions: 256
listen: {client: "127.0.0.1:$(port $i 0)", peer: "127.0.0.1:$(port $i 1)", admin: "127.0.0.1:$(port $i 2)"}
log: {level: warn}
nats:
  listen: "127.0.0.1:$(port $i 3)"
  cluster:
    listen: "127.0.0.1:$(port $i 4)"
    routes: ["127.0.0.1:$(port 1 4)", "127.0.0.1:$(port 2 4)", "127.0.0.1:$(port 3 4)"]
regions:
  - name: eu
    id: 1
    nats: ["nats://127.0.0.1:$(port 1 3)", "nats://127.0.0.1:$(port 2 3)", "nats://127.0.0.1:$(port 3 3)"]
    members:
$(for j in 1 2 3; do echo "      - {id: eu-$j, rack: r$j, client: \"127.0.0.1:$(port $j 0)\", peer: \"127.0.0.1:$(port $j 1)\"}"; done)
YAML
  $bin start --config "$dir/$i.yaml" >"$dir/$i.log" 2>&1 &
  pids+=($!)
done
endpoints="127.0.0.1:$(port 1 0),127.0.0.1:$(port 2 0),127.0.0.1:$(port 3 0)"
export ATOLL_ENDPOINTS=$endpoints
for _ in $(seq 150); do
  if $bin put ready yes --consistency local-all >/dev/null 2>&1; then break; fi
  sleep 0.2
done
echo "region up; $(nproc) cores, $(date -u +%F), $(git rev-parse --short HEAD 2>/dev/null || echo '?')"
if [ -n "${PPROF:-}" ]; then echo "admin: http://127.0.0.1:$(port 1 2)/debug/pprof/"; fi
$bin bench --mix get --preload --ops 1 --keys "$keys" --value-size "$size" --clients "$clients" >/dev/null
for m in $mixes; do
  case $m in
    put) args=(--mix put --w 2) ;;
    get1) args=(--mix get --r 1) ;;
    get2) args=(--mix get --r 2) ;;
    *) args=(--mix "$m") ;;
  esac
  echo "== $m: atoll bench ${args[*]} --clients $clients --keys $keys --value-size $size --duration $duration"
  if [ -n "${PPROF:-}" ]; then
    (sleep 2; curl -s -o "${PPROF}.$m" "http://127.0.0.1:$(port 1 2)/debug/pprof/profile?seconds=5") &
  fi
  $bin bench "${args[@]}" --clients "$clients" --keys "$keys" --value-size "$size" --duration "$duration"
done
