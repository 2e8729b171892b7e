# shellcheck shell=bash disable=SC2154 # read by make-medium.sh, which sets the variables
# The images that xorriso makes of the trees, with the options that Ubuntu's
# media were made with.

mkiso() {
	local modified
	modified=$(date -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S00)
	xorriso -as mkisofs -quiet -r -checksum_algorithm_iso md5,sha1 -V "Ubuntu-Server $point $arch" \
		--modification-date="$modified" -o "$work/medium.iso" "$@" "$loaders" "$tree" 2>"$work/xorriso.log" ||
		fail "xorriso: $(cat "$work/xorriso.log")"
}

bios=(-b boot/grub/i386-pc/eltorito.img -no-emul-boot -boot-load-size 4 -boot-info-table --grub2-boot-info)
efi=(-eltorito-alt-boot -e '--interval:appended_partition_2:all::' -no-emul-boot)

# image_hybrid: 21.10 and later, amd64: GPT, and a second set of metadata for
# partition 1.
image_hybrid() {
	local level=()
	[ "$release" != 26.04 ] || level=(-iso-level 3)
	mkiso "${level[@]}" -J -joliet-long -l "${bios[@]}" --grub2-mbr "$boot/boot_hybrid.img" \
		-append_partition 2 0xef "$work/efi.img" -appended_part_as_gpt --mbr-force-bootable \
		"${efi[@]}" -partition_offset 16
}

# image_mbr_only: arm64.
image_mbr_only() {
	mkiso -J -joliet-long -l -c boot/boot.cat -partition_cyl_align all -partition_offset 16 \
		-append_partition 2 0xef "$work/efi.img" "${efi[@]:1}"
}

# image_isohybrid: 20.04, isolinux, the ESP inside partition 1.
image_isohybrid() {
	local isolinux=/usr/lib/ISOLINUX syslinux=/usr/lib/syslinux/modules/bios
	mkdir -p "$loaders/isolinux"
	cp $isolinux/isolinux.bin $syslinux/ldlinux.c32 "$loaders/isolinux/"
	cat >"$loaders/isolinux/txt.cfg" <<-'EOF'
	default live
	label live
	  menu label ^Install Ubuntu Server
	  kernel /casper/vmlinuz
	  append   initrd=/casper/initrd quiet  ---
	EOF
	cp "$loaders/isolinux/txt.cfg" "$loaders/isolinux/isolinux.cfg"
	cp "$work/efi.img" "$loaders/boot/grub/efi.img"
	find "$loaders" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	mkiso -isohybrid-mbr $isolinux/isohdpfx.bin -J -l -b isolinux/isolinux.bin -c isolinux/boot.cat \
		-no-emul-boot -boot-load-size 4 -boot-info-table \
		-eltorito-alt-boot -e boot/grub/efi.img -no-emul-boot -isohybrid-gpt-basdat -isohybrid-apm-hfsplus
}

# image_partitions_first: as riscv64 media, GPT, where the firmware's partitions
# lie before the one of the data.
image_partitions_first() {
	local data esp
	mkiso -J -joliet-long -l -partition_cyl_align all -partition_offset 2048 \
		-append_partition 2 0xef "$work/efi.img" "${efi[@]:1}"
	data=$(sfdisk -d "$work/medium.iso" | sed -n 's/.*medium.iso1 : \(.*\), type=.*/\1/p')
	esp=$(sfdisk -d "$work/medium.iso" | sed -n 's/.*medium.iso2 : \(.*\), type=.*/\1/p')
	truncate -s +1M "$work/medium.iso" # for the backup GPT
	sfdisk -q --no-reread --no-tell-kernel "$work/medium.iso" >"$work/sfdisk.log" 2>&1 <<-EOF ||
	label: gpt
	label-id: 5B193300-0000-4000-8000-000000000000
	first-lba: 2048
	1: $data, uuid=5B193300-0000-4000-8000-000000000001, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, name=ISO9660
	2: $esp, uuid=5B193300-0000-4000-8000-000000000002, type=U, name=ESP
	3: start=2048, size=2048, uuid=5B193300-0000-4000-8000-000000000003, type=5B193300-FC78-40CD-8002-E86C45580B47, name=loader1
	4: start=4096, size=4096, uuid=5B193300-0000-4000-8000-000000000004, type=2E54B353-1271-4842-806F-E436D6AF6985, name=loader2
	EOF
		fail "sfdisk: $(cat "$work/sfdisk.log")"
}

# append_session adds a file the way that xorriso's own documentation shows,
# as a session of its own behind the image.
append_session() {
	echo 'A session appended to the medium.' >"$work/note.txt"
	touch -d "@$SOURCE_DATE_EPOCH" "$work/note.txt"
	xorriso -dev "$work/medium.iso" -boot_image any keep -map "$work/note.txt" /note.txt -commit 2>"$work/xorriso.log" ||
		fail "xorriso: $(cat "$work/xorriso.log")"
}
