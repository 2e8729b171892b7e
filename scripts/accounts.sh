#!/bin/bash
# Makes the users of $GPUSTRAP_ETC/accounts on a machine that runs already, where
# neither the installer nor cloud-init will. One a line:
#   NAME:PASSWORD HASH:SUDO:SHELL:GROUPS:FULL NAME
# A user who exists keeps password, shell and name; groups and keys are added.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

make_user() {
    local name=$1 hash=$2 shell=$3 full=$4
    getent passwd "$name" >/dev/null && return
    step "make the user $name"
    run useradd --create-home --shell "${shell:-/bin/bash}" --comment "$full" "$name"
    if [ -n "$hash" ] && ! dry_run; then
        last_command="chpasswd for $name"
        printf '%s:%s\n' "$name" "$hash" | chpasswd --encrypted
    fi
}

join_groups() {
    local name=$1 group
    for group in ${2//,/ }; do
        if ! getent group "$group" >/dev/null; then run groupadd "$group"; fi
        if ! id -nG "$name" 2>/dev/null | tr ' ' '\n' | grep -qxF "$group"; then
            step "add $name to the group $group"
            run usermod -a -G "$group" "$name"
        fi
    done
}

# allow_sudo NAME: without a password. The file is checked before it counts.
allow_sudo() {
    echo "$1 ALL=(ALL) NOPASSWD:ALL" >"$work/sudoers"
    visudo -cqf "$work/sudoers" || fail "sudo does not accept the user name $1"
    put_file "$work/sudoers" "/etc/sudoers.d/gpustrap-$1" 0440
}

add_keys() {
    local name=$1 wanted=$GPUSTRAP_ETC/authorized_keys/$1 home file
    [ -f "$wanted" ] || return 0
    home=$(getent passwd "$name" | cut -d: -f6) || true # nobody, in a dry run
    file=${home:-/home/$name}/.ssh/authorized_keys
    if [ -f "$file" ] && ! grep -vqxFf "$file" "$wanted"; then return; fi
    step "add the SSH keys of $name"
    if dry_run; then
        say "  would write: $file"
        return
    fi
    install -d -m 0700 -o "$name" -g "$(id -gn "$name")" "${file%/*}"
    touch "$file"
    grep -vxFf "$file" "$wanted" >"$work/keys" || true
    cat "$work/keys" >>"$file"
    chown "$name:" "$file"
    chmod 0600 "$file"
}

while IFS=: read -r name hash sudo shell groups full; do
    make_user "$name" "$hash" "$shell" "$full"
    [ "$sudo" = no ] || groups=$groups,sudo,adm
    join_groups "$name" "${groups#,}"
    [ "$sudo" != nopassword ] || allow_sudo "$name"
    add_keys "$name"
done <"$GPUSTRAP_ETC/accounts"
