#!/bin/bash
# Proves that this machine is GPU- and container-ready and says so: one line on
# standard output, one in the message of the day, and a short JSON receipt.
#   gpu-ready         prints the line
#   gpu-ready --json  prints the receipt
# It ends with 0 when every check passed or does not apply, otherwise with 1.
#
# Each check prints one line that says what it found, and returns 0 for pass,
# 1 for fail, 2 for not applicable.
set -u

etc=${GPUSTRAP_ETC:-/etc/gpustrap}
receipt=${GPU_READY_RECEIPT:-/var/lib/gpustrap/ready.json}
motd=${GPU_READY_MOTD:-/run/motd.d/50-gpu-ready}
patience=${GPU_READY_WAIT:-120} # seconds for what is still starting

# shellcheck disable=SC1091 # rendered for each machine
. "$etc/machine.env" || exit 1

driver=
engine=

check_driver() {
    local gpus count products wanted=$((GPU_COUNT > 0 ? GPU_COUNT : 1))
    if [ -z "$GPU_PACKAGES" ]; then
        echo "no GPU is configured"
        return 2
    fi
    if [ ! -r /proc/driver/nvidia/version ]; then
        echo "the NVIDIA driver is not loaded; 'journalctl -k -g nvidia' says why"
        return 1
    fi
    if ! command -v nvidia-smi >/dev/null; then
        echo "nvidia-smi is missing; run install.sh in /usr/local/lib/gpustrap again"
        return 1
    fi
    if ! gpus=$(nvidia-smi -L 2>&1); then
        echo "nvidia-smi: ${gpus%%$'\n'*}"
        return 1
    fi
    count=$(grep -c '^GPU [0-9]' <<<"$gpus")
    products=$(sed -n 's/^GPU [0-9]*: \(.*\) (UUID.*/\1/p' <<<"$gpus" | sort -u | paste -s -d , -)
    if [ "$count" -lt "$wanted" ]; then
        echo "the driver sees $count of $wanted GPUs; see 'lspci -d 10de:' and 'journalctl -k -g NVRM'"
        return 1
    fi
    driver="$count x $products, driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)"
    echo "$driver"
}

check_docker() {
    local version
    if [ "$DOCKER" != 1 ]; then
        echo "Docker is not configured"
        return 2
    fi
    if ! command -v docker >/dev/null; then
        echo "docker is missing; run install.sh in /usr/local/lib/gpustrap again"
        return 1
    fi
    if ! version=$(docker version --format '{{.Server.Version}}' 2>&1); then
        echo "Docker is not up: ${version##*$'\n'}; see 'systemctl status docker'"
        return 1
    fi
    engine="Docker $version"
    echo "$engine"
}

check_runtime() {
    if [ "$DOCKER" != 1 ] || [ "$TOOLKIT" != 1 ]; then
        echo "the container toolkit is not configured for Docker"
        return 2
    fi
    if ! docker info --format '{{range $name, $_ := .Runtimes}}{{$name}}{{"\n"}}{{end}}' 2>/dev/null | grep -qx nvidia; then
        echo "Docker has no runtime nvidia; run 'nvidia-ctk runtime configure --runtime=docker' and restart Docker"
        return 1
    fi
    echo "Docker has the runtime nvidia"
}

check_cdi() {
    if [ -z "$GPU_PACKAGES" ] || [ "$TOOLKIT" != 1 ]; then
        echo "no GPU is configured for containers"
        return 2
    fi
    if ! nvidia-ctk cdi list 2>/dev/null | grep -qxF nvidia.com/gpu=all; then
        echo "the CDI specification has no nvidia.com/gpu=all; see 'systemctl status nvidia-cdi-refresh'"
        return 1
    fi
    echo "containers can be given nvidia.com/gpu=all"
}

json_string() {
    local text=$1
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    text=$(tr '\000-\037' ' ' <<<"$text")
    printf '"%s"' "${text% }"
}

# attempt CHECK: repeats it until it does not fail or patience is over; what is
# tested may still be starting. Sets status and text.
attempt() {
    while :; do
        "$1" >"$found"
        status=$?
        text=$(<"$found")
        if [ "$status" != 1 ] || [ "$SECONDS" -ge "$patience" ]; then
            return
        fi
        sleep 2
    done
}

found=$(mktemp)
trap 'rm -f "$found"' EXIT
ready=true
wrong=
checks=
for check in driver docker runtime cdi; do
    attempt "check_$check"
    case $status in
    0) result=pass ;;
    2) result="not applicable" ;;
    *)
        result=fail
        ready=false
        wrong=${wrong:-$text}
        ;;
    esac
    checks+="${checks:+,}"$'\n'"    {\"name\": \"$check\", \"result\": \"$result\", \"text\": $(json_string "$text")}"
done

if $ready; then
    line="GPU-ready: ${driver:-no GPU}, ${engine:-no Docker}"
else
    line="NOT GPU-ready: $wrong"
fi
json="{
  \"version\": 1,
  \"machine\": $(json_string "$MACHINE"),
  \"ready\": $ready,
  \"line\": $(json_string "$line"),
  \"checks\": [$checks
  ]
}"

if [ "${1:-}" = --json ]; then
    printf '%s\n' "$json"
else
    printf '%s\n' "$line"
fi
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$(dirname -- "$receipt")" "$(dirname -- "$motd")"
    printf '%s\n' "$json" >"$receipt"
    printf '%s\n' "$line" >"$motd"
fi
$ready
