#!/bin/bash
# Finds the disks that the configuration means and writes them into the
# autoinstall, before the installer looks at any disk. It runs in the installer,
# from early-commands, and stops the installation unless each rule means exactly
# one disk.
#   choose-disk.sh RULE [--disk RULE]... [--data RULE]...
# RULE is serial, wwn, path or size with a value, or only. The first rule and
# those of --disk are for the disks of the system, disk-0, disk-1 and so on;
# those of --data for disks of their own, data-0 and so on. Several rules of one
# role with one size share the largest, or smallest, disks between them; several
# only mean all the disks that are left.
# The disks with the installation medium and with the seed are never taken. The
# installer itself matches neither WWNs nor the serial numbers that lsblk shows
# and labels carry.
set -eu -o pipefail

run=${GPUSTRAP_RUN:-/run/gpustrap}
autoinstall=/autoinstall.yaml
firmware=/sys/firmware/efi

ids=() rules=() values=()
declare -A count=([disk]=0 [data]=0)
role=disk
while [ $# -gt 0 ]; do
    case $1 in
    --disk | --data)
        role=${1#--}
        shift
        ;;
    esac
    ids+=("$role-${count[$role]}")
    count[$role]=$((count[$role] + 1))
    rules+=("$1")
    value=
    if [ "$1" != only ]; then
        value=$2
        shift
    fi
    values+=("$value")
    shift
done

property() { udevadm info --query=property --name="/dev/$1" | sed -n "s/^$2=//p"; }
column() { lsblk -dnb -o "$2" "/dev/$1" | sed 's/^ *//; s/ *$//'; }
describe() { echo "  /dev/$1  $(column "$1" MODEL)  serial $(column "$1" SERIAL)  $(lsblk -dn -o SIZE "/dev/$1" | tr -d ' ')"; }

# medium prints the disks that the live system runs from, and that the seed is on.
medium() {
    local mount source
    lsblk -rpno KNAME,LABEL -e 1,2,7,11 | awk 'tolower($2) == "cidata" { print $1 }' | while read -r source; do
        lsblk -nslo KNAME "$source"
    done
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

# fits DISK RULE VALUE: whether the rule means this disk.
fits() {
    case $2 in
    serial)
        { column "$1" SERIAL; property "$1" ID_SERIAL; property "$1" ID_SERIAL_SHORT
          property "$1" ID_SCSI_SERIAL; } | grep -qxF -- "$3"
        ;;
    wwn)
        { column "$1" WWN; property "$1" ID_WWN; property "$1" ID_WWN_WITH_EXTENSION; } |
            grep -qixF -- "$3"
        ;;
    path) [ "$(readlink -f -- "$3")" = "/dev/$1" ] ;;
    esac
}

# stop SENTENCE: failed.sh puts it on the screen.
stop() {
    mkdir -p "$run"
    {
        echo "$1"
        echo "the disks of this machine are:"
        for disk in $disks; do describe "$disk"; done
        echo "set storage.disk in gpustrap.yaml to one of them, for example disk: {serial: …}"
    } >"$run/failure"
    sed 's/^/gpustrap: /' "$run/failure" >&2
    echo "gpustrap: nothing was written" >&2
    exit 1
}

# means RULE VALUE COUNT: the disks of a rule, in words.
means() {
    local several=
    [ "$3" -eq 1 ] || several=" $3"
    case $1:$several in
    only:) echo "the machine's only disk" ;;
    only:*) echo "the machine's only$several disks" ;;
    size:) echo "the $2 disk" ;;
    size:*) echo "the$several $2 disks" ;;
    *) echo "the disk with the $1 $2" ;;
    esac
}

# left prints the disks that no rule has taken.
left() {
    local disk
    for disk in $disks; do
        case " ${chosen[*]} " in *" $disk "*) ;; *) echo "$disk" ;; esac
    done
}

