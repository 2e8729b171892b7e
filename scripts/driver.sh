#!/bin/bash
# Installs the NVIDIA driver: the packages that were worked out for this
# machine, by name. It never loads a module and never asks the GPU: in the
# installer the running kernel is not the machine's. gpu-ready does that later.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

# install_packages installs packages that pin a branch first: they steer what
# the names of the others mean.
install_packages() {
    local pins=() rest=() name
    words "$GPU_PACKAGES"
    for name in "${list[@]}"; do
        case $name in
        nvidia-driver-pinning-*) pins+=("$name") ;;
        *) rest+=("$name") ;;
        esac
    done
    if [ ${#pins[@]} -gt 0 ]; then
        step "pin the driver branch: ${pins[*]}"
        apt_install "${pins[@]}"
    fi
    [ -z "$KERNEL_PACKAGE" ] || rest=("$KERNEL_PACKAGE" "${rest[@]}")
    step "install the NVIDIA driver, branch $GPU_BRANCH: ${rest[*]}"
    apt_install "${rest[@]}"
}

# nvidia_devices prints the PCI ids of the NVIDIA GPUs, and of the bridges that
# the table knows as NVLink switches, once for each device.
nvidia_devices() {
    local device id
    for device in "${GPUSTRAP_SYSFS:-/sys}"/bus/pci/devices/*; do
        [ "$(cat "$device/vendor" 2>/dev/null)" = 0x10de ] || continue
        id=10de:$(sed 's/^0x//' "$device/device")
        case $(cat "$device/class") in
        0x0300* | 0x0302*) echo "$id" ;;
        0x0680*) ! grep -q "^switch|$id|" "$GPUSTRAP_ETC/stacks" || echo "$id" ;;
        esac
    done
}

# choose_stack works out the stack for the GPUs that are here and keeps it for
# the steps that follow, and for the first boot.
choose_stack() {
    local devices branch flavour packages services modules setting
    step "choose the driver by the GPUs in this machine"
    devices=$(nvidia_devices | tr '\n' ' ')
    IFS=$'\t' read -r branch flavour packages services modules _ \
        < <(echo "$devices" | sh "$here/choose-stack.sh" "$GPUSTRAP_ETC/stacks")
    if [ "$branch" = error ]; then
        fail "no driver can be chosen for this machine: $flavour" \
            "its NVIDIA devices are: ${devices:-none}; name the GPU with gpu.model or gpu.pci"
    fi
    say "  $devices: branch $branch, $flavour modules"
    GPU_BRANCH=$branch GPU_PACKAGES=$packages
    GPU_SERVICES=${services#-} GPU_MODULES=${modules#-}
    for setting in GPU_BRANCH GPU_PACKAGES GPU_SERVICES GPU_MODULES; do
        printf "%s='%s'\n" "$setting" "${!setting}"
    done | put "$GPUSTRAP_ETC/stack.env" 0644
}

[ "$GPU_AUTO" = 0 ] || choose_stack
install_packages

step "keep nouveau out"
put /etc/modprobe.d/gpustrap-nouveau.conf 0644 <<'END'
# Written by gpustrap: nouveau and the NVIDIA driver cannot share a GPU.
blacklist nouveau
options nouveau modeset=0
END

words "$GPU_MODULES"
if [ ${#list[@]} -gt 0 ]; then
    step "load at boot: ${list[*]}"
    printf '%s\n' "${list[@]}" | put /etc/modules-load.d/gpustrap.conf 0644
fi

step "make the initial RAM disks again, for all kernels"
run update-initramfs -u -k all

if ! dry_run; then
    step "check that the driver's modules are there"
    check_modules
fi

words "$GPU_SERVICES"
if [ ${#list[@]} -gt 0 ]; then
    step "enable ${list[*]}"
    enable_unit "${list[@]}"
fi
