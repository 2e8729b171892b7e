#!/bin/bash
# Sets up bonded, a machine that already runs Ubuntu Server, as gpustrap's
# configuration says: users, driver, Docker, container toolkit. Disks, network
# and host name stay as they are.
#   sudo bash setup.sh            does it; what is done already is left alone
#   sudo bash setup.sh --dry-run  says what it would do and changes nothing
set -eu

case ${1:-} in
'' | --dry-run) ;;
*)
    echo "usage: setup.sh [--dry-run]" >&2
    exit 2
    ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/steps.sh" <<'GPUSTRAP_END'
<scripts/steps.sh>
GPUSTRAP_END
chmod 0644 "$work/usr/local/lib/gpustrap/steps.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/install.sh" <<'GPUSTRAP_END'
<scripts/install.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/install.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/accounts.sh" <<'GPUSTRAP_END'
<scripts/accounts.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/accounts.sh"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/machine.env" <<'GPUSTRAP_END'
# Written by gpustrap for bonded; the scripts in /usr/local/lib/gpustrap read it.
MACHINE='bonded'
UBUNTU_RELEASE='26.04'
UBUNTU_ARCH='amd64'
STEPS='accounts'
PACKAGES=''
GPU_AUTO='0'
GPU_BRANCH=''
GPU_PACKAGES=''
GPU_COMPONENTS=''
GPU_SERVICES=''
GPU_MODULES=''
GPU_HOLD=''
GPU_COUNT='0'
GPU_PCI=''
GPU_MIG=''
GPU_POWER_LIMIT=''
GPU_PERSISTENCE=''
KERNEL_PACKAGE=''
DOCKER='0'
DOCKER_VERSION=''
DOCKER_DATA_ROOT=''
DOCKER_USERS=''
TOOLKIT='0'
TOOLKIT_VERSION=''
READY_REPORT=''
READY_DCGMI='0'
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/machine.env"

mkdir -p "$work/etc/gpustrap/authorized_keys"
cat >"$work/etc/gpustrap/authorized_keys/ops" <<'GPUSTRAP_END'
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA0WdoiyUTNMUQpxIeGJWTgIvQ8nVGmLKzGYkyVb4ZtX ops@example
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/authorized_keys/ops"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/accounts" <<'GPUSTRAP_END'
ops::nopassword:::
GPUSTRAP_END
chmod 0600 "$work/etc/gpustrap/accounts"

export GPUSTRAP_ETC=$work/etc/gpustrap
if [ "${1:-}" = --dry-run ]; then
    bash "$work/usr/local/lib/gpustrap/install.sh" --dry-run
    exit
fi
bash "$work/usr/local/lib/gpustrap/install.sh" --check
rm -rf /etc/gpustrap /usr/local/lib/gpustrap
mkdir -p /usr/local/lib
cp -R "$work/etc/gpustrap" /etc/gpustrap
cp -R "$work/usr/local/lib/gpustrap" /usr/local/lib/gpustrap
unset GPUSTRAP_ETC
bash /usr/local/lib/gpustrap/install.sh
