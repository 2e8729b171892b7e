#!/bin/bash
# Runs a command in the installer, and shows the repository on the installation
# medium to the installed system while it runs: by then the installer has taken
# the medium out of that system.
#   with-medium.sh COMMAND [ARGUMENT…]
# Nothing stays mounted, however the command ends.
set -eu

medium=${GPUSTRAP_MEDIUM:-/cdrom/gpustrap}
shown=${TARGET_MOUNT_POINT:-/target}/var/lib/gpustrap/medium

hide() {
    [ -d "$shown" ] || return 0
    ! mountpoint -q "$shown" || umount "$shown"
    rmdir "$shown"
}

hide # what a power cut in an earlier run has left
trap hide EXIT
if [ -d "$medium" ]; then
    mkdir -p "$shown"
    mount --bind "$medium" "$shown"
fi
"$@"
