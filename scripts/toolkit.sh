#!/bin/bash
# Installs the NVIDIA Container Toolkit, its four packages at one version, and
# tells Docker of it.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

packages=(nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools libnvidia-container1)

version=${TOOLKIT_VERSION:-$(candidate nvidia-container-toolkit)}
if [ -z "$version" ] && ! dry_run; then
    fail "no repository has the package nvidia-container-toolkit" \
        "see what 'apt-cache policy nvidia-container-toolkit' says"
fi
step "install the NVIDIA Container Toolkit${version:+ $version}"
apt_install --allow-downgrades "${packages[@]/%/${version:+=$version}}"

if command -v dockerd >/dev/null || dry_run; then
    step "tell Docker of the toolkit"
    cp /etc/docker/daemon.json "$work/before" 2>/dev/null || true
    run nvidia-ctk runtime configure --runtime=docker --cdi.enabled
fi

step "enable the container device interface"
put /etc/systemd/system/nvidia-cdi-refresh.service.d/gpustrap.conf 0644 <<'END'
# Written by gpustrap: the device nodes are there once the persistence daemon runs.
[Unit]
After=nvidia-persistenced.service
END
if dry_run || unit_exists nvidia-cdi-refresh.service; then
    enable_unit nvidia-cdi-refresh.path nvidia-cdi-refresh.service
else
    fail "the toolkit $version has no nvidia-cdi-refresh.service" \
        "it came with 1.18.0; set toolkit.version to that or newer, or leave it out"
fi

# From 29.2 on Docker looks for the toolkit's hook when it starts.
if can_restart && ! dry_run && command -v dockerd >/dev/null && ! cmp -s "$work/before" /etc/docker/daemon.json; then
    step "restart Docker, which learns of the toolkit"
    run systemctl daemon-reload
    run systemctl restart docker.service
fi
