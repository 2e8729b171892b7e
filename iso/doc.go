// Package iso reads an Ubuntu Server installation medium and remasters it
// without unpacking it: what is added or changed is laid out as a list of
// segments over the untouched base image (Layout), which a file, a stream, a
// device or an HTTP range reader can then be fed from.
//
// # The medium
//
// The image holds the same files twice over: set A of volume descriptors at
// sector 16 counts from the image's start and is what a CD drive, a whole disk
// and GRUB see; set B counts from the first partition's start and is what Linux
// sees when it mounts that partition of a USB device. Each set has a Rock Ridge
// tree and mostly a Joliet tree. File content is shared. Behind the first
// partition lie the EFI system partition, a gap, and the backup partition table.
//
// # The splice
//
// Remaster inserts sectors at the end of the first partition, in front of the EFI
// system partition: new files, directories that outgrew their place, path tables,
// and a restore record. The EFI system partition and what follows it move up.
// Below the insertion only directories, path tables, volume descriptors, the boot
// catalogue and the partition tables are overwritten where they are. Every file
// that is not replaced keeps its place.
//
// # The restore record
//
// The last sector of the first partition of a remastered image, directly before
// the EFI system partition, is the record's footer. All numbers are
// little-endian, positions are in bytes:
//
//	 0  16  "gpustrap restore"
//	16   4  version, 1
//	20   4  number of saved ranges
//	24   8  length of the base image
//	32   8  length of the remastered image
//	40   8  where the inserted sectors begin
//	48   8  length of the inserted sectors
//	56   8  where the record's body begins
//	64  32  SHA-256 of the body and of the footer's first 64 bytes
//
// The body is one pair of 8-byte numbers for each saved range of the base, its
// position and its length, and then the saved bytes in the same order. The base
// is the remastered image without the inserted sectors, with the saved bytes put
// back. The record alone says so: partition tables may have changed since, as
// casper does on a USB device to which it adds a partition "writable".
package iso
