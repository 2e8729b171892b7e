#!/usr/bin/env bash
# Boots a genuine Ubuntu medium, remastered, in every way that QEMU can (software
# emulation: an hour or more), and prints the row for the README's table.
# Usage: matrix.sh [ISO]   (a sample medium if none is given)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
iso=${1:-}
if [ -z "$iso" ]; then
	iso=${GPUSTRAP_CACHE:-$here/../build/cache}/sample-24.04.iso
	"$here/medium/make-medium.sh" --flavour 24.04 -o "$iso"
fi
iso=$(realpath "$iso")
cd "$here"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
GPUSTRAP_ISO=$iso "${GO:-go}" test -run '^TestGenuineMedium$' -count=1 -timeout 6h -v . | tee "$log" || status=$?
printf '\n| medium | file | booted with the seed read and the media check passed | tried on |\n| --- | --- | --- | --- |\n'
grep '^|' "$log" || echo "no row: the test failed before the first boot"
exit $status
