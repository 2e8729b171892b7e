#!/bin/bash
# Sets up lab, a machine that already runs Ubuntu Server, as gpustrap's
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
cat >"$work/usr/local/lib/gpustrap/packages.sh" <<'GPUSTRAP_END'
<scripts/packages.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/packages.sh"

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
# Written by gpustrap for lab; the scripts in /usr/local/lib/gpustrap read it.
MACHINE='lab'
UBUNTU_RELEASE='22.04'
UBUNTU_ARCH='amd64'
STEPS='accounts repositories driver docker toolkit packages users settings upgrades ready'
PACKAGES='htop tmux'
GPU_AUTO='0'
GPU_BRANCH='580-server'
GPU_PACKAGES='linux-modules-nvidia-580-server-open-generic nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server'
GPU_COMPONENTS='restricted'
GPU_SERVICES='nvidia-persistenced.service'
GPU_MODULES=''
GPU_HOLD='linux-generic linux-modules-nvidia-580-server-open-generic nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server'
GPU_COUNT='4'
GPU_PCI=''
GPU_MIG=''
GPU_POWER_LIMIT='300'
GPU_PERSISTENCE='1'
KERNEL_PACKAGE='linux-generic'
DOCKER='1'
DOCKER_VERSION='5:29.6.1-1~ubuntu.22.04~jammy'
DOCKER_DATA_ROOT='/srv/docker'
DOCKER_USERS='ops ada'
TOOLKIT='1'
TOOLKIT_VERSION='1.20.1-1'
READY_REPORT=''
READY_DCGMI='0'
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/machine.env"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/repositories" <<'GPUSTRAP_END'
docker https://download.docker.com/linux/ubuntu jammy stable 9DC858229FC7DD38854AE2D88D81803C0EBFCD88 https://download.docker.com/linux/ubuntu/gpg
toolkit https://nvidia.github.io/libnvidia-container/stable/deb/amd64 / - C95B321B61E88C1809C4F759DDCAE044F796ECB0 https://nvidia.github.io/libnvidia-container/gpgkey
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/repositories"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/daemon.json" <<'GPUSTRAP_END'
{
    "data-root": "/srv/docker",
    "default-address-pools": [
        {
            "base": "10.200.0.0/16",
            "size": 24
        }
    ],
    "default-shm-size": "8g",
    "default-network-opts": {
        "bridge": {
            "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"
        }
    },
    "features": {
        "cdi": true
    },
    "ip": "127.0.0.1",
    "live-restore": true,
    "log-driver": "json-file",
    "log-opts": {
        "max-file": "5",
        "max-size": "20m"
    },
    "registry-mirrors": [
        "https://registry.example"
    ]
}
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/daemon.json"

mkdir -p "$work/etc/gpustrap/authorized_keys"
cat >"$work/etc/gpustrap/authorized_keys/ops" <<'GPUSTRAP_END'
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA0WdoiyUTNMUQpxIeGJWTgIvQ8nVGmLKzGYkyVb4ZtX ops@example
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/authorized_keys/ops"

mkdir -p "$work/etc/gpustrap/authorized_keys"
cat >"$work/etc/gpustrap/authorized_keys/ada" <<'GPUSTRAP_END'
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHk3TnAqWbYoT8P0YhJ6cTq6R2d0yXo0w2r9YyKcPq1B ada@example
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/authorized_keys/ada"

mkdir -p "$work/etc/gpustrap/authorized_keys"
cat >"$work/etc/gpustrap/authorized_keys/lin" <<'GPUSTRAP_END'
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA0WdoiyUTNMUQpxIeGJWTgIvQ8nVGmLKzGYkyVb4ZtX ops@example
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/authorized_keys/lin"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/accounts" <<'GPUSTRAP_END'
ops:$6$exampleexample$pPlZqPpdBLC365k4vsSuYxCI0Nxenfo5jQAmRH37meI/kKCnR.io8gJFIbatADWoralJVbGUQWHCGiiBhpvbh.:password:::Olga P. Stevens
ada::no::video:Ada L.
lin:$6$exampleexample$pPlZqPpdBLC365k4vsSuYxCI0Nxenfo5jQAmRH37meI/kKCnR.io8gJFIbatADWoralJVbGUQWHCGiiBhpvbh.:password:/bin/dash::Lin Y.
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
