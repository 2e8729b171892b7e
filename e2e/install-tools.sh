#!/bin/sh
# Installs the Debian packages that gpustrap's tests and its demo need, on
# Debian 12 or later and on Ubuntu 24.04 or later. Run as root or with sudo;
# does nothing, in well under a second, when everything is there.
#
#   e2e/install-tools.sh           install what is missing
#   e2e/install-tools.sh --print   name what is missing, install nothing
set -eu

packages="
	apt-utils dpkg-dev debian-archive-keyring debootstrap mmdebstrap uidmap
	ca-certificates curl git make gpg iproute2
	busybox-static cpio kmod xz-utils zstd squashfs-tools
	xorriso genisoimage isolinux syslinux-common mtools dosfstools
	fdisk gdisk util-linux e2fsprogs xfsprogs btrfs-progs
	lvm2 mdadm dmsetup cryptsetup-bin
	grub-common grub-emu grub-pc-bin gnupg graphviz bc time
	qemu-system-x86 qemu-system-arm qemu-utils ovmf qemu-efi-aarch64
	dnsmasq-base ipxe ipxe-qemu qemu-block-extra
	cloud-init whois jq shellcheck systemd
	python3-sushy clevis-luks clevis-tpm2 swtpm tpm2-tools nginx-light wrk
"
# Ubuntu has its browser as a snap alone; the tests of the page are skipped there.
if grep -q '^ID=debian' /etc/os-release 2>/dev/null; then
	packages="$packages chromium"
fi
# systemd-cryptenroll has a package of its own from Debian 13 on.
if ! command -v systemd-cryptenroll >/dev/null && ! grep -qE '^VERSION_ID="(12|22\.04|24\.04)"' /etc/os-release; then
	packages="$packages systemd-cryptsetup"
fi

# missing prints the packages of the list that are not installed.
missing() {
	for package in $packages; do
		state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state=absent
		[ "$state" = installed ] || echo "$package"
	done
}

if ! command -v dpkg-query >/dev/null; then
	echo "install-tools: this is neither Debian nor Ubuntu; install what the list in $0 names" >&2
	exit 1
fi
# bootstrap-go.sh makes do with an old one.
command -v go >/dev/null || [ -x /usr/local/go/bin/go ] || packages="$packages golang-go"

wanted=$(missing)
[ -n "$wanted" ] || exit 0
# shellcheck disable=SC2086 # a list of words
set -- ${1:-} $wanted
if [ "$1" = --print ]; then
	shift
	echo "$@"
	exit 0
fi

if [ "$(id -u)" = 0 ]; then
	as_root=
elif command -v sudo >/dev/null; then
	as_root=sudo
else
	echo "install-tools: run this as root, or install sudo; missing: $*" >&2
	exit 1
fi
apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300"

echo "install-tools: installing $*"
$apt update >/dev/null || echo "install-tools: apt-get update failed; trying with the package lists at hand" >&2
if ! $apt install -y --no-install-recommends "$@" >/dev/null; then
	cat >&2 <<-EOF
	install-tools: apt-get could not install all of: $*
	  On Ubuntu most of these are in the universe component: enable it with
	  'add-apt-repository universe' and run this again.
	EOF
	exit 1
fi
