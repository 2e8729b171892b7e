#!/usr/bin/env bash
# The figures of docs/usb.md: write and verify beside dd and cmp, on a loop device
# with direct input and output, caches dropped before each run. Run as root.
# Usage: bench.sh [SIZE]   (size of the sample medium, default 3G)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$(dirname "$here")")
size=${1:-3G}
gpustrap=${GPUSTRAP:-$top/bin/gpustrap}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/gpustrap-bench-usb.XXXXXX")
runs=${RUNS:-5}
config=$top/examples/workstation.yaml
loop=''

cleanup() {
	[ -z "$loop" ] || losetup --detach "$loop"
	! mountpoint -q "$work/ram" || umount "$work/ram"
	rm -rf "$work"
}
trap cleanup EXIT

now() { date +%s.%N; }

# race NAME COMMAND [NAME COMMAND...]: runs the shell commands in turn, $runs
# times over, so that a busy moment meets all of them; prints the median wall time
# and the largest resident set of each, and keeps the medians in medians.
race() {
	local names=() commands=() i start
	while [ $# -gt 0 ]; do
		names+=("$1") commands+=("$2")
		shift 2
	done
	rm -f "$work"/time.* "$work"/rss.*
	for _ in $(seq "$runs"); do
		for i in "${!commands[@]}"; do
			sync
			echo 3 >/proc/sys/vm/drop_caches
			start=$(now)
			/usr/bin/time -a -o "$work/rss.$i" -f %M sh -ec "${commands[i]}" >"$work/out" 2>&1 || { cat "$work/out"; exit 1; }
			echo "$(now) - $start" | bc >>"$work/time.$i"
		done
	done
	medians=()
	for i in "${!commands[@]}"; do
		medians+=("$(sort -n "$work/time.$i" | sed -n "$(((runs + 1) / 2))p")")
		printf '| %s | %.2f s | %s MiB |\n' "${names[i]}" "${medians[i]}" "$(($(sort -n "$work/rss.$i" | tail -n 1) / 1024))"
	done
}

ratio() { printf '  ratio %s: %s\n' "$1" "$(echo "scale=3; $2 / $3" | bc)"; }

# compare WHERE DEVICE-FILE: the race on a loop device over a new file.
compare() {
	printf '\n%s\n\n| what | median of %s | peak memory |\n| --- | --- | --- |\n' "$1" "$runs"
	fallocate -l $(($(stat -c %s "$finished") + (64 << 20))) "$2"
	loop=$(losetup --find --show --direct-io=on "$2")
	race "dd bs=4M oflag=direct conv=fsync, then cmp" "dd if=$finished of=$loop bs=4M oflag=direct conv=fsync status=none; cmp -n $(stat -c %s "$finished") $finished $loop" \
		"gpustrap write IMAGE, verified" "$gpustrap write --yes --allow-fixed $finished $loop" \
		"gpustrap write --iso, verified" "$gpustrap write --yes --allow-fixed -c $config --iso $base $loop" \
		"dd alone" "dd if=$finished of=$loop bs=4M oflag=direct conv=fsync status=none"
	printf '\n'
	ratio "speed of write / dd and cmp" "${medians[0]}" "${medians[1]}"
	ratio "time of write --iso / write IMAGE" "${medians[2]}" "${medians[1]}"
	losetup --detach "$loop"
	loop=''
	rm "$2"
}

printf 'machine: %s cores, %s MiB, %s, kernel %s, load %s\n' "$(nproc)" \
	"$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)" "$(stat -f -c %T "$work")" "$(uname -r)" "$(cut -d' ' -f1 /proc/loadavg)"
base=$work/base.iso finished=$work/finished.iso
"$top/e2e/medium/make-medium.sh" --flavour 24.04 --live light --size "$size" -o "$base"
"$gpustrap" remaster -c "$config" --iso "$base" -o "$finished" 2>/dev/null
compare "The $size image to a loop device on the disk" "$work/device"
mkdir "$work/ram"
mount -t tmpfs -o size=5G tmpfs "$work/ram"
compare "The $size image to a loop device in memory" "$work/ram/device"
