#!/bin/bash
# Runs the first_boot commands of the configuration, each a file in
# $GPUSTRAP_ETC/commands, in order, as root, once each: after one that fails, the
# next boot goes on with it.
#   first-boot.sh         enables the unit that does so at the next boot
#   first-boot.sh --boot  from the unit
set -euE -o pipefail
# A unit has a log of its own.
[ "${1:-}" != --boot ] || export GPUSTRAP_LOG=${GPUSTRAP_LOG:-/var/log/gpustrap/first-boot.log}
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

done_folder=/var/lib/gpustrap/first-boot

if [ "${1:-}" != --boot ]; then
    step "prepare what runs at the first boot"
    put_file "$here/gpustrap-first-boot.service" /etc/systemd/system/gpustrap-first-boot.service 0644
    enable_unit gpustrap-first-boot.service
    exit 0
fi

if [ -f "$GPUSTRAP_ETC/files/list" ]; then bash "$here/files.sh"; fi
mkdir -p "$done_folder"
for file in "$GPUSTRAP_ETC"/commands/first-*; do
    if [ ! -f "$file" ] || [ -e "$done_folder/${file##*/}" ]; then continue; fi
    step "run: $(head -n 1 "$file" | cut -c 1-100)"
    run_called "first_boot, ${file##*/}" sh -eu "$file"
    : >"$done_folder/${file##*/}"
done
step "the first boot's commands are done"
run systemctl disable gpustrap-first-boot.service
