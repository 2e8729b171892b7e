# shellcheck shell=bash
# shellcheck disable=SC2034 # variables for those who source this
# What every gpustrap script shares. It is sourced, never run.
#
# A script says each of its steps in one line; what its commands print goes to
# the log. The first command that fails ends the script with the step, the
# command, the end of the log and the log's path.
#
#   GPUSTRAP_ETC   folder with machine.env and the other data files
#   GPUSTRAP_LOG   the log
#   GPUSTRAP_HOME  installer: in the installer's chroot, services are enabled
#                  and never started; machine: on the running machine
#   GPUSTRAP_DRY_RUN  1: say what would be done, change nothing

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
export GPUSTRAP_ETC=${GPUSTRAP_ETC:-/etc/gpustrap}
export GPUSTRAP_LOG=${GPUSTRAP_LOG:-/var/log/gpustrap/install.log}
export GPUSTRAP_HOME=${GPUSTRAP_HOME:-machine}
export GPUSTRAP_DRY_RUN=${GPUSTRAP_DRY_RUN:-0}

# shellcheck disable=SC1091 # rendered for each machine
. "$GPUSTRAP_ETC/machine.env"
# What the machine chose by its own GPUs comes after what was rendered for it.
# shellcheck disable=SC1091 # written by driver.sh
[ ! -e "$GPUSTRAP_ETC/stack.env" ] || . "$GPUSTRAP_ETC/stack.env"

# What needs the network goes by the machine's proxy.
if [ -f "$GPUSTRAP_ETC/proxy.env" ]; then
    set -a
    # shellcheck disable=SC1091 # rendered for each machine
    . "$GPUSTRAP_ETC/proxy.env"
    set +a
fi

# Where the installation medium's repository is, and what apt knows of it. apt is
# led to it alone from offline.sh to unlock.sh.
repository=/var/lib/gpustrap/medium
offline_lists=/var/lib/gpustrap/lists
[ ! -e "$GPUSTRAP_ETC/apt-offline.conf" ] || export APT_CONFIG="$GPUSTRAP_ETC/apt-offline.conf"

# Steps go to descriptor 8, everything else to the log. A script that another
# one started finds both open.
if [ -z "${GPUSTRAP_STEPS_OPEN:-}" ]; then
    export GPUSTRAP_STEPS_OPEN=1
    exec 8>&1
    if [ "$GPUSTRAP_DRY_RUN" = 1 ]; then
        exec >/dev/null
    else
        mkdir -p "$(dirname -- "$GPUSTRAP_LOG")"
        exec >>"$GPUSTRAP_LOG" 2>&1
    fi
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
current_step=starting
last_command=
changed=no

say() {
    printf '%s\n' "$*" >&8
    printf '%s\n' "$*"
}

step() {
    current_step=$1
    say "gpustrap: $1"
}

dry_run() { [ "$GPUSTRAP_DRY_RUN" = 1 ]; }

# from_medium: whether packages come from the installation medium.
from_medium() { [ -n "${APT_CONFIG:-}" ]; }

in_installer() { [ "$GPUSTRAP_HOME" = installer ]; }

# can_restart: whether services run here that could be restarted.
can_restart() { ! in_installer && [ -d /run/systemd/system ]; }

# fail SUMMARY [WHAT TO DO]: ends the script.
fail() {
    trap - ERR
    say "gpustrap: $1"
    [ -z "${2:-}" ] || say "  $2"
    log_place
    exit 1
}

log_place() {
    dry_run && return
    if in_installer; then
        say "  the log is /target$GPUSTRAP_LOG in the installer, $GPUSTRAP_LOG on the machine"
    else
        say "  the log is $GPUSTRAP_LOG"
    fi
}

on_error() {
    local status=$1 last
    trap - ERR
    # apt names the file that it does not accept above the last lines.
    dry_run || last=$({
        tail -n 40 "$GPUSTRAP_LOG" | head -n -8 | grep -a '^E: Failed to fetch'
        tail -n 8 "$GPUSTRAP_LOG"
    } | sed 's/^/    /')
    say "gpustrap: failed while: $current_step"
    [ -z "$last_command" ] || say "  the command was: $last_command (status $status)"
    if [ -n "${last:-}" ]; then
        say "  the last lines of the log:"
        printf '%s\n' "$last" >&8
    fi
    log_place
    exit "$status"
}
trap 'on_error $?' ERR

