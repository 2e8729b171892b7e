#!/bin/bash
# Upgrades what only moves together, in one transaction of apt: driver,
# libraries, Fabric Manager, the metapackages of kernel and modules. Then it
# asks for the reboot: until then driver and libraries differ, and no new
# program gets a GPU.
#   gpu-upgrade            upgrades, and asks on a terminal
#   gpu-upgrade --reboot   upgrades, and reboots without asking
#   gpu-upgrade --dry-run  says what it would upgrade
set -euE -o pipefail

export GPUSTRAP_LOG=${GPUSTRAP_LOG:-/var/log/gpustrap/upgrade.log}
reboot=ask
case ${1:-} in
'') ;;
--reboot) reboot=yes ;;
--dry-run) reboot=no ;;
*)
    echo "gpustrap: usage: gpu-upgrade [--dry-run | --reboot]" >&2
    exit 2
    ;;
esac
if [ "$(id -u)" != 0 ]; then
    echo "gpustrap: this needs root; run it with sudo" >&2
    exit 1
fi
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/steps.sh"

# choose_names sets names to what is upgraded: what was asked for, and whatever
# else is held back from unattended upgrades and installed.
choose_names() {
    local name
    words "$GPU_PACKAGES $KERNEL_PACKAGE"
    names=("${list[@]}")
    words "$GPU_HOLD"
    for name in "${list[@]}"; do
        if [[ " ${names[*]} " != *" $name "* ]] && installed "$name"; then names+=("$name"); fi
    done
}

# plan has apt say what it would do: name, old version and new version, a line each.
plan() {
    last_command="apt-get -s install ${names[*]}"
    apt-get -s -q -o Debug::NoLocking=1 install --no-install-recommends "${names[@]}" >"$work/apt" || {
        cat "$work/apt"
        false
    }
    sed -n 's/^Remv \([^ ]*\).*/\1/p' "$work/apt" >"$work/removed"
    sed -n -e 's/^Inst \([^ ]*\) \[\([^]]*\)\] (\([^ ]*\) .*/\1 \2 \3/p' \
        -e 's/^Inst \([^ ]*\) (\([^ ]*\) .*/\1 - \2/p' "$work/apt" >"$work/plan"
    [ ! -s "$work/removed" ] ||
        fail "the upgrade would remove $(paste -sd' ' "$work/removed"); nothing was changed" \
            "see what 'apt-get -s install ${names[*]}' says"
}

# one_version holds that the driver's parts which must fit exactly would do so.
one_version() {
    local versions
    {
        dpkg-query -W -f '${Package} - ${Version} ${db:Status-Status}\n' | sed -n 's/ installed$//p'
        cat "$work/plan"
    } | awk '$1 ~ /^(nvidia-utils-|libnvidia-compute|nvidia-fabricmanager|libnvidia-nscq|nvidia-imex)/ && $3 != "" {
        sub(/^[0-9]+:/, "", $3); sub(/-[^-]*$/, "", $3); version[$1] = $3
    } END { for (name in version) print version[name], name }' | sort >"$work/versions"
    versions=$(cut -d' ' -f1 "$work/versions" | uniq | wc -l)
    [ "$versions" -le 1 ] ||
        fail "the driver's parts would differ: $(awk '{ print s $2 " " $1; s = ", " }' ORS= "$work/versions"); nothing was changed" \
            "the repository does not have all of one version yet; try again in a few hours"
}

ask_for_reboot() {
    local answer=
    mkdir -p /run
    echo "*** System restart required ***" >/run/reboot-required
    cut -d' ' -f1 "$work/plan" >>/run/reboot-required.pkgs
    say "gpustrap: upgraded; until the reboot no new program gets a GPU"
    if [ "$reboot" = ask ] && [ -t 0 ]; then
        printf 'Reboot now? [y/N] ' >&8
        read -r answer || true
    fi
    case $reboot:$answer in
    yes:* | ask:[yY]*) run systemctl reboot ;;
    *) say "  reboot: sudo systemctl reboot" ;;
    esac
}

choose_names
step "read the package indexes"
apt_get update
step "see what would change"
plan
one_version
if [ ! -s "$work/plan" ]; then
    say "gpustrap: driver, libraries, modules and kernel are the newest that there are"
    exit
fi
step "upgrade, all in one transaction:"
while read -r name old new; do say "  $name $old -> $new"; done <"$work/plan"
if [ "$reboot" = no ]; then
    say "gpustrap: nothing was changed"
    exit
fi
# The newest, as the plan: a lock held for the installation alone.
apt_get install --no-install-recommends "${names[@]}"
step "check that the driver's modules are there"
check_modules
ask_for_reboot
