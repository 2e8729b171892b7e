# shellcheck shell=bash disable=SC2154 # read by make-medium.sh, which sets the variables
# The files of a sample medium.

make_loaders() {
	local grub=$debs/root/usr/lib/grub target
	case $arch in
	amd64) local efi=x64 platform=x86_64-efi ;;
	arm64) local efi=aa64 platform=arm64-efi ;;
	esac
	mkdir -p "$loaders"/{EFI/boot,boot/grub/fonts}
	cp "$debs/root/usr/lib/shim/shim$efi.efi.signed" "$loaders/EFI/boot/boot$efi.efi"
	cp "$debs/root/usr/lib/shim/mm$efi.efi.signed" "$loaders/EFI/boot/mm$efi.efi"
	cp "$grub/$platform-signed/gcd$efi.efi.signed" "$loaders/EFI/boot/grub$efi.efi"
	cp "$debs/root/usr/share/grub/unicode.pf2" "$loaders/boot/grub/fonts/"
	for target in $platform $([ "$arch" = amd64 ] && echo i386-pc); do
		mkdir -p "$loaders/boot/grub/$target"
		cp "$grub/$target"/*.{mod,lst} "$loaders/boot/grub/$target/"
	done
	[ "$arch" = arm64 ] || cp "$boot/eltorito.img" "$loaders/boot/grub/i386-pc/"

	# The EFI System Partition, of the boot loaders alone.
	mkfs.vfat -C --invariant -n ESP "$work/efi.img" 5760 >/dev/null
	find "$loaders" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	mcopy -s -m -i "$work/efi.img" "$loaders/EFI" ::
}

# live_initrd UUID FILE writes the live system's initrd with casper's uuid.conf
# before it: the kernel wants an archive that is not compressed at an offset that
# 4 divides.
live_initrd() {
	mkdir -p "$work/conf/conf"
	echo "$1" >"$work/conf/conf/uuid.conf"
	find "$work/conf" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	{
		(cd "$work/conf" && printf '%s\n' conf conf/uuid.conf | cpio --quiet --reproducible -o -H newc -R 0:0)
		cat "$boot/initrd"
	} >"$2"
}

# uuid NAME prints a UUID that depends on the flavour and NAME alone.
uuid() {
	sha1sum <<<"$flavour $1" | sed -E 's/^(.{8})(.{4})(.{4})(.{4})(.{12}).*/\1-\2-4\3-8\4-\5/; s/-4.(...)-8.(...)-/-4\1-8\2-/'
}

# layer NAME SIZE finishes a squashfs layer: its manifest and unpacked size.
layer() {
	if [ -f "$rootfs/rootfs.manifest" ]; then
		cp "$rootfs/rootfs.manifest" "$tree/casper/$1.manifest"
	else
		: >"$tree/casper/$1.manifest"
	fi
	echo "$2" >"$tree/casper/$1.size"
}

# pack FOLDER FILE writes a squashfs whose dates are all SOURCE_DATE_EPOCH.
pack() {
	find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	mksquashfs "$1" "$2" -quiet -no-progress -noappend -all-root -comp zstd >/dev/null
}