# run COMMAND…: runs it, or says that it would.
run() { run_called "$*" "$@"; }

# run_called NAME COMMAND…: the same, under a name that is shorter to read.
run_called() {
    last_command=$1
    shift
    if dry_run; then
        say "  would run: $last_command"
        return
    fi
    printf '+ %s\n' "$last_command"
    "$@" 8>&- </dev/null
}

# put_file SOURCE FILE MODE: installs a file when its content or mode differs.
# Sets changed to yes or no.
put_file() {
    local source=$1 file=$2 mode=$3
    changed=no
    if cmp -s "$source" "$file" && [ "$(stat -c %a "$file")" = "${mode#0}" ]; then
        return
    fi
    changed=yes
    if dry_run; then
        say "  would write: $file"
        return
    fi
    mkdir -p "$(dirname -- "$file")"
    install -m "$mode" "$source" "$file.gpustrap-new"
    mv -f "$file.gpustrap-new" "$file"
}

# put FILE MODE: the same with the content from standard input.
put() {
    cat >"$work/put"
    put_file "$work/put" "$1" "$2"
}

drop_file() {
    [ -e "$1" ] || return 0
    run rm -f "$1"
}

apt_get() {
    run_called "apt-get $*" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        APT_LISTCHANGES_FRONTEND=none UCF_FORCE_CONFFOLD=1 \
        apt-get -q -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=5 \
        -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef \
        -o Dpkg::Options::=--force-confold "$@"
}

# apt_install PACKAGE…: installs packages, each in the version that it is locked
# to, if it is.
apt_install() {
    local versions=$GPUSTRAP_ETC/versions exact
    if [ -e "$versions" ]; then
        mapfile -t exact < <(printf '%s\n' "$@" | awk -F= 'NR == FNR { version[$1] = $0; next }
            $0 in version { $0 = version[$0] } { print }' "$versions" -)
        set -- --allow-downgrades "${exact[@]}"
    fi
    apt_get install --no-install-recommends "$@"
}

# words TEXT: sets the array list to the words of a list in machine.env.
words() {
    read -r -a list <<<"$1" || true
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# candidate PACKAGE: the version that apt would install, empty if none.
candidate() {
    apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'
}

unit_exists() {
    systemctl cat "$1" >/dev/null 2>&1 ||
        [ -e "/etc/systemd/system/$1" ] || [ -e "/lib/systemd/system/$1" ] || [ -e "/usr/lib/systemd/system/$1" ]
}

# enable_unit UNIT…: enables units for the next boot; starting them is another matter.
enable_unit() {
    run systemctl enable "$@"
}

# check_modules holds that the kernel which boots next has the driver's module;
# an older one left in the boot menu may lack it, since Ubuntu's modules follow
# the newest kernel.
check_modules() {
    local image kernel newest without=()
    for image in /boot/vmlinuz-*; do
        [ -e "$image" ] && basename "$image"
    done | sed 's/^vmlinuz-//' | sort -V >"$work/kernels"
    newest=$(tail -n 1 "$work/kernels")
    [ -n "$newest" ] || fail "no kernel is installed in /boot" "the driver's modules belong to a kernel"
    while read -r kernel; do
        if ! find "/lib/modules/$kernel" \( -name 'nvidia.ko*' -o -name 'nvidia-current.ko*' \) 2>/dev/null | grep -q .; then
            without+=("$kernel")
        fi
    done <"$work/kernels"
    for kernel in ${without[@]+"${without[@]}"}; do
        if [ "$kernel" = "$newest" ]; then
            fail "the kernel $newest, which boots next, has no nvidia module" \
                "the packages installed are for another kernel; see what 'apt-get install -s $GPU_PACKAGES' says"
        fi
        say "  the older kernel $kernel has no nvidia module; booted by hand, it sees no GPU"
    done
}
