#!/bin/bash
# Gives each user of $ROOTLESS_USERS a Docker engine of their own, which runs as
# that user: rootless Docker, with CDI for the GPUs. All of it is files, so that it
# needs no session and no running engine; their engines start with the next boot.
# Some of the users exist only after cloud-init's first boot: a unit runs this at
# each boot until every one has been set up.
#   rootless.sh         now, and enables that unit if it must
#   rootless.sh --boot  from the unit
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

done_users=/var/lib/gpustrap/rootless
ids=65536 # that an engine needs
waiting=no

# add_ids FILE OPTION USER: a range of subordinate ids, behind all others.
add_ids() {
    local file=$1 option=$2 user=$3 start
    if awk -F : -v user="$user" -v ids=$ids '$1 == user && $3 >= ids { found = 1 } END { exit !found }' "$file" 2>/dev/null; then
        return
    fi
    [ -e "$file" ] || put "$file" 0644 </dev/null
    start=$(awk -F : '$2 + $3 > top { top = $2 + $3 } END { print top < 100000 ? 100000 : top }' "$file" 2>/dev/null || echo 100000)
    run usermod "$option" "$start-$((start + ids - 1))" "$user"
}

# write_as USER FILE: writes standard input to a file of theirs that is not there.
write_as() {
    cat >"$work/theirs"
    # shellcheck disable=SC2016 # the user's shell expands it
    run_called "write $2 as $1" runuser -u "$1" -- sh -c \
        'umask 077; [ -e "$1" ] || { mkdir -p "$(dirname "$1")" && printf "%s" "$2" >"$1"; }' sh "$2" "$(cat "$work/theirs")"
}

# daemon_json USER: the engine's configuration, its store on the data disk where
# the machine's own is.
daemon_json() {
    local root=
    if [ -n "$DOCKER_DATA_ROOT" ]; then root=$DOCKER_DATA_ROOT-rootless/$1; fi
    python3 - "$GPUSTRAP_ETC/daemon-rootless.json" "$root" <<'PY'
import json, sys

with open(sys.argv[1]) as f:
    config = json.load(f)
if sys.argv[2]:
    config["data-root"] = sys.argv[2]
print(json.dumps(config, indent=4, sort_keys=True))
PY
}

set_up() {
    local user=$1 uid home context
    uid=$(id -u "$user")
    home=$(getent passwd "$user" | cut -d: -f6)
    step "give $user a Docker engine of their own"
    add_ids /etc/subuid --add-subuids "$user"
    add_ids /etc/subgid --add-subgids "$user"
    if [ -n "$DOCKER_DATA_ROOT" ]; then
        run install -d -m 0711 "$DOCKER_DATA_ROOT-rootless"
        run install -d -m 0700 -o "$user" -g "$(id -g "$user")" "$DOCKER_DATA_ROOT-rootless/$user"
    fi
    daemon_json "$user" | write_as "$user" "$home/.config/docker/daemon.json"
    # The command docker finds the engine by its context, in every kind of session.
    context=$(printf rootless | sha256sum | cut -d ' ' -f 1)
    printf '{"Name": "rootless", "Metadata": {}, "Endpoints": {"docker": {"Host": "%s", "SkipTLSVerify": false}}}\n' \
        "unix:///run/user/$uid/docker.sock" |
        write_as "$user" "$home/.docker/contexts/meta/$context/meta.json"
    echo '{"currentContext": "rootless"}' | write_as "$user" "$home/.docker/config.json"
    # What systemctl --user enable would do.
    # shellcheck disable=SC2016 # the user's shell expands it
    run_called "enable docker.service of $user" runuser -u "$user" -- sh -c \
        'mkdir -p "$1" && ln -sfn /etc/systemd/user/docker.service "$1/docker.service"' sh "$home/.config/systemd/user/default.target.wants"
    # Their engine runs without them being logged in; a file says so to logind when it
    # starts, and the command at once.
    run mkdir -p /var/lib/systemd/linger
    run touch "/var/lib/systemd/linger/$user"
    if can_restart; then
        run loginctl enable-linger "$user" || say "  it starts with the next boot"
    fi
    dry_run || { mkdir -p "$done_users" && : >"$done_users/$user"; }
}

install_parts() {
    step "install the parts of rootless Docker"
    apt_install "docker-ce-rootless-extras${DOCKER_VERSION:+=$DOCKER_VERSION}" uidmap slirp4netns dbus-user-session iptables
    put_file "$here/docker-rootless.service" /etc/systemd/user/docker.service 0644
    put /etc/tmpfiles.d/gpustrap-cdi.conf 0644 <<'END'
# Written by gpustrap, for var-lib-gpustrap-cdi.mount.
d /run/cdi 0755 root root -
END
    put_file "$here/var-lib-gpustrap-cdi.mount" /etc/systemd/system/var-lib-gpustrap-cdi.mount 0644
    enable_unit var-lib-gpustrap-cdi.mount
    put /etc/systemd/system/user@.service.d/gpustrap-delegate.conf 0644 <<'END'
# Written by gpustrap: users' engines can limit what their containers take.
[Service]
Delegate=cpu cpuset io memory pids
END
}

[ "${1:-}" = --boot ] || install_parts
words "$ROOTLESS_USERS"
for user in "${list[@]}"; do
    [ ! -e "$done_users/$user" ] || continue
    if getent passwd "$user" >/dev/null; then
        set_up "$user"
    else
        waiting=yes
        step "$user does not exist yet; the first boot gives them their engine"
    fi
done
if [ "${1:-}" = --boot ]; then
    [ "$waiting" = yes ] || run systemctl disable gpustrap-rootless.service
elif [ "$waiting" = yes ]; then
    put_file "$here/gpustrap-rootless.service" /etc/systemd/system/gpustrap-rootless.service 0644
    enable_unit gpustrap-rootless.service
fi
