#!/bin/bash
# Sets up mirrored, a machine that already runs Ubuntu Server, as gpustrap's
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
# Written by gpustrap for mirrored; the scripts in /usr/local/lib/gpustrap read it.
MACHINE='mirrored'
UBUNTU_RELEASE='26.04'
UBUNTU_ARCH='amd64'
STEPS='accounts repositories driver docker toolkit users settings upgrades ready'
PACKAGES=''
GPU_AUTO='0'
GPU_BRANCH='580-server'
GPU_PACKAGES='linux-modules-nvidia-580-server-open-generic nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server'
GPU_COMPONENTS='restricted'
GPU_SERVICES='nvidia-persistenced.service'
GPU_MODULES=''
GPU_HOLD='linux-generic linux-modules-nvidia-580-server-open-generic nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server'
GPU_COUNT='1'
GPU_PCI=''
GPU_MIG=''
GPU_POWER_LIMIT=''
GPU_PERSISTENCE='0'
KERNEL_PACKAGE='linux-generic'
DOCKER='1'
DOCKER_VERSION=''
DOCKER_DATA_ROOT=''
DOCKER_USERS='ops'
TOOLKIT='1'
TOOLKIT_VERSION=''
READY_REPORT=''
READY_DCGMI='0'
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/machine.env"

mkdir -p "$work/etc/gpustrap/keys"
cat >"$work/etc/gpustrap/keys/ubuntu.asc" <<'GPUSTRAP_END'
-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawRHqRYJKwYBBAHaRw8BAQdAUCv21tMHjPmCsK6IcWWD+sHJmkNcacMtqFPX
ElhIBTy0ImdwdXN0cmFwIGZpeHR1cmUgPGZpeHR1cmVAZXhhbXBsZT6IkAQTFggA
OBYhBJvwTDyndrKPMjddcZsTbMH9dpssBQJrBEepAhsDBQsJCAcCBhUKCQgLAgQW
AgMBAh4BAheAAAoJEJsTbMH9dpssRloBAIM2X4sh18nCtFpJtFT7iBxETr2q970R
jT1coikzgNovAP49ZUhqb8Kbaj4KNIRZxs5aw0RXgiMsvq1tsMg1+r+WBQ==
=80sE
-----END PGP PUBLIC KEY BLOCK-----
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/keys/ubuntu.asc"

mkdir -p "$work/etc/gpustrap/keys"
cat >"$work/etc/gpustrap/keys/docker.asc" <<'GPUSTRAP_END'
-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawRHqRYJKwYBBAHaRw8BAQdAUCv21tMHjPmCsK6IcWWD+sHJmkNcacMtqFPX
ElhIBTy0ImdwdXN0cmFwIGZpeHR1cmUgPGZpeHR1cmVAZXhhbXBsZT6IkAQTFggA
OBYhBJvwTDyndrKPMjddcZsTbMH9dpssBQJrBEepAhsDBQsJCAcCBhUKCQgLAgQW
AgMBAh4BAheAAAoJEJsTbMH9dpssRloBAIM2X4sh18nCtFpJtFT7iBxETr2q970R
jT1coikzgNovAP49ZUhqb8Kbaj4KNIRZxs5aw0RXgiMsvq1tsMg1+r+WBQ==
=80sE
-----END PGP PUBLIC KEY BLOCK-----
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/keys/docker.asc"

mkdir -p "$work/etc/gpustrap/keys"
cat >"$work/etc/gpustrap/keys/toolkit.asc" <<'GPUSTRAP_END'
-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawRHqRYJKwYBBAHaRw8BAQdAUCv21tMHjPmCsK6IcWWD+sHJmkNcacMtqFPX
ElhIBTy0ImdwdXN0cmFwIGZpeHR1cmUgPGZpeHR1cmVAZXhhbXBsZT6IkAQTFggA
OBYhBJvwTDyndrKPMjddcZsTbMH9dpssBQJrBEepAhsDBQsJCAcCBhUKCQgLAgQW
AgMBAh4BAheAAAoJEJsTbMH9dpssRloBAIM2X4sh18nCtFpJtFT7iBxETr2q970R
jT1coikzgNovAP49ZUhqb8Kbaj4KNIRZxs5aw0RXgiMsvq1tsMg1+r+WBQ==
=80sE
-----END PGP PUBLIC KEY BLOCK-----
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/keys/toolkit.asc"

mkdir -p "$work/etc/gpustrap/keys"
cat >"$work/etc/gpustrap/keys/cuda.asc" <<'GPUSTRAP_END'
-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawRHqRYJKwYBBAHaRw8BAQdAUCv21tMHjPmCsK6IcWWD+sHJmkNcacMtqFPX
ElhIBTy0ImdwdXN0cmFwIGZpeHR1cmUgPGZpeHR1cmVAZXhhbXBsZT6IkAQTFggA
OBYhBJvwTDyndrKPMjddcZsTbMH9dpssBQJrBEepAhsDBQsJCAcCBhUKCQgLAgQW
AgMBAh4BAheAAAoJEJsTbMH9dpssRloBAIM2X4sh18nCtFpJtFT7iBxETr2q970R
jT1coikzgNovAP49ZUhqb8Kbaj4KNIRZxs5aw0RXgiMsvq1tsMg1+r+WBQ==
=80sE
-----END PGP PUBLIC KEY BLOCK-----
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/keys/cuda.asc"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/repositories" <<'GPUSTRAP_END'
ubuntu http://mirror.example/ubuntu noble-site main,universe,restricted,multiverse 9BF04C3CA776B28F32375D719B136CC1FD769B2C keys/ubuntu.asc
docker http://mirror.example/docker resolute stable 9BF04C3CA776B28F32375D719B136CC1FD769B2C keys/docker.asc
toolkit http://mirror.example/toolkit stable main 9BF04C3CA776B28F32375D719B136CC1FD769B2C keys/toolkit.asc
cuda http://mirror.example/cuda / - 9BF04C3CA776B28F32375D719B136CC1FD769B2C keys/cuda.asc
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/repositories"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/preferences" <<'GPUSTRAP_END'
# Written by gpustrap: one repository must not replace what came from another.

Package: nvidia-* libnvidia-*
Pin: release o=Ubuntu
Pin-Priority: -1

Package: nvidia-* libnvidia-*
Pin: version 580.*
Pin-Priority: 1000

Package: nvlsm
Pin: release l=NVIDIA CUDA
Pin-Priority: 500
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/preferences"

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
