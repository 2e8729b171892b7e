#!/bin/bash
# Runs in the installer, from error-commands, when an installation failed. It
# says in one sentence which step failed, at which command, and what to do; shows
# the end of the log; keeps the logs on the medium's partition for them and on
# the target disk, where there is one; tells the report address; and lets the
# configuration's SSH keys in for a look.
#   failed.sh MACHINE [REPORT]
# The keys are on standard input.
set -u

run=${GPUSTRAP_RUN:-/run/gpustrap}
machine=$(cat "$run/machine" 2>/dev/null || echo "$1") # pick-machine.sh knows better
report=${2:-}
logs=${GPUSTRAP_LOGS:-/var/log/installer}
target=${TARGET_MOUNT_POINT:-/target}
home=${GPUSTRAP_ROOT_HOME:-/root}
sysfs=${GPUSTRAP_SYSFS:-/sys}
dev=${GPUSTRAP_DEV:-/dev}
install_log=$target/var/log/gpustrap/install.log
debug_log=$(find "$logs" -maxdepth 1 -name '*server-debug.log*' 2>/dev/null | head -n 1)

# event KIND NAME: what the installer's log has last said of a step.
event() { sed -n "s|.*$1: $2: ||p" "$debug_log" 2>/dev/null | tail -n 1; }

# describe sets sentence, advice, log and failed: a guard's own words, those of one
# of gpustrap's steps, or what the installer's log has. The innermost step ends first.
describe() {
    local name step command last
    name=$(sed -n 's|.*finish: \(subiquity/[^ :]*\): FAIL.*|\1|p' "$debug_log" 2>/dev/null | head -n 1)
    case $name in
    */Early/*) step="the early-commands" ;;
    */Late/*) step="the late-commands" ;;
    */curtin_install*) step="writing the system to the disk" ;;
    */postinstall*) step="setting up the written system" ;;
    */Filesystem/*) step="planning the partitions" ;;
    */Mirror/* | */configure_apt*) step="looking for a package mirror" ;;
    '') step="an unknown step" ;;
    *) step=${name#subiquity/} ;;
    esac
    failed=${name:-nothing}
    command=$(event start "$name")
    command=${command%%$'\n'*}
    case $command in 'INFO: '* | 'DEBUG: '*) command=${command#*: } ;; esac
    log=$debug_log
    advice="read $logs, correct gpustrap.yaml or what it refers to, and start again"
    if [ -s "$run/failure" ]; then
        sentence="the installation of $machine stopped, and nothing was written: $(head -n 1 "$run/failure")"
        advice=$(tail -n +2 "$run/failure")
        return
    fi
    sentence="the installation of $machine failed in $step"
    [ -z "$command" ] || sentence+=", at the command: ${command:0:200}"
    last=$(grep -E '^gpustrap: ' "$install_log" 2>/dev/null | tail -n 1)
    if [ -n "$last" ]; then
        sentence+=" (${last#gpustrap: })"
        log=$install_log
        advice="read $install_log, correct gpustrap.yaml or what it refers to, and start again"
    elif [ -n "$name" ]; then
        sentence+=": $(event finish "$name" | sed 's/^FAIL:\{0,1\} *//')"
    fi
}

# let_in: only keys, only root's, only in this live system's memory.
let_in() {
    local address
    cat >"$run/keys"
    [ -s "$run/keys" ] || return 0
    mkdir -p "$home/.ssh" && chmod 700 "$home/.ssh"
    cat "$run/keys" >>"$home/.ssh/authorized_keys"
    chmod 600 "$home/.ssh/authorized_keys"
    ssh-keygen -A >/dev/null 2>&1
    systemctl start ssh.service 2>/dev/null || systemctl start ssh.socket 2>/dev/null ||
        /usr/sbin/sshd 2>/dev/null || { echo "no SSH server runs in this live system" && return 0; }
    for address in $(hostname -I 2>/dev/null); do
        echo "for a look: ssh root@$address"
    done
}

# keep FOLDER: what is installed holds the password hashes already; of the
# installer's files only logs leave this machine's memory.
keep() {
    local folder=$1/gpustrap-failed/$machine
    mkdir -p "$folder" && cp "$run/failed" "$folder/failed.txt" || return 1
    for file in "$logs"/*.log "$logs"/*.log.[0-9]* "$install_log" "$run/journal.log"; do
        [ ! -f "$file" ] || cp "$file" "$folder/" || return 1
    done
    sync
    echo "the logs are on $2 in ${folder#"$1"}"
}

# keep_on_medium: the partition is on the disk that the live system runs from.
keep_on_medium() {
    local source disk partition
    source=$(findmnt -n -o SOURCE --mountpoint /cdrom) || return 0
    disk=$(lsblk -nspo KNAME,TYPE "$source" 2>/dev/null | awk '$2 == "disk" { print $1 }' | head -n 1)
    [ -n "$disk" ] || return 0
    partition=$(lsblk -nrpo KNAME,LABEL "$disk" | awk 'tolower($2) == "gpustrap" { print $1 }' | head -n 1)
    [ -n "$partition" ] || return 0
    mkdir -p "$run/medium"
    mount "$partition" "$run/medium" || return 0
    keep "$run/medium" "the medium, partition $partition,"
    umount "$run/medium"
}

# tell posts an event in the form of the installer's own.
tell() {
    python3 - "$report" "$machine" "$run/failed" <<'END'
import json, sys, time, urllib.request

url, machine, path = sys.argv[1:]
with open(path, errors="replace") as f:
    text = f.read()
event = {
    "name": "gpustrap/failed", "description": text.split("\n", 1)[0], "event_type": "finish", "result": "FAIL",
    "origin": "gpustrap", "level": "ERROR", "timestamp": time.time(), "machine": machine, "text": text,
}
request = urllib.request.Request(url, json.dumps(event).encode(), {"Content-Type": "application/json"})
try:
    urllib.request.urlopen(request, timeout=30).close()
except OSError as e:
    sys.exit(str(e))
END
}

mkdir -p "$run"
journalctl --boot --no-pager >"$run/journal.log" 2>/dev/null # what the commands printed
describe
{
    echo "gpustrap: $sentence"
    printf '%s\n' "${advice:-start again}" | sed 's/^/  /'
    if [ -s "$log" ]; then
        echo "  $log, where it failed:"
        sed "\\|finish: $failed: FAIL|q" "$log" | tail -n 15 | cut -c 1-200 | sed 's/^/    /'
    fi
} >"$run/failed"
{
    let_in
    keep_on_medium
    ! findmnt -n --mountpoint "$target" >/dev/null || keep "$target/var/log" "the target disk"
    if [ -n "$report" ]; then
        if tell; then echo "told $report"; else echo "could not tell $report"; fi
    fi
} 2>&1 | sed 's/^/  /' >"$run/done"

# The screen, and every console that the kernel was given; error-commands write
# to the journal alone.
for console in tty1 $(cat "$sysfs/class/tty/console/active" 2>/dev/null); do
    [ "$console" != tty0 ] || continue
    { echo && cat "$run/failed" "$run/done"; } 2>/dev/null | sed 's/$/\r/' >"$dev/$console" || true
done 2>/dev/null
cat "$run/failed" "$run/done"