make_casper() {
	local base=ubuntu-server-minimal server installer kernel
	server=$base.ubuntu-server installer=$server.installer
	mkdir -p "$tree"/{casper,.disk,install}
	for kernel in '' $([ "$hwe" = no ] || echo hwe-); do
		cp "$boot/vmlinuz" "$tree/casper/${kernel}vmlinuz"
		live_initrd "$(uuid "${kernel}generic")" "$tree/casper/${kernel}initrd"
		uuid "${kernel}generic" >"$tree/.disk/casper-uuid-${kernel}generic"
	done

	mkdir -p "$work"/{server/{etc,usr/lib},installer/{usr/lib/gpustrap-e2e,usr/bin,etc/cloud/cloud.cfg.d},generic/usr/lib/gpustrap-e2e}
	# What asks the installed system which release it is must see Ubuntu's.
	cat >"$work/server/usr/lib/os-release" <<-EOF
	PRETTY_NAME="Ubuntu $point (gpustrap sample, in truth Debian)"
	NAME="Ubuntu"
	VERSION_ID="$release"
	VERSION_CODENAME=$codename
	UBUNTU_CODENAME=$codename
	ID=ubuntu
	ID_LIKE=debian
	EOF
	ln -s ../usr/lib/os-release "$work/server/etc/os-release"
	cp "$here"/live/{live,network,udhcpc-script,probe} "$debs/root/usr/bin/busybox" \
		"$here"/../installer/standin-installer "$work/installer/usr/lib/gpustrap-e2e/"
	mkdir "$work/installer/usr/lib/gpustrap-e2e/standin"
	cp "$here"/../installer/standin/*.py "$work/installer/usr/lib/gpustrap-e2e/standin/"
	cp "$here/../installer/curtin" "$work/installer/usr/bin/"
	cp "$here/live/90-live.cfg" "$work/installer/etc/cloud/cloud.cfg.d/"
	echo "$codename" >"$work/generic/usr/lib/gpustrap-e2e/kernel-layer"
	pack "$work/server" "$tree/casper/$server.squashfs"
	pack "$work/installer" "$tree/casper/$installer.squashfs"
	pack "$work/generic" "$tree/casper/$installer.generic.squashfs"
	if [ "$live" = full ]; then
		cp "$rootfs/rootfs.squashfs" "$tree/casper/$base.squashfs"
		layer $base "$(cat "$rootfs/rootfs.size")"
	else
		mkdir "$work/minimal"
		pack "$work/minimal" "$tree/casper/$base.squashfs"
		layer $base 4096
	fi
	for name in $server $installer $installer.generic; do layer "$name" 65536; done
	cp "$tree/casper/$base.manifest" "$tree/casper/filesystem.manifest"
	cp "$tree/casper/$base.size" "$tree/casper/filesystem.size"
	make_install_sources "$base" "$server" >"$tree/casper/install-sources.yaml"
}

# make_install_sources BASE SERVER prints install-sources.yaml: a list, and from
# 24.10 on a mapping with a version.
make_install_sources() {
	local indent='' path id
	if [ "$release" = 26.04 ]; then
		indent='  '
		printf 'version: 2\nkernel:\n  default: linux-generic\nsources:\n'
	fi
	for id in ubuntu-server ubuntu-server-minimal; do
		case $id in
		ubuntu-server) path=$2 ;;
		*) path=$1 ;;
		esac
		sed "s/^/$indent/" <<-EOF
		- default: $([ $id = ubuntu-server ] && echo true || echo false)
		  description:
		    en: Stands in for Ubuntu's source of the same id.
		  id: $id
		  locale_support: locale-only
		  name:
		    en: $id
		  path: $path.squashfs
		  size: $(cat "$tree/casper/$1.size")
		  type: fsimage-layered
		  variant: server
		EOF
	done
}

make_pool() {
	local deb name section
	mkdir -p "$tree/pool/restricted" "$tree/dists/$codename"/{main,restricted}/binary-"$arch"
	for deb in "$debs"/debs/{openssh-*,grub-efi-"$arch"-signed_*}.deb; do
		[ -f "$deb" ] || continue # not every architecture has a signed GRUB
		section=main/o/openssh
		case $deb in *-signed_*) section=main/g/grub2-signed ;; esac
		mkdir -p "$tree/pool/$section"
		# A file in a pool is named without the version's epoch.
		name=$(basename "$deb")
		cp "$deb" "$tree/pool/$section/${name/_[0-9]%3a/_}"
	done
	ln -s "$codename" "$tree/dists/stable"
	ln -s "$codename" "$tree/dists/unstable"
	ln -s . "$tree/ubuntu"
	(
		cd "$tree" || exit
		for component in main restricted; do
			apt-ftparchive packages "pool/$component" >"dists/$codename/$component/binary-$arch/Packages"
			printf 'Archive: %s\nComponent: %s\nArchitecture: %s\n' "$codename" $component "$arch" \
				>"dists/$codename/$component/binary-$arch/Release"
		done
		cd "dists/$codename" || exit
		# Release names the plain indexes too, though only gzipped ones are there.
		gzip -9nk ./*/*/Packages
		{
			printf 'Origin: Ubuntu\nLabel: Ubuntu\nSuite: %s\nVersion: %s\nCodename: %s\n' "$codename" "$release" "$codename"
			printf 'Date: %s\nArchitectures: %s\nComponents: main restricted\nSHA256:\n' \
				"$(date -R -d "@$SOURCE_DATE_EPOCH")" "$arch"
			for file in */*/*; do
				printf ' %s %s %s\n' "$(sha256sum <"$file" | cut -d' ' -f1)" "$(stat -c %s "$file")" "$file"
			done
		} >"$work/Release"
		rm ./*/*/Packages
		mv "$work/Release" Release
	)
}

