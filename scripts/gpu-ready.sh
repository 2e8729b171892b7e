#!/bin/bash
# Proves that this machine is GPU- and container-ready and says so: one line on
# standard output, one in the message of the day, and a receipt in JSON.
#   gpu-ready           runs every check and prints the line
#   gpu-ready --short   leaves out what takes minutes: dcgmi diag
#   gpu-ready --json    prints the receipt
#   gpu-ready --report  sends the receipt to READY_REPORT, too
#   gpu-ready --boot    as the unit does: --short once all checks have passed, and --report
# It ends with 0 when every check passed or does not apply, with 1 when one failed.
#
# Each check prints what it found in one line, and what to do in a second one
# when it fails. It returns 0 for pass, 1 for fail, 2 for not applicable.
set -u

PATH=$PATH:/usr/sbin:/sbin
etc=${GPUSTRAP_ETC:-/etc/gpustrap}
receipt=${GPU_READY_RECEIPT:-/var/lib/gpustrap/ready.json}
motd=${GPU_READY_MOTD:-/run/motd.d/50-gpu-ready}
patience=${GPU_READY_WAIT:-120} # seconds for what is still starting
root=${GPUSTRAP_ROOT:-} # of what is looked at, in tests

depth=full print=line report=no
for arg in "$@"; do
    case $arg in
    --short) depth=short ;;
    --json) print=json ;;
    --report) report=yes ;;
    --boot)
        report=yes
        [ ! -e "$(dirname -- "$receipt")/proven" ] || depth=short
        ;;
    *)
        echo "gpu-ready: unknown argument $arg; usage: gpu-ready [--short] [--json] [--report]" >&2
        exit 2
        ;;
    esac
done

# What the machine chose by its own GPUs comes after what was rendered for it.
# shellcheck disable=SC1091 # rendered for each machine
. "$etc/machine.env" || exit 1
# shellcheck disable=SC1091 # written by driver.sh
[ ! -e "$etc/stack.env" ] || . "$etc/stack.env"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
image=gpustrap/gpu-ready
declare -A result=() text=() action=()
on_bus=0  # NVIDIA GPUs on the PCI bus
gpus=0    # those that the driver sees
products= # their names
driver=   # version of the kernel module
flavour=
engine= # version of Docker
# What these ask may still be starting.
racing="driver fabric docker runtime cdi container_gpus"

as_root() { [ "$(id -u)" = 0 ]; }

# A GPU that has fallen off its bus can keep nvidia-smi waiting for ever.
smi() { timeout 60 nvidia-smi "$@"; }

read_file() { cat "$1" 2>/dev/null || true; }

# fails WHAT ACTION: what a failed check prints and returns.
fails() {
    printf '%s\n%s\n' "$1" "$2"
    return 1
}

# idle REASON: the same of a check that does not apply.
idle() {
    echo "$1"
    return 2
}

# without CHECK: whether a check on which others depend did not pass; says so.
without() {
    [ "${result[$1]}" != pass ] || return 1
    if [ "${result[$1]}" = fail ]; then
        echo "not tried, since the check $1 failed"
    else
        echo "${text[$1]}"
    fi
}

# without_gpus: whether the driver shows no GPU to look at.
without_gpus() {
    [ "$gpus" = 0 ] || return 1
    without driver
}

