#!/bin/bash
# Ends an installation: leaves a mark on its disks, by which guard.sh knows a
# machine that is installed, and lets the firmware start the disk before the
# medium. It runs in the installer, as the last of gpustrap's late-commands.
#   finish.sh MACHINE [STAMP]
# The mark is the name of each disk's first partition. It needs no mounting to be
# read, and is there whatever lies in the partitions. A stamp names this very
# installation in it, behind a #.
set -eu -o pipefail

machine=$1
stamp=${2:+#$2}
run=${GPUSTRAP_RUN:-/run/gpustrap}
target=${TARGET_MOUNT_POINT:-/target}
sysfs=${GPUSTRAP_SYSFS:-/sys}

# disks prints the disks that were chosen, or else those under the system.
disks() {
    local point source
    if [ -s "$run/disks" ]; then
        cat "$run/disks"
        return
    fi
    for point in / /boot /boot/efi; do
        source=$(findmnt -n -o SOURCE --mountpoint "$target${point%/}") || continue
        lsblk -nspo KNAME,TYPE "$source" 2>/dev/null | awk '$2 == "disk" { print $1 }' || true
    done | sort -u
}

# mark DISK. A partition's name has at most 36 characters (UEFI 2.10, 5.3.3). The
# partitions are in use, and the kernel keeps no names: it need not hear of it.
mark() {
    local first name="gpustrap:$machine"
    name=${name:0:36-${#stamp}}$stamp
    first=$(sfdisk --dump "$1" | sed -n "0,/ : /s|^$1p\{0,1\}\([0-9]*\) : .*|\1|p")
    [ -n "$first" ] || return 1
    sfdisk --quiet --no-reread --no-tell-kernel --part-label "$1" "$first" "$name" || true
    [ "$(sfdisk --part-label "$1" "$first")" = "$name" ]
}

# The medium's own entry may have come first only for this start.
disk_first() {
    local entries order current ours
    entries=$(curtin in-target -- efibootmgr) || return 0
    order=$(sed -n 's/^BootOrder: //p' <<<"$entries")
    current=$(sed -n 's/^BootCurrent: //p' <<<"$entries")
    ours=$(sed -n 's/^Boot\([0-9A-Fa-f]\{4\}\)\*\{0,1\} ubuntu\([[:space:]].*\)\{0,1\}$/\1/Ip' <<<"$entries" | head -n 1)
    if [ -z "$ours" ] || [ "$ours" = "$current" ] || [ "${order%%,*}" = "$ours" ]; then return 0; fi
    order=$(tr , '\n' <<<"$order" | grep -vxF "$ours" | paste -s -d , - || true)
    echo "gpustrap: the firmware starts the installed system first from now on"
    curtin in-target -- efibootmgr --quiet --bootorder "$ours${order:+,$order}" || true
}

marked=no
for disk in $(disks); do
    if mark "$disk"; then
        marked=yes
        echo "gpustrap: $disk is marked as installed, as $machine"
    else
        echo "gpustrap: $disk has no GPT and cannot be marked as installed" >&2
    fi
done
[ $marked = yes ] || echo "gpustrap: the medium would install $machine again: take it out" >&2

# Started over the network, the server says what is started next.
medium=$(findmnt -n -o SOURCE --mountpoint /cdrom || true)
case $medium in
/dev/loop* | '') ;;
/dev/*) [ ! -d "$sysfs/firmware/efi" ] || disk_first ;;
esac
