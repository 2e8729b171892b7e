#!/bin/bash
# Installs what this machine's configuration asks for, step by step:
#   install.sh              on a running machine
#   install.sh --installer  in the installer's chroot, from late-commands
#   install.sh --dry-run    says what it would do and changes nothing
#   install.sh --check      only says whether it is for this machine
# It can be run again: what is done already is left alone.
set -euE -o pipefail

only_check=no
for arg in "$@"; do
    case $arg in
    --check)
        only_check=yes
        export GPUSTRAP_DRY_RUN=1
        ;;
    --installer) export GPUSTRAP_HOME=installer ;;
    --dry-run) export GPUSTRAP_DRY_RUN=1 ;;
    *)
        echo "gpustrap: unknown argument $arg; usage: install.sh [--installer] [--dry-run] [--check]" >&2
        exit 2
        ;;
    esac
done

# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

check_system() {
    local id version arch
    id=$(. /etc/os-release && echo "${ID:-unknown}")
    version=$(. /etc/os-release && echo "${VERSION_ID:-unknown}")
    if [ "$id" != ubuntu ]; then
        fail "this machine runs $id $version, and gpustrap sets up Ubuntu Server $UBUNTU_RELEASE"
    fi
    if [ "$version" != "$UBUNTU_RELEASE" ]; then
        fail "this machine runs Ubuntu $version, and its configuration is for Ubuntu $UBUNTU_RELEASE" \
            "set ubuntu: \"$version\" in gpustrap.yaml and render again"
    fi
    arch=$(dpkg --print-architecture)
    if [ "$arch" != "$UBUNTU_ARCH" ]; then
        fail "this machine is $arch, and its configuration is for $UBUNTU_ARCH" \
            "set arch: $arch in gpustrap.yaml and render again"
    fi
    if [ "$(id -u)" != 0 ] && { ! dry_run || [ "$only_check" = yes ]; }; then
        fail "this needs root" "run it with sudo"
    fi
}

# retire_apps takes away the container apps that an earlier configuration had, by
# what apps.sh wrote down of them, and leaves what they wrote.
retire_apps() {
    local laid name file
    for laid in /var/lib/gpustrap/apps-laid/*; do
        name=$(basename "$laid")
        if [ ! -e "$laid" ] || [[ " ${APPS:-} " = *" $name "* ]]; then continue; fi
        step "remove the app $name, which the configuration has no more"
        run systemctl disable "gpustrap-app@$name.timer"
        if can_restart; then
            run systemctl stop "gpustrap-app@$name.timer" "gpustrap-app@$name.service" || true # the command app is gone
            docker ps -aq --filter "label=com.docker.compose.project=$name" | xargs -r docker rm --force ||
                say "  Docker does not answer; its container stays until it is removed by hand"
        fi
        while read -r file; do drop_file "/opt/apps/$name/$file"; done <"$laid"
        dry_run || rmdir "/opt/apps/$name" || say "  /opt/apps/$name stays, for what else is in it"
        run rm "$laid"
        [ -e /usr/local/bin/app ] || run rm -f /usr/local/bin/app
    done
}

check_system
[ "$only_check" = no ] || exit 0
# An earlier run may have ended while dpkg was at work.
if [ -n "$(dpkg --audit)" ] || [ -n "$(ls /var/lib/dpkg/updates)" ]; then
    step "finish what an earlier run left half installed"
    run env DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold --configure -a
fi
retire_apps
words "$STEPS"
for name in "${list[@]}"; do
    # A step that fails has said so itself.
    bash "$here/$name.sh" || { trap - ERR && exit 1; }
done

if dry_run; then
    say "gpustrap: nothing was changed"
elif in_installer; then
    say "gpustrap: everything is installed; the machine proves itself at its first boot"
elif [ -n "$GPU_PACKAGES" ] && [ ! -e /proc/driver/nvidia/version ]; then
    say "gpustrap: everything is installed; reboot to load the driver"
else
    say "gpustrap: everything is installed; gpu-ready says how the machine is"
fi
