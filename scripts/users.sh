#!/bin/bash
# Puts the users of $DOCKER_USERS into the docker group. Some of them exist only
# after cloud-init's first boot: a unit runs this at each boot until every one
# has been added once. Whoever an administrator takes out again stays out.
#   users.sh         now, and enables that unit
#   users.sh --boot  from the unit
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

added=/var/lib/gpustrap/users
waiting=no

add_users() {
    local user
    words "$DOCKER_USERS"
    for user in "${list[@]}"; do
        [ ! -e "$added/$user" ] || continue
        if getent passwd "$user" >/dev/null; then
            step "add $user to the docker group"
            run usermod -a -G docker "$user"
            dry_run || { mkdir -p "$added" && : >"$added/$user"; }
        else
            waiting=yes
            step "$user does not exist yet; the first boot adds them to the docker group"
        fi
    done
}

if ! getent group docker >/dev/null && ! dry_run; then
    step "make the docker group"
    run groupadd --system docker
fi
add_users
if [ "${1:-}" = --boot ]; then
    [ "$waiting" = yes ] || run systemctl disable gpustrap-users.service
elif [ "$waiting" = yes ]; then
    put_file "$here/gpustrap-users.service" /etc/systemd/system/gpustrap-users.service 0644
    enable_unit gpustrap-users.service
fi