# by_size ORDER COUNT: prints the first COUNT of the disks that are left, by
# size, and those that are as large as the last of them.
by_size() {
    local disk order=(-n)
    [ "$1" = smallest ] || order+=(-r)
    for disk in $(left); do echo "$(column "$disk" SIZE) $disk"; done | sort -s -k 1,1 "${order[@]}" |
        awk -v count="$2" 'NR <= count || $1 == last { print $2 } NR <= count { last = $1 }'
}

# fitting RULE VALUE COUNT: prints the disks that so many rules of one kind mean.
fitting() {
    local disk
    case $1 in
    only) left ;;
    size) by_size "$2" "$3" ;;
    *) for disk in $disks; do if fits "$disk" "$1" "$2"; then echo "$disk"; fi; done ;;
    esac
}

# choose RULE...: gives disks to the rules of these kinds.
choose() {
    local i j text found group names
    for i in "${!ids[@]}"; do
        case " $* " in *" ${rules[i]} "*) ;; *) continue ;; esac
        [ -z "${chosen[i]}" ] || continue
        group=("$i")
        for j in "${!ids[@]}"; do
            case ${ids[j]%-*}:${rules[j]}:${values[j]} in
            "${ids[i]%-*}:only:" | "${ids[i]%-*}:size:${values[i]}")
                if [ "$j" -gt "$i" ] && [ "${rules[i]}" = "${rules[j]}" ]; then group+=("$j"); fi
                ;;
            esac
        done
        # A live system may have no /dev/fd, which <(…) takes.
        found=$(fitting "${rules[i]}" "${values[i]}" ${#group[@]})
        read -r -d '' -a names <<<"$found" || true
        text=$(means "${rules[i]}" "${values[i]}" ${#group[@]})
        [ ${#names[@]} -gt 0 ] || stop "$text is not here"
        [ ${#names[@]} -ge ${#group[@]} ] || stop "$text are not here; there is ${names[*]/#//dev/} alone"
        [ ${#names[@]} -eq ${#group[@]} ] || stop "$text could be any of ${#names[@]}: ${names[*]/#//dev/}"
        for j in "${!group[@]}"; do
            case " ${chosen[*]} " in *" ${names[j]} "*) stop "two rules of storage mean one disk, /dev/${names[j]}" ;; esac
            chosen[group[j]]=${names[j]}
        done
    done
}

udevadm settle
on_medium=$(medium)
disks=$(candidates)
chosen=()
for i in "${!ids[@]}"; do chosen[i]=; done
choose serial wwn path
choose size
choose only

places=()
for i in "${!ids[@]}"; do places+=("${ids[i]}=/dev/${chosen[i]}"); done
# The live system has Python and its YAML library: cloud-init needs them.
python3 - "$autoinstall" "$firmware" "${places[@]}" <<'END'
import os, sys, yaml

path, firmware, *places = sys.argv[1:]
disks = dict(place.split("=", 1) for place in places)
uefi = os.path.isdir(firmware)
with open(path) as f:
    document = yaml.safe_load(f)
storage = document.get("autoinstall", document)["storage"]
if "layout" in storage:
    storage["layout"]["match"] = {"path": disks["disk-0"]}
# A list of actions has the boot partitions of both firmwares, told by the ends
# of their ids.
other = ("-bios",) if uefi else ("-esp", "-esp-format", "-esp-mount")
config = [action for action in storage.get("config", []) if not action["id"].endswith(other)]
for action in config:
    if action["id"] in disks:
        for name in ("match", "serial"):
            action.pop(name, None)
        action["path"] = disks[action["id"]]
        if uefi:
            action.pop("grub_device", None)
if config:
    storage["config"] = config
with open(path, "w") as f:
    yaml.safe_dump(document, f, sort_keys=False)
END
mkdir -p "$run"
for i in "${!ids[@]}"; do # for guard.sh and finish.sh
    case ${ids[i]} in disk-*) echo "/dev/${chosen[i]}" ;; esac
done >"$run/disks"
for i in "${!ids[@]}"; do
    case ${ids[i]} in
    disk-*) echo "gpustrap: the installation goes to" ;;
    *) echo "gpustrap: the disk of ${ids[i]} is" ;;
    esac
    describe "${chosen[i]}"
done
