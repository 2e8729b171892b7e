#!/usr/bin/env bash
# The figures of docs/performance.md, each beside its peer in the same run.
# Usage: bench.sh [SIZE]   (size of the sample medium, default 3G)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
size=${1:-3G}
gpustrap=$top/bin/gpustrap
cache=${GPUSTRAP_CACHE:-$top/build/cache}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/gpustrap-bench.XXXXXX")
runs=${RUNS:-5}

cleanup() {
	leave_filesystem
	mountpoint -q "$work/ram" && umount "$work/ram"
	rm -rf "$work"
}
trap cleanup EXIT

# enter_filesystem COMMAND...: makes a file system in memory and mounts it at
# $work/disk. The figures are ratios of what programs do, and a shared disk's
# moods would drown them.
enter_filesystem() {
	mountpoint -q "$work/ram" || { mkdir -p "$work/ram" "$work/disk" && mount -t tmpfs -o size=14G tmpfs "$work/ram"; }
	truncate -s 9G "$work/ram/disk.img"
	"$@" "$work/ram/disk.img"
	mount -o loop "$work/ram/disk.img" "$work/disk"
}

leave_filesystem() {
	mountpoint -q "$work/disk" && umount "$work/disk"
	rm -f "$work/ram/disk.img"
}

now() { date +%s.%N; }

# measure NAME COMMAND...: runs the command $runs times, prints the median of
# the wall time in seconds and the largest resident set in MiB, and keeps the
# median in $median.
measure() {
	local name=$1 times=() rss=0 start
	shift
	for _ in $(seq "$runs"); do
		sync
		start=$(now)
		/usr/bin/time -o "$work/time" -f %M "$@" >"$work/out" 2>&1 || { cat "$work/out"; exit 1; }
		times+=("$(echo "$(now) - $start" | bc)")
		rss=$(printf '%s\n' "$rss" "$(tail -n 1 "$work/time")" | sort -n | tail -n 1)
	done
	median=$(printf '%s\n' "${times[@]}" | sort -n | sed -n "$(((runs + 1) / 2))p")
	printf '| %s | %.2f s | %s MiB |\n' "$name" "$median" "$((rss / 1024))"
}

ratio() { printf '  ratio %s: %s\n' "$1" "$(echo "scale=3; $2 / $3" | bc)"; }

table() { printf '\n%s\n\n| what | median of %s | peak memory |\n| --- | --- | --- |\n' "$1" "$runs"; }

remaster_beside_cp() { # folder
	local dir=$1 iso=$1/base.iso
	cat "$iso" >/dev/null
	measure "cp --reflink=never and sync -f" sh -c "rm -f '$dir/cp.iso'; cp --reflink=never '$iso' '$dir/cp.iso' && sync -f '$dir/cp.iso'"
	local cp=$median
	rm -f "$dir/cp.iso"
	measure "gpustrap remaster" "$gpustrap" remaster -c "$top/examples/workstation.yaml" --iso "$iso" -o "$dir/out.iso"
	local ours=$median
	printf '\n'
	ratio "remaster / cp" "$ours" "$cp"
	remastered=$ours
}

[ "$(id -u)" = 0 ] || { echo "bench: run as root, to mount file systems" >&2; exit 1; }
printf 'machine: %s cores, %s MiB, kernel %s\n' "$(nproc)" \
	"$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)" "$(uname -r)"

medium=$cache/bench-$size.iso
"$here/medium/make-medium.sh" --flavour 24.04 --size "$size" -o "$medium"

table "Remaster the $size medium, no reflinks (ext4)"
enter_filesystem mkfs.ext4 -q -F
cp "$medium" "$work/disk/base.iso"
remaster_beside_cp "$work/disk"
ours=$remastered
"$gpustrap" remaster -c "$top/examples/workstation.yaml" --iso "$work/disk/base.iso" -o "$work/disk/again.iso" 2>/dev/null
cmp "$work/disk/out.iso" "$work/disk/again.iso" && printf '  two runs, one image: sha256 %s…\n' "$(sha256sum <"$work/disk/out.iso" | cut -c 1-16)"
printf '  bytes not shared with the base: %s\n' "$("$gpustrap" inspect --json "$work/disk/out.iso" | jq '[.changes[].length] | add')"
rm -f "$work/disk/again.iso" "$work/disk/out.iso"
"$gpustrap" render -c "$top/examples/workstation.yaml" -o "$work/seed"
printf '\n| what | median of %s | peak memory |\n| --- | --- | --- |\n' "$runs"
measure "xorriso -indev -outdev -boot_image any replay" sh -c "rm -f '$work/disk/xo.iso'; xorriso -indev '$work/disk/base.iso' -outdev '$work/disk/xo.iso' -boot_image any replay -map '$work/seed' /nocloud && sync -f '$work/disk/xo.iso'"
ratio "xorriso / remaster" "$median" "$ours"
leave_filesystem

table "Remaster the $size medium, with reflinks (xfs)"
enter_filesystem mkfs.xfs -q -m reflink=1
cp "$medium" "$work/disk/base.iso"
remaster_beside_cp "$work/disk"
leave_filesystem

machines=10000
fleet=$work/fleet.yaml
{
	cat <<-'YAML'
		version: 1
		ubuntu: "24.04"
		profiles:
		  hgx:
		    user: {name: ops, authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+hwbPTE1FTIhLXOlSo6PajH/I25701ouGSNfW6dK5j ops@example.com"]}
		    gpu: {model: h100-sxm, count: 8}
		    network: {gateway: 10.0.0.1}
		    storage: {disk: {size: smallest}}
		machines:
	YAML
	for i in $(seq 0 $((machines - 1))); do
		printf '  - {name: node%05d, profile: hgx, match: {mac: "b8:ce:f6:%02x:%02x:%02x"}, network: {addresses: [10.0.%d.%d/16]}}\n' \
			"$i" $((i / 65536)) $((i / 256 % 256)) $((i % 256)) $((i / 250 + 1)) $((i % 250 + 2))
	done
} >"$fleet"
runs=3
table "A file with $machines machines"
measure "gpustrap check" "$gpustrap" check -c "$fleet"
measure "gpustrap render -o (new folder)" sh -c "rm -rf '$work/fleet'; '$gpustrap' render -c '$fleet' -o '$work/fleet'"
measure "gpustrap render -o (nothing changed)" "$gpustrap" render -c "$fleet" -o "$work/fleet"
printf '\n  user-data of one machine: %s bytes\n' "$(stat -c %s "$work/fleet/node00000/user-data")"
