#!/bin/bash
# Keeps unattended-upgrades away from packages that only move together: driver,
# libraries, Fabric Manager, and the metapackages of kernel and modules. Other
# security updates go on. No package is held: apt-get upgrade moves them all, and
# gpu-upgrade moves these in one transaction.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

words "$GPU_HOLD"
step "keep unattended-upgrades away from ${#list[@]} packages that move together"
{
    echo "// Written by gpustrap. Each entry is a regular expression for a whole name."
    echo "Unattended-Upgrade::Package-Blacklist {"
    printf '%s\n' "${list[@]}" | sed 's/[.+]/\\&/g; s/.*/    "^&$";/'
    echo "};"
} | put /etc/apt/apt.conf.d/52gpustrap-unattended-upgrades 0644
if [ "$(readlink /usr/local/sbin/gpu-upgrade || true)" != "$here/gpu-upgrade.sh" ]; then
    run ln -sfn "$here/gpu-upgrade.sh" /usr/local/sbin/gpu-upgrade
fi
