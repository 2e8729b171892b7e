#!/bin/bash
# Sets up hgx01, a machine that already runs Ubuntu Server, as gpustrap's
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

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/repositories.sh" <<'GPUSTRAP_END'
<scripts/repositories.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/repositories.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/driver.sh" <<'GPUSTRAP_END'
<scripts/driver.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/driver.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/choose-stack.sh" <<'GPUSTRAP_END'
<scripts/choose-stack.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/choose-stack.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/docker.sh" <<'GPUSTRAP_END'
<scripts/docker.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/docker.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/toolkit.sh" <<'GPUSTRAP_END'
<scripts/toolkit.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/toolkit.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/users.sh" <<'GPUSTRAP_END'
<scripts/users.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/users.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/gpustrap-users.service" <<'GPUSTRAP_END'
<scripts/gpustrap-users.service>
GPUSTRAP_END
chmod 0644 "$work/usr/local/lib/gpustrap/gpustrap-users.service"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/settings.sh" <<'GPUSTRAP_END'
<scripts/settings.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/settings.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/gpu-settings.service" <<'GPUSTRAP_END'
<scripts/gpu-settings.service>
GPUSTRAP_END
chmod 0644 "$work/usr/local/lib/gpustrap/gpu-settings.service"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/upgrades.sh" <<'GPUSTRAP_END'
<scripts/upgrades.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/upgrades.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/gpu-upgrade.sh" <<'GPUSTRAP_END'
<scripts/gpu-upgrade.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/gpu-upgrade.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/ready.sh" <<'GPUSTRAP_END'
<scripts/ready.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/ready.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/gpu-ready.sh" <<'GPUSTRAP_END'
<scripts/gpu-ready.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/gpu-ready.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/gpu-ready.service" <<'GPUSTRAP_END'
<scripts/gpu-ready.service>
GPUSTRAP_END
chmod 0644 "$work/usr/local/lib/gpustrap/gpu-ready.service"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/gpu-who.sh" <<'GPUSTRAP_END'
<scripts/gpu-who.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/gpu-who.sh"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/machine.env" <<'GPUSTRAP_END'
# Written by gpustrap for hgx01; the scripts in /usr/local/lib/gpustrap read it.
MACHINE='hgx01'
UBUNTU_RELEASE='24.04'
UBUNTU_ARCH='amd64'
STEPS='accounts repositories driver docker toolkit users settings upgrades ready'
PACKAGES=''
GPU_AUTO='0'
GPU_BRANCH='580-server'
GPU_PACKAGES='linux-modules-nvidia-580-server-open-generic nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server nvidia-fabricmanager-580 libnvidia-nscq-580'
GPU_COMPONENTS='restricted multiverse'
GPU_SERVICES='nvidia-persistenced.service nvidia-fabricmanager.service'
GPU_MODULES=''
GPU_HOLD='linux-generic linux-modules-nvidia-580-server-open-generic nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server nvidia-fabricmanager-580 libnvidia-nscq-580'
GPU_COUNT='8'
GPU_PCI='10de:2330 10de:2336'
GPU_MIG='3g.40gb,3g.40gb'
GPU_POWER_LIMIT=''
GPU_PERSISTENCE='1'
KERNEL_PACKAGE='linux-generic'
DOCKER='1'
DOCKER_VERSION=''
DOCKER_DATA_ROOT=''
DOCKER_USERS='ops'
TOOLKIT='1'
TOOLKIT_VERSION=''
READY_REPORT='https://fleet.example/receipts'
READY_DCGMI='1'
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/machine.env"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/repositories" <<'GPUSTRAP_END'
docker https://download.docker.com/linux/ubuntu noble stable 9DC858229FC7DD38854AE2D88D81803C0EBFCD88 https://download.docker.com/linux/ubuntu/gpg
toolkit https://nvidia.github.io/libnvidia-container/stable/deb/amd64 / - C95B321B61E88C1809C4F759DDCAE044F796ECB0 https://nvidia.github.io/libnvidia-container/gpgkey
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/repositories"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/daemon.json" <<'GPUSTRAP_END'
{
    "features": {
        "cdi": true
    },
    "live-restore": true,
    "log-driver": "json-file",
    "log-opts": {
        "max-file": "3",
        "max-size": "50m"
    }
}
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/daemon.json"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/token" <<'GPUSTRAP_END'
0123456789abcdef0123456789abcdef
GPUSTRAP_END
chmod 0600 "$work/etc/gpustrap/token"

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