check_pci() {
    local device id seen=() strangers=() wanted=$GPU_COUNT
    [ -n "$GPU_PACKAGES" ] || idle "no GPU is configured" || return
    for device in "$root"/sys/bus/pci/devices/*; do
        [ "$(read_file "$device/vendor")" = 0x10de ] || continue
        case $(read_file "$device/class") in 0x0300* | 0x0302*) ;; *) continue ;; esac
        id=$(read_file "$device/device")
        id=10de:${id#0x}
        seen+=("$id")
        case " ${GPU_PCI:-$id} " in *" $id "*) ;; *) strangers+=("$id at ${device##*/}") ;; esac
    done
    on_bus=${#seen[@]}
    if [ "$on_bus" = 0 ]; then
        fails "no NVIDIA GPU is on the PCI bus" "see 'lspci -d 10de:', the firmware's PCI settings, and the GPU's seat and power"
    elif [ ${#strangers[@]} -gt 0 ]; then
        fails "${strangers[0]} is not the GPU that is configured (${GPU_PCI// /, })" \
            "set gpu in gpustrap.yaml to what is in the machine, and render it again"
    elif [ "$wanted" != 0 ] && [ "$on_bus" != "$wanted" ]; then
        fails "$on_bus of $wanted GPUs are on the PCI bus" \
            "see 'lspci -d 10de:' and 'journalctl -k -g NVRM'; if the number is right, set gpu.count in gpustrap.yaml"
    else
        printf '%s\n' "${seen[@]}" | sort | uniq -c | awk '{ printf "%s%s x %s", sep, $1, $2; sep = ", " } END { print " on the PCI bus" }'
    fi
}

check_driver() {
    local list version
    [ "${result[pci]}" != "not applicable" ] || idle "${text[pci]}" || return
    [ "$on_bus" != 0 ] || idle "no GPU is here to drive" || return
    version=$(read_file "$root/proc/driver/nvidia/version" | head -n 1)
    if [ -z "$version" ]; then
        fails "the NVIDIA driver is not loaded" "'modprobe nvidia' and 'journalctl -k -g nvidia' say why"
        return
    fi
    driver=$(grep -oE '\b[0-9]{3,}\.[0-9]+(\.[0-9]+)?\b' <<<"$version" | head -n 1)
    flavour=proprietary
    case $version in *"Open Kernel Module"*) flavour=open ;; esac
    if ! command -v nvidia-smi >/dev/null; then
        fails "nvidia-smi is missing" "run install.sh in /usr/local/lib/gpustrap again"
        return
    fi
    if ! list=$(smi -L 2>&1); then
        fails "nvidia-smi: ${list%%$'\n'*}" "after an update, reboot; 'journalctl -k -g NVRM' says more"
        return
    fi
    gpus=$(grep -c '^GPU [0-9]' <<<"$list")
    products=$(sed -n 's/^GPU [0-9]*: \(.*\) (UUID.*/\1/p' <<<"$list" | sort -u | paste -s -d , -)
    if [ "$gpus" -lt "$on_bus" ]; then
        fails "the driver sees $gpus of the $on_bus GPUs on the PCI bus" "'journalctl -k -g NVRM' says why; power the machine off and on"
    else
        echo "driver $driver, $flavour modules, sees $gpus x $products"
    fi
}

# library NAME: the file that programs get for a library.
library() {
    local folder path
    for folder in ${LD_LIBRARY_PATH:+${LD_LIBRARY_PATH//:/ }}; do
        if [ -e "$folder/$1" ]; then
            readlink -f "$folder/$1"
            return
        fi
    done
    path=$(ldconfig -p 2>/dev/null | awk -v name="$1" '$1 == name { print $NF; exit }')
    [ -z "$path" ] || readlink -f "$path"
}

check_versions() {
    local name path version branch=${GPU_BRANCH%%-*} parts="kernel modules"
    without_gpus && return 2
    if [ -n "$branch" ] && [ "${driver%%.*}" != "$branch" ]; then
        fails "the driver is $driver, and branch $GPU_BRANCH is configured" \
            "run install.sh in /usr/local/lib/gpustrap again, or set gpu.driver in gpustrap.yaml, and reboot"
        return
    fi
    for name in libcuda.so.1 libnvidia-ml.so.1; do
        path=$(library "$name")
        version=${path##*.so.}
        if [ -z "$path" ]; then
            fails "the library $name is missing" "run install.sh in /usr/local/lib/gpustrap again"
            return
        elif [ "$version" != "$driver" ]; then
            fails "$name is of version $version, the driver loaded is $driver" \
                "reboot; if it stays so, run install.sh in /usr/local/lib/gpustrap again"
            return
        fi
        parts+=", $name"
    done
    if command -v nv-fabricmanager >/dev/null; then
        version=$(nv-fabricmanager --version 2>&1 | grep -oE '[0-9]+\.[0-9.]*[0-9]' | head -n 1)
        if [ "$version" != "$driver" ]; then
            fails "the Fabric Manager is of version $version, the driver is $driver" \
                "install nvidia-fabricmanager of version $driver, and reboot"
            return
        fi
        parts+=", Fabric Manager"
    fi
    echo "$parts: all $driver"
}

# details: what nvidia-smi -q says, a line a value: GPU|SECTION/…/NAME|VALUE
details() {
    smi -q 2>/dev/null | awk '
        /^GPU / { gpu = $2; next }
        gpu == "" || !match($0, /^ +/) { next }
        {
            depth = int(RLENGTH / 4); line = substr($0, RLENGTH + 1)
            at = index(line, " : "); name = at ? substr(line, 1, at - 1) : line
            sub(/ +$/, "", name); path[depth] = name
            if (!at) next
            for (i = 1; i < depth; i++) printf "%s%s", i == 1 ? gpu "|" : "", path[i] "/"
            print (depth == 1 ? gpu "|" : "") name "|" substr(line, at + 3)
        }'
}

check_fabric() {
    local wrong states unit=nvidia-fabricmanager.service
    without_gpus && return 2
    case " $GPU_SERVICES " in
    *" ${unit%.service}"*)
        if [ -d "$root/run/systemd/system" ] && ! systemctl -q is-active "$unit"; then
            fails "the Fabric Manager is not running" "'systemctl status $unit' and /var/log/fabricmanager.log say why"
            return
        fi
        ;;
    esac
    states=$(details | awk -F'|' '$2 == "Fabric/State" && $3 !~ /N\/A|Not Supported/')
    [ -n "$states" ] || idle "these GPUs are in no NVLink fabric" || return
    wrong=$(awk -F'|' '$3 != "Completed" { print "the fabric state of GPU " $1 " is " $3 ", not Completed"; exit }' <<<"$states")
    [ -z "$wrong" ] || fails "$wrong" "'systemctl status $unit' and /var/log/fabricmanager.log say why" || return
    echo "the fabric state of every GPU is Completed"
}

check_memory() {
    local said
    without_gpus && return 2
    said=$(details | awk -F'|' '
        function wrong(what, todo) { print "GPU " $1 " " what "\n" todo; bad = 1; exit }
        $2 == "GPU Recovery Action" && $3 !~ /^(None|N\/A)$/ { wrong("asks for: " $3, "do that; \x27nvidia-smi -q\x27 says more") }
        $2 == "ECC Mode/Current" { mode = $3; if (mode == "Enabled") ecc++ }
        $2 == "ECC Mode/Pending" && $3 != mode { wrong("changes its ECC mode at the next boot", "reboot") }
        $2 ~ /^ECC Errors\/Volatile\/.*(Uncorrectable|Double Bit)/ && $3 + 0 > 0 {
            wrong("has " $3 + 0 " uncorrectable memory errors", "reboot, and see \x27nvidia-smi -q -d ECC,ROW_REMAPPER\x27")
        }
        $2 ~ /(Remapping Failure Occurred|Unrepairable Memory)$/ && $3 == "Yes" {
            wrong("has memory that cannot be repaired", "have the GPU replaced")
        }
        $2 ~ /^(Remapped Rows\/Pending|Retired Pages\/Pending.*|.*Repair Pending)$/ && $3 == "Yes" {
            wrong("has a memory repair pending", "reboot")
        }
        END { if (!bad) print ecc + 0 }')
    case $said in
    0) idle "the GPUs have no ECC memory, or it is off" ;;
    "" | *[!0-9]*) fails "${said%%$'\n'*}" "${said#*$'\n'}" ;;
    *) echo "ECC is on, no uncorrectable error, no row to remap" ;;
    esac
}

check_reboot() {
    local installed packages
    if [ -e "$root/run/reboot-required" ]; then
        packages=$(sort -u "$root/run/reboot-required.pkgs" 2>/dev/null | paste -s -d ' ' -)
        fails "a reboot is pending${packages:+, for $packages}" "reboot"
        return
    fi
    installed=$(modinfo -F version nvidia 2>/dev/null)
    if [ -n "$driver" ] && [ -n "$installed" ] && [ "$installed" != "$driver" ]; then
        fails "the driver $installed is installed and $driver is loaded" "reboot"
        return
    fi
    echo "no reboot is pending"
}

check_docker() {
    local said
    [ "$DOCKER" = 1 ] || idle "Docker is not configured" || return
    command -v docker >/dev/null || fails "docker is missing" "run install.sh in /usr/local/lib/gpustrap again" || return
    said=$(docker version --format '{{.Server.Version}}' 2>&1) ||
        fails "Docker is not up: ${said##*$'\n'}" "'systemctl status docker' and 'journalctl -u docker' say why" || return
    engine=$said
    echo "Docker $engine is up"
}

check_runtime() {
    without docker && return 2
    [ "$TOOLKIT" = 1 ] || idle "the container toolkit is not configured" || return
    if ! docker info --format '{{range $name, $_ := .Runtimes}}{{$name}}{{"\n"}}{{end}}' 2>/dev/null | grep -qx nvidia; then
        fails "Docker has no runtime nvidia" "'nvidia-ctk runtime configure --runtime=docker', then restart Docker"
        return
    fi
    echo "Docker has the runtime nvidia"
}

# cdi_file: the specification that counts; of two the one in /run.
cdi_file() {
    grep -ls '^kind: *"\?nvidia.com/gpu"\?' "$root"/etc/cdi/*.yaml "$root"/var/run/cdi/*.yaml | tail -n 1
}

check_cdi() {
    local devices index file missing again="'systemctl restart nvidia-cdi-refresh.service', then 'systemctl status' of it"
    [ "$TOOLKIT" = 1 ] || idle "the container toolkit is not configured" || return
    without_gpus && return 2
    devices=$(nvidia-ctk cdi list 2>/dev/null)
    grep -qxF nvidia.com/gpu=all <<<"$devices" ||
        fails "there is no CDI specification with nvidia.com/gpu=all" "$again" || return
    for ((index = 0; index < gpus; index++)); do
        grep -qE "^nvidia.com/gpu=$index(:|\$)" <<<"$devices" ||
            fails "the CDI specification lacks GPU $index of $gpus" "$again" || return
    done
    file=$(cdi_file)
    missing=$(sed -n 's/^ *\(- \)\?hostPath: *//p' ${file:+"$file"} </dev/null | sort -u | while read -r path; do
        [ -e "$path" ] || echo "$path"
    done | head -n 1)
    [ -z "$missing" ] || fails "the CDI specification $file names $missing, which is not there" "$again" || return
    echo "containers can be given nvidia.com/gpu=all and each of $gpus GPUs"
}