make_disk_folder() {
	: >"$tree/.disk/base_installable"
	echo full_cd/single >"$tree/.disk/cd_type"
	printf 'Ubuntu-Server %s "%s" - Release %s (%s)' "$point" "$animal" "$arch" "$date" >"$tree/.disk/info"
}

# entry TITLE PREFIX ARGUMENTS prints a menu entry that starts the installer.
entry() {
	cat <<EOF
menuentry "$1" {
	set gfxpayload=keep
	linux	/casper/${2}vmlinuz  $3---
	initrd	/casper/${2}initrd
}
EOF
}

entries() {
	entry "Try or Install Ubuntu Server" '' "$1"
	[ "$hwe" = no ] || entry "Ubuntu Server with the HWE kernel" hwe- "$1"
}

grub_cfg() {
	cat <<EOF
set timeout=30

loadfont unicode

set menu_color_normal=white/black
set menu_color_highlight=black/light-gray

$(entries '')
grub_platform
if [ "\$grub_platform" = "efi" ]; then
menuentry 'Boot from next volume' {
	exit 1
}
menuentry 'UEFI Firmware Settings' {
	fwsetup
}
EOF
	[ "$arch" != amd64 ] || cat <<EOF
else
menuentry 'Test memory' {
	linux16 /boot/$memtest
}
EOF
	printf 'fi\n'
}

# make_menus writes Ubuntu's grub.cfg and loopback.cfg, to the letter.
make_menus() {
	mkdir -p "$tree/boot/grub"
	grub_cfg >"$tree/boot/grub/grub.cfg"
	# shellcheck disable=SC2016 # GRUB expands it
	entries 'iso-scan/filename=${iso_path} ' >"$tree/boot/grub/loopback.cfg"
	[ "$arch" != amd64 ] || cp "$debs/root/boot/memtest86+x64.bin" "$tree/boot/$memtest"
}

# add_filler adds files of no meaning until the trees have the size asked for.
add_filler() {
	local have piece=$((1 << 30)) n=0
	have=$(du -sbc "$loaders" "$tree" | tail -n 1 | cut -f1)
	while [ "$have" -lt "$size" ]; do
		n=$((n + 1))
		[ $((size - have)) -ge $piece ] || piece=$((size - have))
		mkdir -p "$tree/pool/filler"
		(openssl enc -aes-128-ctr -nosalt -pass "pass:$n" -md sha256 </dev/zero 2>/dev/null || true) |
			head -c $piece >"$tree/pool/filler/$n"
		have=$((have + piece))
	done
}

# make_md5sum lists the rest of the medium as debian-cd does: not the boot
# loaders, following symbolic links but those of dists, in no order that means
# anything. From 26.04 on: every regular file, sorted; xorriso patches
# eltorito.img after that, so the line of that file is wrong on such a medium.
make_md5sum() {
	if [ "$release" = 26.04 ]; then
		(
			cd "$tree" && find . -type f
			cd "$loaders" && find . -type f
		) | sort | while read -r file; do
			(cd "$tree" && [ -f "$file" ] || cd "$loaders" && md5sum "$file")
		done >"$work/md5sum.txt"
	else
		(cd "$tree" && { find . -follow -type f 2>/dev/null || true; } |
			grep -vE '^\./(dists/(stable|unstable)|ubuntu)/' | xargs md5sum | sort) >"$work/md5sum.txt"
	fi
	mv "$work/md5sum.txt" "$tree/md5sum.txt"
}
