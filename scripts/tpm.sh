#!/bin/bash
# Lets the machine's TPM 2.0 unlock the encrypted system at boot, by clevis or, where
# dracut makes the initramfs, by systemd-cryptenroll.
#   tpm.sh          in the installer: binds the disk to this TPM, and no more
#   tpm.sh --boot   from the unit: binds it to the TPM's registers, too
#   tpm.sh --again  by hand, after a change of the firmware's keys or of the TPM:
#                   asks for the passphrase and binds the disk anew
# The registers are those of the installed system's own first boot. The installer's
# may differ: its shim can be older, and measure another list of revoked ones.
set -euE -o pipefail
mode=${1:-}
[ "$mode" != --boot ] || export GPUSTRAP_LOG=${GPUSTRAP_LOG:-/var/log/gpustrap/tpm.log}
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

root=${GPUSTRAP_ROOT:-}
crypttab=$root/etc/crypttab
tpm=${GPUSTRAP_TPM:-auto} # as systemd-cryptenroll takes it
name=system               # of the device-mapper device
passphrase=$root/run/gpustrap/passphrase

# encrypted prints the device that holds the system.
encrypted() {
    awk -v name=$name '$1 == name { print $2 }' "$crypttab" |
        sed 's|^UUID=|/dev/disk/by-uuid/|; s|^PARTUUID=|/dev/disk/by-partuuid/|'
}

# slots prints the key slots that clevis opens by the TPM.
slots() { clevis luks list -d "$device" | sed -n 's/^\([0-9]*\): tpm2 .*/\1/p'; }

# bind_clevis KEY REGISTERS: KEY is a file with what opens the disk; - stands for
# the TPM itself.
bind_clevis() {
    local old slot key=$1 config='{"pcr_bank":"sha256"}'
    [ -z "$2" ] || config="{\"pcr_bank\":\"sha256\",\"pcr_ids\":\"$2\"}"
    old=$(slots)
    if [ "$key" = - ]; then
        key=$work/key
        clevis luks pass -d "$device" -s "${old%%$'\n'*}" >"$key"
    fi
    clevis luks bind -f -k "$key" -d "$device" tpm2 "$config"
    for slot in $old; do clevis luks unbind -f -d "$device" -s "$slot"; done
}

# forget_clevis takes the passphrase off the disk.
forget_clevis() {
    local slot ours
    ours=$(slots)
    [ -n "$ours" ]
    for slot in $(cryptsetup luksDump "$device" | sed -n 's/^  \([0-9]*\): luks2$/\1/p'); do
        if ! grep -qx "$slot" <<<"$ours"; then cryptsetup -q luksKillSlot "$device" "$slot"; fi
    done
}

# bind_systemd KEY REGISTERS [WIPED]: the same; takes off what is WIPED.
bind_systemd() {
    local unlock=--unlock-key-file=$1
    [ "$1" != - ] || unlock=--unlock-tpm2-device=$tpm
    systemd-cryptenroll "$unlock" --wipe-slot="tpm2${3:-}" --tpm2-device="$tpm" --tpm2-pcrs="${2//,/+}" "$device"
}

# bind KEY REGISTERS
bind() {
    if [ "$TPM_TOOL" = clevis ]; then
        run_called "clevis luks bind -d $device tpm2" bind_clevis "$@"
    else
        run_called "systemd-cryptenroll --tpm2-device=$tpm $device" bind_systemd "$@"
    fi
}

# at_boot makes the initramfs ask the TPM.
at_boot() {
    local image
    if [ "$TPM_TOOL" = clevis ]; then
        run update-initramfs -u -k all
        return
    fi
    if ! dry_run; then
        sed "s|^\(${name}[[:space:]].*[[:space:]]\)\([^[:space:]]*\)[[:space:]]*\$|\1\2,tpm2-device=auto|" "$crypttab" >"$work/crypttab"
        grep -q tpm2-device= "$work/crypttab"
        put_file "$work/crypttab" "$crypttab" "$(stat -c %a "$crypttab")"
    fi
    put "$root/etc/dracut.conf.d/gpustrap-tpm.conf" 0644 <<<'add_dracutmodules+=" tpm2-tss "'
    for image in "$root"/boot/vmlinuz-*; do
        run dracut --force "$root/boot/initrd.img-${image##*/vmlinuz-}" "${image##*/vmlinuz-}"
    done
}

device=$(encrypted)
[ -n "$device" ] || fail "$crypttab names no device of the system" "it is encrypted by storage.encryption of gpustrap.yaml"
umask 077
case $mode in
'')
    step "bind the encrypted system to the TPM"
    words "$TPM_PACKAGES"
    apt_install "${list[@]}"
    bind "$passphrase" ''
    umask 022
    at_boot
    put_file "$here/gpustrap-tpm.service" "$root/etc/systemd/system/gpustrap-tpm.service" 0644
    enable_unit gpustrap-tpm.service
    ;;
--boot)
    step "bind the encrypted system to the TPM's registers ${TPM_PCRS:-(none)}"
    if [ "$TPM_RECOVERY" = passphrase ]; then
        bind - "$TPM_PCRS"
    elif [ "$TPM_TOOL" = clevis ]; then
        bind - "$TPM_PCRS"
        run_called "cryptsetup luksKillSlot $device" forget_clevis
    else
        bind - "$TPM_PCRS" ,password
    fi
    run systemctl disable gpustrap-tpm.service
    step "the TPM unlocks the system from now on"
    ;;
--again)
    step "bind the encrypted system to the TPM anew, registers ${TPM_PCRS:-(none)}"
    printf "The disk's passphrase: " >&8
    read -rs answer
    echo >&8
    printf %s "$answer" >"$work/passphrase"
    bind "$work/passphrase" "$TPM_PCRS"
    ;;
*) fail "there is no option $mode" "write tpm.sh --again" ;;
esac
