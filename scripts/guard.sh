#!/bin/bash
# Guards of an installation. They run in the installer, from early-commands,
# and stop it before anything is written.
#   guard.sh hardware MACHINE [serial|uuid|mac VALUE]...
#       unless this is the machine that the seed was made for
#   guard.sh tpm
#       unless the machine has a TPM 2.0
#   guard.sh installed MACHINE [reinstall] [stamp STAMP]
#       when the chosen disks hold a system that gpustrap installed, unless
#       "reinstall", or gpustrap.reinstall on the kernel line, asks for it; where
#       it was this very installation, by its stamp, whatever asks for it
# choose-disk.sh names the chosen disks; without it every disk is looked at.
set -eu -o pipefail

run=${GPUSTRAP_RUN:-/run/gpustrap}
sysfs=${GPUSTRAP_SYSFS:-/sys}
cmdline=${GPUSTRAP_CMDLINE:-/proc/cmdline}

# stop SENTENCE [LINE...]: failed.sh puts it on the screen.
stop() {
    mkdir -p "$run"
    printf '%s\n' "$@" >"$run/failure"
    printf 'gpustrap: %s\n' "$@" "nothing was written" >&2
    exit 1
}

id() { tr -d '\n' <"$sysfs/class/dmi/id/$1" 2>/dev/null | sed 's/^[ \t]*//; s/[ \t]*$//' || true; }

# macs prints the addresses of the Ethernet interfaces that are hardware.
macs() {
    local device
    for device in "$sysfs"/class/net/*; do
        [ ! -e "$device/device" ] || grep -xE '([0-9a-f]{2}:){5}[0-9a-f]{2}' "$device/address" || true
    done
}

# entry prints this hardware as an entry of machines: in gpustrap.yaml. Some
# makers leave the ids as they were in their template.
entry() {
    local match='' serial uuid addresses
    serial=$(id product_serial | sed 's/[\\"]/\\&/g')
    case ${serial,,} in
    '' | none | *default* | *filled* | *specified* | *serial* | *0123456* | *123456789*) ;;
    *) match="serial: \"$serial\", " ;;
    esac
    uuid=$(id product_uuid)
    case ${uuid,,} in
    '' | 00000000-0000-0000-* | ffffffff-ffff-* | 03000200-0400-0500-*) ;;
    *) match+="uuid: \"${uuid,,}\", " ;;
    esac
    addresses=$(macs | sed 's/.*/"&"/' | paste -s -d , - | sed 's/,/, /g')
    [ -z "$addresses" ] || match+="mac: [$addresses], "
    echo "  - {name: NAME, match: {${match%, }}}"
}

hardware() {
    local machine=$1 differs=() wanted=() found
    shift
    while [ $# -gt 0 ]; do
        case $1 in
        serial)
            found=$(id product_serial)
            [ "$found" = "$2" ] || differs+=("its serial number is ${found:-not known}, not $2")
            ;;
        uuid)
            found=$(id product_uuid)
            [ "${found,,}" = "$2" ] || differs+=("its UUID is ${found:-not known}, not $2")
            ;;
        mac) wanted+=("$2") ;;
        esac
        shift 2
    done
    if [ ${#wanted[@]} -gt 0 ] && ! macs | grep -qxF -f <(printf '%s\n' "${wanted[@]}"); then
        differs+=("no interface has the address ${wanted[*]}")
    fi
    [ ${#differs[@]} -gt 0 ] || return 0
    stop "this machine is not $machine: $(printf '%s; ' "${differs[@]}" | sed 's/; $//')" \
        "its entry under machines: in gpustrap.yaml would be" "$(entry)"
}

# tpm: the kernel makes no tpmrm0 for an older TPM.
tpm() {
    [ ! -e "$sysfs/class/tpmrm/tpmrm0" ] || return 0
    stop "this machine has no TPM 2.0 that could unlock its disk" \
        "switch it on in the firmware's setup, where it may be called PTT, fTPM or security device," \
        "or remove storage.encryption.tpm from gpustrap.yaml: then the passphrase is asked for at each boot"
}

disks() {
    if [ -s "$run/disks" ]; then
        cat "$run/disks"
    else
        lsblk -dnp -o KNAME,TYPE -e 1,2,7,11 | awk '$2 == "disk" { print $1 }'
    fi
}

# installed: finish.sh has left a name in the partition table.
installed() {
    local machine=$1 reinstall='' stamp='' disk name
    shift
    while [ $# -gt 0 ]; do
        case $1 in
        reinstall) reinstall=reinstall ;;
        stamp)
            stamp=$2
            shift
            ;;
        esac
        shift
    done
    ! grep -qw gpustrap.reinstall "$cmdline" || reinstall=reinstall
    for disk in $(disks); do
        name=$({ sfdisk --dump "$disk" 2>/dev/null || true; } | sed -n '0,/name="gpustrap:/s/.*name="gpustrap:\([^"]*\)".*/\1/p')
        [ -n "$name" ] || continue
        if [ -n "$stamp" ] && [ "${name##*#}" = "$stamp" ]; then
            stop "$disk was installed by this very installation already, as ${name%#*}" \
                "the server let the machine be installed once: let it start from its disk, or arm it again"
        fi
        name=${name%#*}
        if [ "$reinstall" = reinstall ]; then
            echo "gpustrap: $name is installed on $disk; reinstalling was asked for"
            continue
        fi
        stop "$disk holds a system that was installed already, as $name, and reinstalling was not asked for" \
            "take the medium out and restart to use it; to erase it, choose the entry \"reinstall\" of the boot menu," \
            "add gpustrap.reinstall to the kernel line, or set reinstall: true for $machine in gpustrap.yaml"
    done
}

"$@"