# make_image: a container image of a shell, of the dynamic linker and of the
# libraries that nvidia-smi needs besides those that come with the GPUs.
make_image() {
    local tree=$work/image shell program file
    shell=$(command -v busybox || ls /usr/lib/initramfs-tools/bin/busybox 2>/dev/null || command -v sh)
    mkdir -p "$tree/bin" "$tree/etc"
    cp "$shell" "$tree/bin/sh" || return
    for program in "$shell" "$(command -v nvidia-smi)"; do
        ldd "$program" 2>/dev/null | grep -o '/[^ ]*'
    done | sort -u | while read -r file; do cp --parents -L "$file" "$tree/"; done
    docker rmi -f "$image" >/dev/null 2>&1
    tar -C "$tree" -c . | { docker import - "$image" >/dev/null; } 2>&1
}

# contained ARGUMENT…: docker run in that image.
contained() { timeout 120 docker run --rm --network none --pull never "$@" 2>&1; }

check_container() {
    local said
    without docker && return 2
    if [ "$depth" = full ] || ! docker image inspect "$image" >/dev/null 2>&1; then
        said=$(make_image) || fails "no container image can be made: $said" \
            "'df -h /var/lib/docker' and 'journalctl -u docker' say why" || return
    fi
    said=$(contained "$image" /bin/sh -c 'echo up')
    [ "$said" = up ] || fails "a container does not run: ${said%%$'\n'*}" "'journalctl -u docker -u containerd' says why" || return
    echo "a container runs"
}

