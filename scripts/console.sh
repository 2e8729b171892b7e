#!/bin/bash
# Shows on the consoles who this machine is: host name, addresses, the ssh line,
# and what the boot is still doing. It stands above the login prompt, and each
# change is a line on the kernel's console. It ends when the boot has.
set -u

etc=${GPUSTRAP_ETC:-/etc/gpustrap}
run=${GPUSTRAP_ISSUE:-/run/issue.d}
console=${GPUSTRAP_CONSOLE:-/dev/console}
motd=${GPU_READY_MOTD:-/run/motd.d/50-gpu-ready}
pause=${GPUSTRAP_PAUSE:-2}
patience=${GPUSTRAP_PATIENCE:-1800} # looks

user=$(cat "$etc/console" 2>/dev/null)

# addresses prints interface and address, containers' networks left out.
addresses() {
    ip -o addr show scope global 2>/dev/null |
        awk '$2 !~ /^(docker|br-|veth|virbr|cni|cali|flannel)/ && !/ temporary / { sub("/.*", "", $4); print $2, $4 }'
}

# doing prints what the boot is at: the jobs that run, by the words of their units.
doing() {
    local job unit kind state what=
    while read -r job unit kind state; do
        if [ "${job:+$kind $state}" != "start running" ]; then continue; fi
        what+="${what:+, }$(systemctl show -p Description --value "$unit" 2>/dev/null)"
    done <<<"$(systemctl list-jobs --no-legend --no-pager 2>/dev/null)"
    echo "$what"
}

# outcome prints how the boot ended.
outcome() {
    local failed
    if [ -s "$motd" ]; then
        head -n 1 "$motd"
        return
    fi
    failed=$(systemctl list-units --failed --plain --no-legend --no-pager 2>/dev/null | cut -d ' ' -f 1 | paste -s -d ' ' -)
    if [ -n "$failed" ]; then echo "started, but these failed: $failed"; else echo "started"; fi
}

shown=
for ((look = 0; look < patience; look++)); do
    state=$(systemctl is-system-running 2>/dev/null)
    work=$(doing)
    where=$(addresses)
    case $state in
    initializing | starting) now="starting${work:+: $work}" ;;
    *) now=$(outcome) ;;
    esac
    first=$(awk 'NR == 1 { print $2 }' <<<"$where")
    login=${first:+ssh $user@$first}
    line="$(hostname): ${login:-no address yet}; $now"
    if [ "$line" != "$shown" ]; then
        shown=$line
        mkdir -p "$run"
        {
            hostname
            [ -z "$where" ] || echo "  ${where//$'\n'/$'\n'  }"
            echo "  ${login:-no address yet}"
            echo "  $now"
            echo
        } | tr -d '\134' >"$run/50-gpustrap.issue.new"
        mv "$run/50-gpustrap.issue.new" "$run/50-gpustrap.issue"
        printf 'gpustrap: %s\r\n' "$line" >"$console" 2>/dev/null
        agetty --reload 2>/dev/null
    fi
    case $state in
    running | degraded | maintenance) [ -z "$first" ] || break ;;
    esac
    sleep "$pause"
done
