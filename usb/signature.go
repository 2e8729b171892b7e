package usb

import (
	"bytes"
	"io"
	"strings"
)

// signature recognises what a device holds by its first bytes, where there is no
// udev to ask. It only serves to show what would be lost, so what cannot be read
// is left out.
func (s System) signature(name string, size int64) Content {
	const most = 128 << 10
	if size < 1<<16 {
		return Content{}
	}
	f, err := s.FS.Open("dev/" + nodeName(name))
	if err != nil {
		return Content{}
	}
	defer func() { _ = f.Close() }() // read only
	head := make([]byte, min(size, most))
	n, _ := io.ReadFull(f, head) // what is missing stays zero
	return recognise(head[:n:n])
}

// signatures are where file systems and the like have their magic numbers and
// labels (libblkid, libblkid/src/superblocks).
var signatures = []struct {
	name        string
	offset      int
	magic       string
	labelOffset int
	labelLength int
}{
	{"iso9660", 32769, "CD001", 32808, 32},
	{"crypto_LUKS", 0, "LUKS\xba\xbe", 0, 0},
	{"LVM2_member", 536, "LVM2 001", 0, 0},
	{"LVM2_member", 24, "LVM2 001", 0, 0},
	{"linux_raid_member", 4096, "\xfc\x4e\x2b\xa9", 4128, 32},
	{"linux_raid_member", 0, "\xfc\x4e\x2b\xa9", 32, 32},
	{"ext4", 1080, "\x53\xef", 1144, 16},
	{"xfs", 0, "XFSB", 108, 12},
	{"btrfs", 65600, "_BHRfS_M", 65835, 256},
	{"ntfs", 3, "NTFS    ", 0, 0},
	{"exfat", 3, "EXFAT   ", 0, 0},
	{"vfat", 82, "FAT32   ", 71, 11},
	{"vfat", 54, "FAT1", 43, 11},
	{"swap", 4086, "SWAPSPACE2", 1052, 16},
	{"squashfs", 0, "hsqs", 0, 0},
}

// recognise names what begins with head.
func recognise(head []byte) Content {
	at := func(offset, length int) []byte {
		if offset+length > len(head) {
			return nil
		}
		return head[offset : offset+length]
	}
	for _, sig := range signatures {
		if string(at(sig.offset, len(sig.magic))) != sig.magic {
			continue
		}
		label, _, _ := bytes.Cut(at(sig.labelOffset, sig.labelLength), []byte{0})
		text := printable(string(label))
		if strings.HasPrefix(text, "NO NAME") {
			text = ""
		}
		return Content{FileSystem: sig.name, Label: text}
	}
	// ZFS keeps a ring of uberblocks of 1 KiB or more in each label, from 128 KiB
	// on, and the pool's name list before it.
	if bytes.Contains(at(16<<10, 112<<10), []byte("pool_guid")) {
		return Content{FileSystem: "zfs_member"}
	}
	return Content{}
}
