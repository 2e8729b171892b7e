#!/bin/bash
# Sets the GPUs as the configuration says: MIG layout, persistence mode, power
# limit. They do not outlast a boot, so a unit sets them at each one.
#   settings.sh         enables that unit; on a machine with a driver, also runs it
#   settings.sh --boot  from the unit, or by hand: sets what differs
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

unit="gpu-settings.service"

# instances GPU: prints the profiles of its GPU instances, sorted, with commas.
instances() {
    # Status 6 says that there are none.
    { nvidia-smi mig -i "$1" -lgi || [ $? = 6 ]; } |
        sed -n 's/^| *[0-9]* *MIG *\([^ ]*\) .*/\1/p' | sort | paste -sd,
}

# clear_instances GPU: removes its instances, which nobody may be using.
clear_instances() {
    step "remove the instances of GPU $1"
    run nvidia-smi mig -i "$1" -dci || [ $? = 6 ] # 6: there are none
    run nvidia-smi mig -i "$1" -dgi
}

mig_mode() { nvidia-smi -i "$1" --query-gpu=mig.mode.current --format=csv,noheader; }

# switch_mig GPU 0|1: from Hopper on at once, before that by a reset.
switch_mig() {
    local gpu=$1 wanted=Enabled
    [ "$2" = 1 ] || wanted=Disabled
    [ "$(mig_mode "$gpu")" != "$wanted" ] || return 0
    step "MIG mode of GPU $gpu: $wanted"
    run nvidia-smi -i "$gpu" -mig "$2"
    [ "$(mig_mode "$gpu")" != "$wanted" ] || return 0
    # Persistence mode, which set_persistence brings back, is in a reset's way.
    run nvidia-smi -i "$gpu" -pm 0
    persistence=Disabled
    run nvidia-smi -i "$gpu" --gpu-reset || true # what counts is the mode
    [ "$(mig_mode "$gpu")" = "$wanted" ] ||
        fail "GPU $gpu takes the MIG mode at the next boot: something uses the GPU now" "reboot"
}

set_mig() {
    local gpu=$1 mode=$2 have wanted
    case $mode:$GPU_MIG in
    *: | Disabled:off | *N/A*:off) return ;;
    *N/A*:*) fail "GPU $gpu cannot be divided: it has no MIG mode" "remove gpu.mig from gpustrap.yaml" ;;
    esac
    have=$(instances "$gpu")
    if [ "$GPU_MIG" = off ]; then
        [ -z "$have" ] || clear_instances "$gpu"
        switch_mig "$gpu" 0
    else
        wanted=$(tr , '\n' <<<"$GPU_MIG" | sort | paste -sd,)
        [ "$mode:$have" != "Enabled:$wanted" ] || return 0
        switch_mig "$gpu" 1
        [ -z "$have" ] || clear_instances "$gpu"
        step "divide GPU $gpu: $GPU_MIG"
        run nvidia-smi mig -i "$gpu" -cgi "$GPU_MIG" -C
    fi
    changed_mig=yes
}

set_power() {
    local gpu=$1 limit=$2 least=$3 most=$4
    if [ -z "$GPU_POWER_LIMIT" ] || [ "${limit%.*}" = "$GPU_POWER_LIMIT" ]; then return; fi
    case $limit in
    *[!0-9.]*) fail "GPU $gpu has no power limit to set" "remove gpu.power_limit from gpustrap.yaml" ;;
    esac
    if [ "$GPU_POWER_LIMIT" -lt "${least%.*}" ] || [ "$GPU_POWER_LIMIT" -gt "${most%.*}" ]; then
        fail "the power limit of GPU $gpu can be ${least%.*} to ${most%.*} W, not $GPU_POWER_LIMIT W" \
            "correct gpu.power_limit in gpustrap.yaml"
    fi
    step "power limit of GPU $gpu: $GPU_POWER_LIMIT W"
    run nvidia-smi -i "$gpu" -pl "$GPU_POWER_LIMIT"
}

# set_persistence comes after MIG, whose reset it would be in the way of, and
# before the power limit, which is lost when the GPU is left alone.
set_persistence() {
    local gpu=$1 mode=$2 wanted=Enabled
    [ "$GPU_PERSISTENCE" = 1 ] || wanted=Disabled
    [ "$mode" != "$wanted" ] || return 0
    step "persistence mode of GPU $gpu: $wanted"
    run nvidia-smi -i "$gpu" -pm "$GPU_PERSISTENCE"
}

# has_gpu: whether an NVIDIA GPU is on the PCI bus.
has_gpu() {
    local device
    for device in "${GPUSTRAP_SYSFS:-/sys}"/bus/pci/devices/*; do
        [ "$(cat "$device/vendor" 2>/dev/null)" = 0x10de ] || continue
        case $(cat "$device/class") in 0x0300* | 0x0302*) return ;; esac
    done
    return 1
}

set_gpus() {
    local gpu mode limit least most persistence changed_mig=no
    last_command="nvidia-smi --query-gpu"
    nvidia-smi --format=csv,noheader,nounits \
        --query-gpu=index,mig.mode.current,power.limit,power.min_limit,power.max_limit,persistence_mode >"$work/gpus"
    while IFS=, read -r gpu mode limit least most persistence; do
        set_mig "$gpu" "${mode# }"
        set_persistence "$gpu" "${persistence# }"
        set_power "$gpu" "${limit# }" "${least# }" "${most# }"
    done <"$work/gpus"
    # The container device interface does not notice new instances by itself.
    if [ "$changed_mig" = yes ] && can_restart && unit_exists nvidia-cdi-refresh.service; then
        run systemctl --no-block restart nvidia-cdi-refresh.service
    fi
}

if [ "${1:-}" = --boot ]; then
    # That they are missing is gpu-ready's to say, once.
    if ! has_gpu; then
        say "gpustrap: no NVIDIA GPU is here to be set"
        exit
    fi
    step "set the GPUs as configured"
    set_gpus
    exit
fi
step "set MIG, persistence mode and power limit at every boot"
put_file "$here/$unit" "/etc/systemd/system/$unit" 0644
enable_unit "$unit"
if can_restart && [ -e /proc/driver/nvidia/version ]; then
    run systemctl restart "$unit"
fi
