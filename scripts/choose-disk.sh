#!/bin/bash
# Finds the one disk that the configuration means and writes it into the
# autoinstall, before the installer looks at any disk. It runs in the installer,
# from early-commands, and stops the installation unless exactly one disk fits.
#   choose-disk.sh serial|wwn|path|size VALUE
#   choose-disk.sh only
# The disk with the installation medium is never taken. The installer itself
# matches neither WWNs nor the serial numbers that lsblk shows and labels carry.
set -eu -o pipefail

rule=$1
value=${2:-}
autoinstall=/autoinstall.yaml

property() { udevadm info --query=property --name="/dev/$1" | sed -n "s/^$2=//p"; }
column() { lsblk -dnb -o "$2" "/dev/$1" | sed 's/^ *//; s/ *$//'; }
describe() { echo "  /dev/$1  $(column "$1" MODEL)  serial $(column "$1" SERIAL)  $(lsblk -dn -o SIZE "/dev/$1" | tr -d ' ')"; }

# medium prints the disks that the live system runs from.
medium() {
    local mount source
    for mount in /cdrom /isodevice /run/live/medium; do
        source=$(findmnt -n -o SOURCE --target "$mount" 2>/dev/null) || continue
        [ -b "$source" ] || continue
        lsblk -nslo KNAME "$source"
    done
}

candidates() {
    local name type
    lsblk -dn -o KNAME,TYPE -e 1,2,7,11 | while read -r name type; do
        case $type:$name in
        disk:zram* | disk:nbd* | disk:mmcblk*boot*) continue ;;
        disk:*) ;;
        *) continue ;;
        esac
        if [ "$(column "$name" SIZE)" -gt 0 ] && [ "$(column "$name" RO)" = 0 ] &&
            ! grep -qxF "$name" <<<"$on_medium"; then
            echo "$name"
        fi
    done
}

# fits DISK: whether the rule means this disk.
fits() {
    case $rule in
    only) ;;
    serial)
        { column "$1" SERIAL; property "$1" ID_SERIAL; property "$1" ID_SERIAL_SHORT
          property "$1" ID_SCSI_SERIAL; } | grep -qxF -- "$value"
        ;;
    wwn)
        { column "$1" WWN; property "$1" ID_WWN; property "$1" ID_WWN_WITH_EXTENSION; } |
            grep -qixF -- "$value"
        ;;
    path) [ "$(readlink -f -- "$value")" = "/dev/$1" ] ;;
    size) [ "$(column "$1" SIZE)" = "$wanted" ] ;;
    esac
}

stop() {
    {
        echo "gpustrap: $1"
        echo "gpustrap: nothing was written; the disks of this machine are:"
        for disk in $disks; do describe "$disk"; done
        echo "gpustrap: set storage.disk in gpustrap.yaml to one of them, for example disk: {serial: …}"
    } >&2
    exit 1
}

udevadm settle
on_medium=$(medium)
disks=$(candidates)
wanted=
if [ "$rule" = size ]; then
    wanted=$(for disk in $disks; do column "$disk" SIZE; done | sort -n |
        case $value in smallest) head -n 1 ;; *) tail -n 1 ;; esac)
fi

chosen=()
for disk in $disks; do
    if fits "$disk"; then chosen+=("$disk"); fi
done
case $rule in
only) means="the machine's only disk" ;;
size) means="the $value disk" ;;
*) means="the disk with the $rule $value" ;;
esac
[ ${#chosen[@]} -gt 0 ] || stop "$means is not here"
[ ${#chosen[@]} -eq 1 ] || stop "$means could be any of ${#chosen[@]}: ${chosen[*]/#//dev/}"

# The live system has Python and its YAML library: cloud-init needs them.
python3 - "$autoinstall" "/dev/${chosen[0]}" <<'END'
import sys, yaml

path, disk = sys.argv[1:]
with open(path) as f:
    document = yaml.safe_load(f)
section = document.get("autoinstall", document)
section["storage"]["layout"]["match"] = {"path": disk}
with open(path, "w") as f:
    yaml.safe_dump(document, f, sort_keys=False)
END
echo "gpustrap: the installation goes to"
describe "${chosen[0]}"