check_container_gpus() {
    local said seen
    [ "$TOOLKIT" = 1 ] || idle "the container toolkit is not configured" || return
    without container && return 2
    without_gpus && return 2
    without cdi && return 2
    said=$(contained --device nvidia.com/gpu=all "$image" "$(command -v nvidia-smi)" -L)
    seen=$(grep -c '^GPU [0-9]' <<<"$said")
    [ "$seen" != 0 ] || fails "a container does not get the GPUs: ${said%%$'\n'*}" \
        "restart Docker, then try 'docker run --rm --device nvidia.com/gpu=all'; 'journalctl -u docker' says more" || return
    [ "$seen" = "$gpus" ] || fails "a container sees $seen of $gpus GPUs" "'systemctl restart nvidia-cdi-refresh.service'" || return
    echo "a container sees $seen x $products"
}

check_dcgm() {
    local said level=${READY_DCGMI:-0}
    [ "$level" != 0 ] || idle "no dcgmi diag is configured" || return
    [ "$depth" = full ] || idle "left out of a short run" || return
    without_gpus && return 2
    said=$(timeout 1500 dcgmi diag -r "$level" 2>&1) || {
        said=$(grep -im 1 -E 'fail|error' <<<"$said" | tr -s '| ' ' ' | sed 's/^ //; s/ $//')
        fails "dcgmi diag -r $level: $said" "'dcgmi diag -r $level -v' says more"
        return
    }
    echo "dcgmi diag -r $level passed"
}

