#!/bin/bash
# Packs a guest in which devices of every kind can be made: Debian's kernel
# modules, this machine's LVM, md and encryption tools, a static gpustrap and an
# image to write.
#
#   make-initrd.sh GPUSTRAP IMAGE OUT    writes OUT/vmlinuz and OUT/initrd
#
# Environment: GPUSTRAP_CACHE, where the kernel is kept (default build/cache).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
gpustrap=$1 image=$2 out=$3
tools="dmsetup lvm mdadm cryptsetup"
modules="virtio_blk virtio_pci sd_mod usb-storage uas xhci-pci ext4 loop
	dm-mod dm-crypt dm-flakey dm-delay xts aes_generic cbc essiv algif_skcipher raid1
	target_core_mod target_core_iblock tcm_loop dummy_hcd usb_f_mass_storage g_mass_storage"

debs=''
while IFS='=' read -r name folder; do
	[ "$name" != debs ] || debs=$folder
done < <("$here/../../medium/parts.sh" amd64 light)
release=$(ls "$debs/root/usr/lib/modules")
work=$(mktemp -d "${TMPDIR:-/tmp}/gpustrap-guest.XXXXXX")
trap 'rm -rf "$work"' EXIT
tree=$work/tree
mkdir -p "$tree"/{bin,dev,proc,sys,run/lock,tmp,mnt,etc/lvm,lib/modules} "$out"

cp "$debs/root/usr/bin/busybox" "$tree/bin/busybox"
ln -s busybox "$tree/bin/sh"
cp "$here/init" "$tree/init"
cp "$gpustrap" "$tree/bin/gpustrap"
cp "$image" "$tree/image.iso"
for tool in $tools; do
	path=$(command -v "$tool")
	cp -L "$path" "$tree/bin/$tool"
	ldd "$path" | grep -o '/[^ ]*' | while read -r library; do
		mkdir -p "$tree$(dirname "$library")"
		cp -Ln "$library" "$tree$library" 2>/dev/null || true # another tool's already
	done
done

mkdir -p "$work/lib/modules"
cp -r "$debs/root/usr/lib/modules/$release" "$work/lib/modules/"
depmod -b "$work" "$release"
for module in $modules; do
	modprobe -d "$work" -S "$release" --show-depends "$module" 2>/dev/null || true # built in
done | sed -n "s|^insmod \(.*\)/lib/modules/$release/||p; s|^insmod .*/modules/$release/||p" |
	awk '!seen[$1]++ {print $1}' >"$work/list"
while read -r module; do
	mkdir -p "$(dirname "$tree/lib/modules/$module")"
	xz -dc "$work/lib/modules/$release/$module" >"$tree/lib/modules/${module%.xz}"
done <"$work/list"
sed 's/\.xz$//' "$work/list" >"$tree/etc/modules"
cp "$debs"/root/boot/vmlinuz-* "$out/vmlinuz"
(cd "$tree" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 >"$out/initrd")
