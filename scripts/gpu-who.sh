#!/bin/bash
# Says which user and which container holds which GPU, and how much of its
# memory: a line for each process, and one for each GPU that nobody holds.
# Everybody may run it. Only root, and who is in the docker group, gets the
# names of containers rather than their ids; only root sees processes of others
# that have a GPU open and no memory on it.
set -u

proc=${GPUSTRAP_ROOT:-}/proc # the root is another one in tests

if ! command -v nvidia-smi >/dev/null; then
    echo "gpu-who: nvidia-smi is missing; gpu-ready says more" >&2
    exit 1
fi
if ! gpus=$(nvidia-smi --query-gpu=index,uuid,memory.used,memory.total --format=csv,noheader,nounits 2>&1); then
    echo "gpu-who: ${gpus%%$'\n'*}; gpu-ready says more" >&2
    exit 1
fi
declare -A index_of=() index_at=()
while IFS=', ' read -r index uuid _; do index_of[$uuid]=$index; done <<<"$gpus"
for file in "$proc"/driver/nvidia/gpus/*/information; do
    [ -r "$file" ] || continue
    uuid=$(awk '/^GPU UUID/ { print $3 }' "$file")
    minor=$(awk '/^Device Minor/ { print $3 }' "$file")
    index_at[${minor:--}]=${index_of[$uuid]:-}
done

# with_memory prints the processes with memory on a GPU, as the driver knows
# them: index, process, MiB.
with_memory() {
    local uuid pid mib
    nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory --format=csv,noheader,nounits 2>/dev/null |
        while IFS=', ' read -r uuid pid mib; do
            [ -z "${index_of[$uuid]:-}" ] || echo "${index_of[$uuid]} $pid $mib"
        done
}

# with_device prints the processes that have a GPU open, but for the driver's own.
with_device() {
    local pid minor
    find "$proc"/[0-9]*/fd -lname '/dev/nvidia[0-9]*' -printf '%h %l\n' 2>/dev/null |
        sed -n 's|.*/\([0-9]*\)/fd /dev/nvidia\([0-9]*\)$|\1 \2|p' | while read -r pid minor; do
        case $(cat "$proc/$pid/comm" 2>/dev/null) in
        '' | nvidia-persiste* | nv-hostengine | nv-fabricmanage* | nvidia-smi) ;;
        *) [ -z "${index_at[$minor]:-}" ] || echo "${index_at[$minor]} $pid -" ;;
        esac
    done
}

# owner PID: its user, also of one who is root in a container of their own.
owner() {
    local uid name
    uid=$(stat -c %u "$proc/$1" 2>/dev/null) || return
    name=$(getent passwd "$uid" | cut -d : -f 1)
    [ -n "$name" ] || name=$(awk -F: -v uid="$uid" '$2 <= uid && uid < $2 + $3 { print $1; exit }' /etc/subuid 2>/dev/null)
    echo "${name:-$uid}"
}

# container PID: the name of its container, or the beginning of its id.
container() {
    local id name
    id=$(grep -oE '[0-9a-f]{64}' "$proc/$1/cgroup" 2>/dev/null | tail -n 1)
    [ -n "$id" ] || return
    name=$(awk -v id="$id" '$1 == id { print $2 }' <<<"$containers")
    echo "${name:-${id:0:12}}"
}

row() { printf '%-4s %-11s %-12s %-20s %-8s %s\n' "$@"; }

containers=$(docker ps --no-trunc --format '{{.ID}} {{.Names}}' 2>/dev/null)
holders=$({ with_memory; with_device; } | awk '!seen[$1, $2]++')
row GPU MEMORY USER CONTAINER PID COMMAND
while IFS=', ' read -r index _ used total; do
    if ! grep -q "^$index " <<<"$holders"; then
        row "$index" - nobody - - "$used of $total MiB in use"
        continue
    fi
    awk -v index_="$index" '$1 == index_' <<<"$holders" | sort -k 3,3nr -k 2,2n | while read -r _ pid mib; do
        case $mib in *[!0-9]*) mib=- ;; *) mib="$mib MiB" ;; esac
        user=$(owner "$pid") box=$(container "$pid")
        command=$(tr '\000' ' ' <"$proc/$pid/cmdline" 2>/dev/null)
        row "$index" "$mib" "${user:--}" "${box:--}" "$pid" "${command:0:60}"
    done
done <<<"$gpus"
