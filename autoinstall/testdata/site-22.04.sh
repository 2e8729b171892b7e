#!/bin/bash
# Sets up site, a machine that already runs Ubuntu Server, as gpustrap's
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
cat >"$work/usr/local/lib/gpustrap/surroundings.sh" <<'GPUSTRAP_END'
<scripts/surroundings.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/surroundings.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/repositories.sh" <<'GPUSTRAP_END'
<scripts/repositories.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/repositories.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/docker.sh" <<'GPUSTRAP_END'
<scripts/docker.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/docker.sh"

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

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/files.sh" <<'GPUSTRAP_END'
<scripts/files.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/files.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/first-boot.sh" <<'GPUSTRAP_END'
<scripts/first-boot.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/first-boot.sh"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/gpustrap-first-boot.service" <<'GPUSTRAP_END'
<scripts/gpustrap-first-boot.service>
GPUSTRAP_END
chmod 0644 "$work/usr/local/lib/gpustrap/gpustrap-first-boot.service"

mkdir -p "$work/usr/local/lib/gpustrap"
cat >"$work/usr/local/lib/gpustrap/commands.sh" <<'GPUSTRAP_END'
<scripts/commands.sh>
GPUSTRAP_END
chmod 0755 "$work/usr/local/lib/gpustrap/commands.sh"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/machine.env" <<'GPUSTRAP_END'
# Written by gpustrap for site; the scripts in /usr/local/lib/gpustrap read it.
MACHINE='site'
UBUNTU_RELEASE='22.04'
UBUNTU_ARCH='amd64'
STEPS='accounts surroundings repositories docker packages users ready files first-boot commands'
PACKAGES='htop'
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
DOCKER='1'
DOCKER_VERSION=''
DOCKER_DATA_ROOT=''
DOCKER_USERS='ops'
TOOLKIT='0'
TOOLKIT_VERSION=''
READY_REPORT=''
READY_DCGMI='0'
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/machine.env"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/repositories" <<'GPUSTRAP_END'
docker https://download.docker.com/linux/ubuntu jammy stable 9DC858229FC7DD38854AE2D88D81803C0EBFCD88 https://download.docker.com/linux/ubuntu/gpg
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/repositories"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/proxy.env" <<'GPUSTRAP_END'
http_proxy=http://user:p%40ss@proxy.example:3128
HTTP_PROXY=http://user:p%40ss@proxy.example:3128
https_proxy=http://user:p%40ss@proxy.example:3128
HTTPS_PROXY=http://user:p%40ss@proxy.example:3128
no_proxy=localhost,127.0.0.1,::1,.example,mirror.example,10.0.0.0/8
NO_PROXY=localhost,127.0.0.1,::1,.example,mirror.example,10.0.0.0/8
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/proxy.env"

mkdir -p "$work/etc/gpustrap/ca-certificates"
cat >"$work/etc/gpustrap/ca-certificates/gpustrap-0.crt" <<'GPUSTRAP_END'
-----BEGIN CERTIFICATE-----
MIIBlTCCATugAwIBAgIUFOBsSC9ok9yyguy2s1hXsZq9zE0wCgYIKoZIzj0EAwIw
HzEdMBsGA1UEAwwUQSBzdGFuZC1pbiBhdXRob3JpdHkwIBcNMjYxMTIzMTYxNTI0
WhgPMjEyNjEwMzAxNjE1MjRaMB8xHTAbBgNVBAMMFEEgc3RhbmQtaW4gYXV0aG9y
aXR5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEDG7Q/1cvAByDa5f8OPmb6+Ef
F+bJyKfCBO1SNcbzHAlp74SpO64bHp5GHFK7eROrvLotcmxJ0ZbGfpFKHlU4EaNT
MFEwHQYDVR0OBBYEFG8UWe/248hedLBk1VHWK462HO/QMB8GA1UdIwQYMBaAFG8U
We/248hedLBk1VHWK462HO/QMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwID
SAAwRQIhALh3QZcRdV6fhwBTwtAv/ytsCH5juOraxPMjMVyeWzrrAiBzE5P1wPD9
iaIpe5BecLpScmYXM0Xq1h1rwNCiK41qdQ==
-----END CERTIFICATE-----
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/ca-certificates/gpustrap-0.crt"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/surroundings.env" <<'GPUSTRAP_END'
NTP_SERVERS='ntp.example 10.0.0.1'
KERNEL_ARGS='iommu=pt console=ttyS0,115200n8'
GPUSTRAP_END
chmod 0644 "$work/etc/gpustrap/surroundings.env"

mkdir -p "$work/etc/gpustrap/files"
cat >"$work/etc/gpustrap/files/0" <<'GPUSTRAP_END'
It's "$HOME" {{ here }}

  %d
GPUSTRAP_END
chmod 0600 "$work/etc/gpustrap/files/0"

mkdir -p "$work/etc/gpustrap/files"
cat >"$work/etc/gpustrap/files/1" <<'GPUSTRAP_END'
umask 027
GPUSTRAP_END
chmod 0600 "$work/etc/gpustrap/files/1"

mkdir -p "$work/etc/gpustrap/files"
cat >"$work/etc/gpustrap/files/list" <<'GPUSTRAP_END'
0644 root:root /etc/motd
0600 ops /home/ops/.profile
GPUSTRAP_END
chmod 0600 "$work/etc/gpustrap/files/list"

mkdir -p "$work/etc/gpustrap/commands"
cat >"$work/etc/gpustrap/commands/late-000" <<'GPUSTRAP_END'
sysctl --system
GPUSTRAP_END
chmod 0600 "$work/etc/gpustrap/commands/late-000"

mkdir -p "$work/etc/gpustrap/commands"
cat >"$work/etc/gpustrap/commands/late-001" <<'GPUSTRAP_END'
for i in 1 2; do
  echo $i
done
GPUSTRAP_END
chmod 0600 "$work/etc/gpustrap/commands/late-001"

mkdir -p "$work/etc/gpustrap/commands"
cat >"$work/etc/gpustrap/commands/first-000" <<'GPUSTRAP_END'
curl -fsS http://mirror.example/ready
GPUSTRAP_END
chmod 0600 "$work/etc/gpustrap/commands/first-000"

mkdir -p "$work/etc/gpustrap/commands"
cat >"$work/etc/gpustrap/commands/first-001" <<'GPUSTRAP_END'
echo 'done'
GPUSTRAP_END
chmod 0600 "$work/etc/gpustrap/commands/first-001"

mkdir -p "$work/etc/gpustrap"
cat >"$work/etc/gpustrap/daemon.json" <<'GPUSTRAP_END'
{
    "live-restore": true,
    "log-driver": "json-file",
    "log-opts": {
        "max-file": "3",
        "max-size": "50m"
    },
    "proxies": {
        "http-proxy": "http://user:p%40ss@proxy.example:3128",
        "https-proxy": "http://user:p%40ss@proxy.example:3128",
        "no-proxy": "localhost,127.0.0.1,::1,.example,mirror.example,10.0.0.0/8"
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
