#!/bin/bash
# Measures how gpustrap serve sends media, beside nginx with sendfile in the same run:
# the ISO and a machine's own image at 1, 8 and 64 clients, 1,000 clients that read
# ranges of machines' images at once (MACHINES in the environment, 1000), and seeds
# beside the same bytes as a file. Needs root (a network namespace of its own),
# nginx-light and wrk.
#
#   e2e/netboot/bench.sh [SIZE]    of the medium, such as 1G (default)
set -euo pipefail
cd "$(dirname "$0")/../.."

size=${1:-1G}
cache=${GPUSTRAP_CACHE:-build/cache}
[ "$(id -u)" = 0 ] || { echo "bench: needs root for a network namespace; skipped" >&2; exit 0; }
for tool in nginx wrk; do
	command -v $tool >/dev/null || { echo "bench: $tool is not installed; skipped" >&2; exit 0; }
done
go=${GO:-go}

work=$(mktemp -d /var/tmp/gpustrap-bench.XXXXXX)
ns=gsbench$$
pids=()
finish() {
	[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
	wait 2>/dev/null || true
	ip netns del $ns 2>/dev/null || true
	rm -rf "$work"
}
trap finish EXIT
ip netns add $ns
ip -n $ns link set lo up
mkdir "$work/seeds"
chmod 755 "$work" "$work/seeds" # nginx drops root
inside() { ip netns exec $ns "$@"; }

mkdir -p "$cache"
medium=$(realpath "$cache")/netboot-$size.iso
[ -f "$medium" ] || e2e/medium/make-medium.sh --flavour 24.04 --live light --size "$size" -o "$medium"
"$go" build -o "$work/gpustrap" ./cmd/gpustrap
"$go" build -o "$work/drain" ./e2e/netboot/drain

machines=${MACHINES:-1000}
{
	printf 'version: 1\nubuntu: "24.04"\nuser: {name: ops, authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEjQVNyFqbA6dPZPpaFVKxxM4IYEmrhOBAmsQmYb3cfW bench"]}\n'
	printf 'gpu: {model: h200}\ndocker: {}\nmachines:\n'
	for ((i = 0; i < machines; i++)); do
		printf '  - {name: n%d, match: {mac: "52:54:00:77:%02x:%02x"}}\n' "$i" $((i / 256)) $((i % 256))
	done
	for ((i = 0; i < 100; i++)); do
		printf '  - {name: s%d, match: {mac: "52:54:00:78:00:%02x"}}\n' "$i" "$i"
	done
} >"$work/gpustrap.yaml"
ip netns exec $ns "$work/gpustrap" serve -c "$work/gpustrap.yaml" --iso "$medium" --interface lo --dhcp off \
	--listen 127.0.0.1:8080 --data "$work/data" >"$work/serve.log" 2>&1 &
serve=$!
pids+=("$serve")

cat >"$work/nginx.conf" <<CONF
daemon off; worker_processes 2; pid $work/nginx.pid; error_log $work/nginx.log;
events { worker_connections 4096; }
http { access_log off; sendfile on; tcp_nopush on; client_body_temp_path $work; proxy_temp_path $work;
  fastcgi_temp_path $work; uwsgi_temp_path $work; scgi_temp_path $work;
  server { listen 127.0.0.1:8081; root $(dirname "$medium"); }
  server { listen 127.0.0.1:8082; root $work/seeds; } }
CONF
ip netns exec $ns nginx -c "$work/nginx.conf" -p "$work" >/dev/null 2>&1 &
pids+=($!)
until inside curl -fs -o /dev/null http://127.0.0.1:8080/healthz && inside curl -fsI -o /dev/null "http://127.0.0.1:8081/$(basename "$medium")"; do
	kill -0 $serve 2>/dev/null || { cat "$work/serve.log" >&2; exit 1; }
	sleep 0.2
done

own() { inside "$work/gpustrap" "$@" -c "$work/gpustrap.yaml" --token-file "$work/data/admin-token"; }
own arm --yes --via medium 'n*' 2>/dev/null | grep -o 'http://[^ ]*\.iso' >"$work/images"
iso=$(sed -n 's/^medium .*, at \(http.*\)$/\1/p' "$work/serve.log")$(basename "$medium")
image=$(head -n 1 "$work/images")

# best NAME ARGUMENT… prints the best rate of three, in MB/s.
best() {
	local best=0 rate bytes seconds
	for _ in 1 2 3; do
		read -r bytes seconds _ < <(inside "$work/drain" "$@")
		rate=$(echo "$bytes / $seconds / 1000000" | bc)
		[ "$rate" -le "$best" ] || best=$rate
	done
	echo "$best"
}
cat "$medium" >/dev/null # into the page cache
echo "clients  nginx MB/s  the ISO MB/s  ratio  a machine's image MB/s  ratio"
for clients in 1 8 64; do
	nginx=$(best -clients $clients "http://127.0.0.1:8081/$(basename "$medium")")
	plain=$(best -clients $clients "$iso")
	overlaid=$(best -clients $clients "$image")
	echo "$clients $nginx $plain $(echo "scale=2; $plain / $nginx" | bc) $overlaid $(echo "scale=2; $overlaid / $nginx" | bc)"
done

# A BMC reads by many small ranges; all machines at once, each from its own image.
mapfile -t images <"$work/images"
read -r bytes seconds errors < <(inside "$work/drain" -clients "$machines" -requests 50 -bytes 65536 "${images[@]}")
peak=$(sed -n 's/^VmHWM: *//p' /proc/$serve/status)
echo "$machines clients with 50 ranges of 64 KiB of their own images each: $bytes bytes in $seconds s, $errors errors, the server's peak memory $peak"

# Seeds: each of a hundred machines fetches its own for the first time, then many clients
# fetch one again and again.
own arm --yes 's*' >/dev/null 2>&1
seed=''
for ((i = 0; i < 100; i++)); do
	seed=$(inside curl -fs "http://127.0.0.1:8080/boot.ipxe?mac=52-54-00-78-00-$(printf %02x "$i")" | grep -om 1 'http://[^ ]*/s/[0-9a-f]*/')
	inside curl -fs -o "$work/seeds/user-data" -w '%{time_total}\n' "${seed}user-data"
done | sort -n >"$work/first"
seed=$(inside curl -fs "http://127.0.0.1:8080/boot.ipxe?mac=52-54-00-78-00-00" | grep -om 1 'http://[^ ]*/s/[0-9a-f]*/')
inside curl -fs -o "$work/seeds/user-data" "${seed}user-data"
inside curl -fs http://127.0.0.1:8080/metrics | grep '^gpustrap_seed_render_seconds' >"$work/renders"
awk -v sum="$(sed -n 's/.*_sum //p' "$work/renders")" -v n="$(sed -n 's/.*_count //p' "$work/renders")" -v within="$(sed -n 's/.*le="0.004"} //p' "$work/renders")" \
	'{ t[NR] = $1 } END { printf "first fetch of a seed: half within %.1f ms, all within %.1f ms; rendering: %.2f ms on average, %d of %d within 4 ms\n", t[int(NR / 2)] * 1000, t[NR] * 1000, sum / n * 1000, within, n }' "$work/first"

# rate URL prints the best number of requests in a second of three.
rate() {
	for _ in 1 2 3; do
		inside wrk -t 2 -c 64 -d 3s "$1" | tee "$work/wrk" | sed -n 's/^Requests\/sec: *//p'
		! grep -q 'Non-2xx' "$work/wrk" || { cat "$work/wrk" >&2; exit 1; }
	done | sort -n | tail -n 1
}
nginx=$(rate http://127.0.0.1:8082/user-data)
ours=$(rate "${seed}user-data")
echo "seeds of $(stat -c %s "$work/seeds/user-data") bytes, 64 clients: nginx $nginx in a second, ours $ours, ratio $(echo "scale=2; $ours / $nginx" | bc)"
