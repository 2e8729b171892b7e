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
	! mountpoint -q "$work/ram" || umount "$work/ram"
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
	! mountpoint -q "$work/disk" || umount "$work/disk"
	rm -f "$work/ram/disk.img"
}

now() { date +%s.%N; }

# race NAME COMMAND [NAME COMMAND...]: runs the shell commands in turn, $runs
# times over, so that a busy moment meets all of them; prints the median wall
# time and the largest resident set of each, and keeps the medians in medians.
race() {
	local names=() commands=() i
	while [ $# -gt 0 ]; do
		names+=("$1")
		commands+=("$2")
		shift 2
	done
	rm -f "$work"/race.*
	for _ in $(seq "$runs"); do
		for i in "${!names[@]}"; do
			sync
			/usr/bin/time -o "$work/time" -f '%e %M' sh -c "${commands[i]}" >"$work/out" 2>&1 || { cat "$work/out"; exit 1; }
			tail -n 1 "$work/time" >>"$work/race.$i"
		done
	done
	printf '\n| what | median of %s | peak memory |\n| --- | --- | --- |\n' "$runs"
	medians=()
	for i in "${!names[@]}"; do
		medians+=("$(cut -d ' ' -f 1 "$work/race.$i" | sort -n | sed -n "$(((runs + 1) / 2))p")")
		printf '| %s | %s s | %s MiB |\n' "${names[i]}" "${medians[i]}" \
			"$(($(cut -d ' ' -f 2 "$work/race.$i" | sort -n | tail -n 1) / 1024))"
	done
	printf '\n'
}

ratio() { printf '  %s: %s\n' "$1" "$(echo "scale=3; $2 / $3" | bc)"; }

heading() { printf '\n## %s\n' "$1"; }

[ "$(id -u)" = 0 ] || { echo "bench: run as root, to mount file systems" >&2; exit 1; }
printf 'machine: %s cores, %s MiB, kernel %s\n' "$(nproc)" \
	"$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)" "$(uname -r)"

medium=$cache/bench-$size.iso
"$here/medium/make-medium.sh" --flavour 24.04 --size "$size" -o "$medium"

remaster="$gpustrap remaster -c $top/examples/workstation.yaml --iso $work/disk/base.iso"
copy="rm -f $work/disk/cp.iso; cp --reflink=never $work/disk/base.iso $work/disk/cp.iso && sync -f $work/disk/cp.iso"
"$gpustrap" render -c "$top/examples/workstation.yaml" -o "$work/seed"

heading "Remaster the $size medium, no reflinks (ext4)"
enter_filesystem mkfs.ext4 -q -F
cp "$medium" "$work/disk/base.iso"
race "gpustrap remaster" "rm -f $work/disk/cp.iso; $remaster -o $work/disk/out.iso" "cp and sync -f" "rm -f $work/disk/out.iso; $copy"
ratio "remaster / cp" "${medians[0]}" "${medians[1]}"
rm -f "$work/disk/cp.iso"
race "gpustrap remaster" "rm -f $work/disk/xo.iso; $remaster -o $work/disk/out.iso" \
	"xorriso -indev -outdev -boot_image any replay" "rm -f $work/disk/out.iso; xorriso -indev $work/disk/base.iso -outdev $work/disk/xo.iso -boot_image any replay -map $work/seed /nocloud && sync -f $work/disk/xo.iso"
ratio "xorriso / remaster" "${medians[1]}" "${medians[0]}"
rm -f "$work/disk/xo.iso"
$remaster -o "$work/disk/out.iso" 2>/dev/null
sum=$(sha256sum <"$work/disk/out.iso")
rm -f "$work/disk/out.iso"
$remaster -o "$work/disk/out.iso" 2>/dev/null
[ "$sum" = "$(sha256sum <"$work/disk/out.iso")" ] && printf '  two runs, one SHA-256: %s…\n' "$(echo "$sum" | cut -c 1-16)"
printf '  bytes not shared with the base: %s\n' "$("$gpustrap" inspect --json "$work/disk/out.iso" | jq '[.changes[].length] | add')"
leave_filesystem

heading "Remaster the $size medium, with reflinks (xfs)"
enter_filesystem mkfs.xfs -q -m reflink=1
cp "$medium" "$work/disk/base.iso"
race "gpustrap remaster" "rm -f $work/disk/cp.iso; $remaster -o $work/disk/out.iso" "cp --reflink=never and sync -f" "$copy"
ratio "remaster / cp" "${medians[0]}" "${medians[1]}"
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
sed 's|^ubuntu:.*|&\ntimezone: Europe/Zurich|' "$fleet" >"$fleet.zone"
runs=3
heading "A file with $machines machines (ext4)"
enter_filesystem mkfs.ext4 -q -F
"$gpustrap" render -c "$fleet" -o "$work/disk/fleet"
race "gpustrap check" "$gpustrap check -c $fleet" \
	"gpustrap render -o (new folder)" "$gpustrap render -c $fleet -o $work/disk/fleet-\$\$" \
	"gpustrap render -o (nothing changed)" "$gpustrap render -c $fleet -o $work/disk/fleet" \
	"gpustrap render --diff (nothing changed)" "$gpustrap render -c $fleet -o $work/disk/fleet --diff" \
	"gpustrap render --diff (a line of each changed)" "! $gpustrap render -c $fleet.zone -o $work/disk/fleet --diff"
printf '  user-data of one machine: %s bytes\n' "$(stat -c %s "$work/disk/fleet/node00000/user-data")"
leave_filesystem