# attempt CHECK: repeats one that fails, where what it asks may still be
# starting, until it does not fail or patience is over.
attempt() {
    local status tries=0
    while :; do
        "check_$1" >"$work/found"
        status=$?
        case " $racing " in *" $1 "*) ;; *) break ;; esac
        if [ "$status" != 1 ] || [ "$SECONDS" -ge "$patience" ]; then break; fi
        # The device nodes may have come after the specification was made.
        if [ "$1" = cdi ] && [ $((++tries)) = 3 ] && as_root && [ -d "$root/run/systemd/system" ]; then
            systemctl restart nvidia-cdi-refresh.service
        fi
        sleep 2
    done
    { read -r "text[$1]"; read -r "action[$1]"; } <"$work/found"
    case $status in
    0) result[$1]=pass ;;
    2) result[$1]="not applicable" ;;
    *) result[$1]=fail ;;
    esac
}

json_string() {
    local string=$1
    string=${string//\\/\\\\}
    string=${string//\"/\\\"}
    printf '"%s"' "${string//[[:cntrl:]]/ }"
}

# json_fields NAME VALUE…: the members of an object, all of them strings.
json_fields() {
    local sep=
    while [ $# -gt 0 ]; do
        printf '%s"%s": %s' "$sep" "$1" "$(json_string "$2")"
        sep=', '
        shift 2
    done
}

json_gpus() {
    local sep='' index name bus uuid serial memory vbios
    [ "$gpus" != 0 ] || return
    smi --query-gpu=index,name,pci.bus_id,uuid,serial,memory.total,vbios_version --format=csv,noheader,nounits 2>/dev/null |
        while IFS=, read -r index name bus uuid serial memory vbios; do
            case $memory in *[!0-9\ ]*) memory=' null' ;; esac
            printf '%s\n    {"index": %s, %s, "memory_mib":%s}' "$sep" "$index" "$(json_fields name "${name# }" bus "${bus# }" \
                uuid "${uuid# }" serial "${serial# }" vbios "${vbios# }")" "$memory"
            sep=,
        done
}

json_receipt() {
    local check sep=
    printf '{\n  "version": 1,\n  %s,\n  "ready": %s,\n' \
        "$(json_fields machine "$MACHINE" time "$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
            boot "$(read_file "$root/proc/sys/kernel/random/boot_id")" depth "$depth")" "$ready"
    printf '  %s,\n' "$(json_fields line "$line" action "$todo")"
    printf '  "system": {%s},\n' "$(json_fields os "$(. /etc/os-release && echo "${PRETTY_NAME:-}")" kernel "$(uname -r)" \
        arch "$(uname -m)" product "$(read_file "$root/sys/class/dmi/id/product_name")")"
    printf '  "software": {%s},\n' "$(json_fields driver "$driver" modules "$flavour" docker "$engine" \
        toolkit "$(nvidia-ctk --version 2>/dev/null | grep -oE '[0-9]+\.[0-9.]*[0-9]' | head -n 1)")"
    printf '  "gpus": [%s\n  ],\n  "checks": [' "$(json_gpus)"
    for check in $checks; do
        printf '%s\n    {%s}' "$sep" "$(json_fields name "$check" result "${result[$check]}" \
            text "${text[$check]}" action "${action[$check]}")"
        sep=,
    done
    printf '\n  ]\n}\n'
}

# hmac FILE: HMAC-SHA256 (RFC 2104) of a file under the machine's token, in
# hexadecimal. It is made of sha256sum, so that the token is in no command line.
hmac() {
    local key inner='' outer='' i
    key=$(tr -d '\r\n' <"$etc/token" | od -An -v -tx1 | tr -d ' \n')
    [ ${#key} -le 128 ] || key=$(tr -d '\r\n' <"$etc/token" | sha256sum | cut -d ' ' -f 1)
    while [ ${#key} -lt 128 ]; do key+=00; done
    for ((i = 0; i < 128; i += 2)); do
        printf -v inner '%s\\x%02x' "$inner" $((0x${key:i:2} ^ 0x36))
        printf -v outer '%s\\x%02x' "$outer" $((0x${key:i:2} ^ 0x5c))
    done
    inner=$({ printf '%b' "$inner"; cat "$1"; } | sha256sum | cut -d ' ' -f 1 | sed 's/../\\x&/g')
    printf '%b' "$outer$inner" | sha256sum | cut -d ' ' -f 1
}

send() {
    local headers=(-H 'Content-Type: application/json')
    if [ -r "$etc/token" ]; then
        headers+=(-H "X-Gpustrap-Signature: sha256=$(hmac "$work/receipt")")
    fi
    curl -fsS --max-time 30 --retry 10 --retry-all-errors --retry-max-time "${GPU_READY_SEND:-300}" \
        "${headers[@]}" --data-binary @"$work/receipt" -o /dev/null "$READY_REPORT" ||
        echo "gpu-ready: the receipt did not reach $READY_REPORT" >&2
}

# keep FILE: writes a file whole or not at all.
keep() {
    mkdir -p "$(dirname -- "$1")"
    cat >"$1.new" && mv -f "$1.new" "$1"
}

! as_root || echo "gpu-ready is still checking this machine" | keep "$motd"
ready=true line='' todo=''
checks="pci driver versions fabric memory reboot docker runtime cdi container container_gpus dcgm"
for check in $checks; do
    attempt "$check"
    if [ "${result[$check]}" = fail ] && $ready; then
        ready=false
        line="NOT GPU-ready: ${text[$check]}"
        todo=${action[$check]}
    fi
done
if $ready; then
    line="GPU-ready: no GPU"
    [ "$gpus" = 0 ] || line="GPU-ready: $gpus x $products, driver $driver"
    line+=", ${engine:+Docker }${engine:-no Docker}"
fi
json_receipt >"$work/receipt"

case $print in
json) cat "$work/receipt" ;;
line) printf '%s\n' "$line${todo:+; $todo}" ;;
esac
if as_root; then
    keep "$receipt" <"$work/receipt"
    printf '%s\n' "$line${todo:+; $todo}" | keep "$motd"
    if $ready && [ "$depth" = full ]; then : >"$(dirname -- "$receipt")/proven"; fi
fi
if [ "$report" = yes ] && [ -n "${READY_REPORT:-}" ]; then send; fi
$ready
