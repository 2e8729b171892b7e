#!/bin/bash
# Makes the parts that sample media are put together from, in the cache, and
# prints the folder that holds them. All of it comes from one Debian suite, so
# that shim, GRUB and kernel are signed by one chain.
#
#   parts.sh ARCH light    kernel, boot loaders, the live system's initrd
#   parts.sh ARCH full     also rootfs.squashfs, a Debian system that boots
#   parts.sh ARCH docker   also Debian's Docker as packages with Docker's own names,
#                          and the packages they need that this system lacks
#
# Environment: GPUSTRAP_CACHE (default build/cache), GPUSTRAP_MIRROR.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
suite=trixie
# Debian's own mirror, as debootstrap has it, so that Ubuntu machines find it too.
mirror=${GPUSTRAP_MIRROR:-$(sed -n 's/^DEF_MIRROR="\(.*\)"$/\1/p' /usr/sbin/debootstrap)}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
cache=${GPUSTRAP_CACHE:-$here/../../build/cache}
arch=${1:?architecture: amd64 or arm64}
want=${2:?what to make: light, full or docker}
export LC_ALL=C SOURCE_DATE_EPOCH=1735689600 # 2025-01-01

say() { echo "parts: $*" >&2; }

# key prints a short hash of the named files: the parts they describe.
key() { cat -- "$@" | sha256sum | cut -c1-12; }

# make_once DIR COMMAND...: runs the command with DIR in the variable "out"
# (as a folder beside DIR), and moves it to DIR when it has succeeded.
make_once() {
	local final=$1
	shift
	[ ! -d "$final" ] || return 0
	out=$final.new
	rm -rf "$out"
	mkdir -p "$out"
	"$@"
	mv "$out" "$final"
}

# read_archive has apt read the archive's index for a system that is not this one.
# It uses $out/apt and the file $out/apt/status, which lists what the system has.
read_archive() {
	local apt="$out/apt"
	mkdir -p "$apt"/{lists,archives}/partial
	echo "deb [signed-by=$keyring] $mirror $suite main" >"$apt/sources.list"
	cat >"$apt/apt.conf" <<-EOF
	APT::Architecture "$arch";
	APT::Architectures { "$arch"; };
	APT::Sandbox::User "root";
	Acquire::Languages "none";
	Acquire::Retries "3";
	Dir::Etc::sourcelist "$apt/sources.list";
	Dir::Etc::sourceparts "/dev/null";
	Dir::Etc::parts "/dev/null";
	Dir::State::lists "$apt/lists";
	Dir::State::status "$apt/status";
	Dir::Cache "$apt";
	EOF
	export APT_CONFIG="$apt/apt.conf"
	apt-get -qq update
}

# fetch_debs downloads the packages that hold the boot parts and unpacks them
# without installing anything: $out/debs, $out/root.
fetch_debs() {
	local apt="$out/apt" kernel names
	say "downloading the $arch kernel, shim and GRUB of Debian $suite"
	mkdir -p "$apt" "$out"/{debs,root}
	: >"$apt/status"
	read_archive
	kernel=$(apt-cache depends "linux-image-$arch" | sed -n 's/^ *Depends: *\(linux-image-[0-9][^ ]*\)$/\1/p')
	case $arch in
	amd64) names="shim-signed shim-helpers-amd64-signed grub-efi-amd64-signed grub-efi-amd64-bin grub-pc-bin grub-common memtest86+" ;;
	arm64) names="shim-signed shim-helpers-arm64-signed grub-efi-arm64-signed grub-efi-arm64-bin grub-common" ;;
	esac
	# openssh-server is what the medium's own package pool offers.
	# shellcheck disable=SC2086 # a list of words
	(cd "$out/debs" && apt-get -qq download "$kernel" busybox-static openssh-server openssh-sftp-server $names)
	for deb in "$out"/debs/*.deb; do
		case $deb in */openssh-*) continue ;; esac
		dpkg-deb -x "$deb" "$out/root"
	done
	mv "$out"/debs/linux-image-*.deb "$out/kernel.deb"
	rm -rf "$apt"
}

# Kernel modules that the live system loads: what QEMU's machines and a medium
# on a CD or a USB device need. Some are built into one kernel or the other.
modules="isofs squashfs overlay loop nls_cp437 nls_ascii nls_iso8859-1 nls_utf8 vfat efivarfs
	sr_mod sd_mod ahci ata_piix ata_generic usb-storage uas xhci-pci ehci-pci uhci-hcd
	virtio_blk virtio_scsi virtio_net e1000e button"

# make_initrd packs busybox, the modules and live/init.
make_initrd() {
	local debs=$1 tree="$out/tree" release module
	release=$(ls "$debs/root/usr/lib/modules")
	say "packing the live system's initrd for Linux $release"
	mkdir -p "$tree"/{bin,lib/modules,proc,sys,dev,run,tmp,cdrom,fetched,etc,usr/lib/gpustrap-e2e}
	cp "$debs/root/usr/bin/busybox" "$tree/bin/busybox"
	ln -s busybox "$tree/bin/sh"
	cp "$here/live/init" "$tree/init"
	cp "$here/live/media-check" "$here/live/probe" "$here/live/netinstall" "$tree/bin/"
	cp "$here/live/network" "$here/live/udhcpc-script" "$tree/usr/lib/gpustrap-e2e/"
	ln -s /bin/busybox "$tree/usr/lib/gpustrap-e2e/busybox"
	cp -r "$debs/root/usr/lib/modules/$release" "$out/all"
	mkdir -p "$out/lib/modules" && mv "$out/all" "$out/lib/modules/$release"
	depmod -b "$out" "$release"
	for module in $modules; do
		# modprobe knows what each needs; what is built in has no file.
		modprobe -d "$out" -S "$release" --show-depends "$module" 2>/dev/null || true
	done | sed -n "s|^insmod .*/modules/||p" | awk '!seen[$1]++ {print $1}' >"$out/modules"
	while read -r module; do
		mkdir -p "$(dirname "$tree/lib/modules/$module")"
		xz -dc "$out/lib/modules/$module" >"$tree/lib/modules/${module%.xz}"
	done <"$out/modules"
	sed 's/\.xz$//' "$out/modules" >"$tree/etc/modules"
	find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	(cd "$tree" && find . | sort | cpio --quiet --reproducible -o -H newc -R 0:0 | zstd -q -12 >"$out/initrd")
	cp "$debs"/root/boot/vmlinuz-* "$out/vmlinuz"
	rm -rf "$tree" "${out:?}/lib" "$out/modules"
}

