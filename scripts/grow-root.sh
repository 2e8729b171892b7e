#!/bin/sh
# Gives the root file system all of its volume group. The installers of the
# first Ubuntu 22.04 images do not know sizing-policy and leave at most 100 GiB
# to it. It runs in the installer, from late-commands.
set -eu

target=${TARGET_MOUNT_POINT:-/target}
volume=$(findmnt -n -o SOURCE --mountpoint "$target")
free=$(lvs --noheadings --units b --nosuffix -o vg_free "$volume" | tr -d ' ')
if [ "$free" -gt 0 ]; then
    echo "gpustrap: give the root file system the $free bytes that its volume group has left"
    lvextend --resizefs -l +100%FREE "$volume"
fi
