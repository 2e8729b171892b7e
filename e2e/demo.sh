#!/usr/bin/env bash
# The main job, end to end: a stock medium (the argument, or a sample medium made
# here) is remastered from examples/workstation.yaml, verified, booted in QEMU on
# a USB disk under UEFI, and restored.
# Usage: demo.sh [ISO]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
gpustrap=$top/bin/gpustrap
cache=${GPUSTRAP_CACHE:-$top/build/cache}
config=$top/examples/workstation.yaml
iso=${1:-}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/gpustrap-demo.XXXXXX")
trap 'rm -rf "$work"' EXIT

step() { printf '\n== %s\n' "$*"; }
run() { printf '$ gpustrap %s\n' "$*" && "$gpustrap" "$@"; }

if [ -z "$iso" ]; then
	step "no ISO given: a sample medium with Ubuntu 24.04's structure, from Debian's packages"
	iso=$cache/sample-24.04.iso
	"$here/medium/make-medium.sh" --flavour 24.04 -o "$iso"
fi
step "the configuration"
cat "$config"
run check -c "$config"
step "what it comes to"
run explain -c "$config"
step "remaster"
run remaster -c "$config" --iso "$iso" -o "$work/gpu.iso"
run inspect "$work/gpu.iso"
step "verify, and boot it in QEMU on a USB disk under UEFI (software emulation: half a minute)"
run verify --boot "$work/gpu.iso"
step "restore: the stock medium again, bit for bit"
run restore "$work/gpu.iso" -o "$work/stock.iso"
cmp "$iso" "$work/stock.iso"
sha256sum "$iso" "$work/stock.iso"
printf '\nThe demo is done: one YAML file became an image that boots and finds its seed.\n'