# make_eltorito makes the BIOS boot image that the medium's GRUB starts from.
make_eltorito() {
	local debs=$1
	grub-mkimage -d "$debs/root/usr/lib/grub/i386-pc" -O i386-pc-eltorito -p /boot/grub \
		-o "$out/eltorito.img" iso9660 biosdisk
	cp "$debs/root/usr/lib/grub/i386-pc/boot_hybrid.img" "$out/"
}

rootfs_packages=$(sed 's/#.*//' "$here/live/rootfs-packages")
# make_rootfs installs a Debian system with the very kernel of the boot parts.
make_rootfs() {
	local exclude=() path
	say "installing a Debian $suite system (a minute or two)"
	while read -r path; do
		exclude+=(--dpkgopt="path-exclude=$path")
	done < <(sed '/^#/d; s|^kernel/|/usr/lib/modules/*/kernel/|' "$here/live/rootfs-excludes")
	DEB=$1/kernel.deb LIVE=$here/live MANIFEST=$out/rootfs.manifest \
		mmdebstrap --quiet --variant=minbase --architectures="$arch" \
		--include="$(echo "$rootfs_packages" | xargs | tr ' ' ,)" \
		"${exclude[@]}" \
		--customize-hook="$here/live/rootfs-setup" \
		"$suite" "$out/rootfs.tar" "deb [signed-by=$keyring] $mirror $suite main"
	say "packing it"
	sqfstar -quiet -no-progress -comp zstd -b 256K "$out/rootfs.squashfs" <"$out/rootfs.tar"
	stat -c %s "$out/rootfs.tar" >"$out/rootfs.size"
	rm "$out/rootfs.tar"
}

# fetch_docker downloads Docker and what it needs besides the system's packages.
# Its own packages get the names that they have in Docker's repository, where
# containerd.io holds runc too.
fetch_docker() {
	local apt="$out/apt"
	say "downloading Docker of Debian $suite"
	mkdir -p "$apt"
	unsquashfs -cat "$1/rootfs.squashfs" var/lib/dpkg/status >"$apt/status"
	read_archive
	apt-get -qq -y --download-only --no-install-recommends install docker.io docker-cli
	docker_package docker-ce docker.io
	docker_package docker-ce-cli docker-cli
	docker_package containerd.io containerd runc
	mv "$apt"/archives/*.deb "$out/"
	rm -rf "$apt"
}

# docker_package NAME DEBIAN-PACKAGE... makes one package of Debian's: the control
# file and the scripts are the first one's. Software emulation would unpack Debian's
# compression for minutes, so they have another, and lack what nothing here calls.
docker_package() {
	local name=$1 tree="$out/tree" deb
	shift
	for deb in "$@"; do
		set -- "$@" "$(echo "$out/apt/archives/${deb}"_*.deb)"
		shift
	done
	dpkg-deb -R "$1" "$tree"
	for deb in "${@:2}"; do dpkg-deb -x "$deb" "$tree"; done
	sed -i -E -e "s/^Package: .*/Package: $name/" -e 's/^Version: /&5:/' \
		-e '/^(Conflicts|Breaks|Replaces|Provides|Recommends|Suggests|Built-Using|Source):/d' \
		-e '/^Depends:/{s/ runc \([^)]*\),//;s/, runc \([^)]*\)//;s/containerd \([^)]*\)/containerd.io, docker-ce-cli/}' "$tree/DEBIAN/control"
	rm -rf "$tree"/usr/share/{man,doc,locale} "$tree"/usr/bin/{ctr,containerd-stress}
	dpkg-deb -Zzstd -z3 --root-owner-group -b "$tree" "$out/${name}_amd64.deb" >/dev/null
	rm -rf "$tree" "$@"
}

make_boot() {
	make_initrd "$1"
	[ "$arch" != amd64 ] || make_eltorito "$1"
}

mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
exec 9>"$cache/lock"
flock 9

debs="$cache/debs-$suite-$arch"
make_once "$debs" fetch_debs
boot="$cache/boot-$suite-$arch-$(key "$0" "$here"/live/{init,media-check,probe,netinstall,network,udhcpc-script})"
make_once "$boot" make_boot "$debs"
echo "debs=$debs"
echo "boot=$boot"
if [ "$want" != light ]; then
	rootfs="$cache/rootfs-$suite-$arch-$(key "$0" "$here"/live/{rootfs-packages,rootfs-excludes,rootfs-setup,installed-system-up,installed-system-up.service})"
	make_once "$rootfs" make_rootfs "$debs"
	echo "rootfs=$rootfs"
fi
if [ "$want" = docker ]; then
	docker="$cache/docker-${rootfs##*/rootfs-}-$(key "$0")"
	make_once "$docker" fetch_docker "$rootfs"
	echo "docker=$docker"
fi
