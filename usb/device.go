package usb

import (
	"strings"
	"unicode"
)

// Bus is how a device is attached.
type Bus string

// The buses that devices are told apart by.
const (
	BusUSB     Bus = "usb"
	BusSATA    Bus = "sata"
	BusSCSI    Bus = "scsi" // SAS, Fibre Channel, iSCSI and what else speaks SCSI
	BusNVMe    Bus = "nvme"
	BusVirtio  Bus = "virtio"
	BusSD      Bus = "sd"   // a card in a reader that is no USB device
	BusMMC     Bus = "mmc"  // soldered on
	BusXen     Bus = "xen"  //
	BusLoop    Bus = "loop" // a file
	BusVirtual Bus = "virtual"
	BusUnknown Bus = "unknown"
)

// Device is a whole block device, as the machine's records show it. Text that
// comes from the device itself (model, serial number, labels) holds printable
// characters only.
type Device struct {
	// Name is the kernel's name, such as sda, Path its node, such as /dev/sda.
	Name string `json:"name"`
	Path string `json:"path"`
	// Number is major:minor.
	Number string `json:"number"`
	Model  string `json:"model,omitempty"`
	Serial string `json:"serial,omitempty"`
	WWN    string `json:"wwn,omitempty"`
	// Size is in bytes; 0 when there is no medium in the device.
	Size int64 `json:"size"`
	// SectorSize is the length of a logical sector in bytes.
	SectorSize int  `json:"sectorSize"`
	Bus        Bus  `json:"bus"`
	Removable  bool `json:"removable"`
	ReadOnly   bool `json:"readOnly"`
	// Sequence is the number that the kernel gives to each device and each medium
	// put in; 0 before Linux 5.15.
	Sequence uint64 `json:"sequence,omitempty"`
	// Backing is the file behind a loop device.
	Backing string `json:"backing,omitempty"`
	// Table is the kind of partition table, gpt or dos.
	Table string `json:"table,omitempty"`
	Content
	Partitions []Partition `json:"partitions,omitempty"`
	// Uses are what uses the device, its partitions or anything built on them.
	Uses []Use `json:"uses,omitempty"`
	// Unknown says what could not be found out.
	Unknown []string `json:"unknown,omitempty"`

	kind kind
	wwid string // the disk's name all over the world, whole; empty when it has none
}

// Content is what a device or partition holds, by its signature.
type Content struct {
	FileSystem string `json:"fileSystem,omitempty"` // as blkid names it
	Label      string `json:"label,omitempty"`
}

// Partition is a partition that the kernel knows.
type Partition struct {
	Name   string `json:"name"`
	Number string `json:"number"`
	Size   int64  `json:"size"`
	Content
}

// Use is one reason why a device is not free.
type Use struct {
	Kind UseKind `json:"kind"`
	// Chain leads from the device or its partition up to what is used: sda3, dm-0.
	Chain []string `json:"chain"`
	// Where is a mount point, a folder or what else the kind leads to.
	Where string `json:"where,omitempty"`
}

// UseKind says how a device is used.
type UseKind string

// The kinds of use.
const (
	UseMounted UseKind = "mounted"
	UseSwap    UseKind = "swap"
	UseHeld    UseKind = "held" // by another block device, which Where describes
	UseMember  UseKind = "member"
	UsePath    UseKind = "path" // by another path to the same disk, which Where describes
)

// Identity is what tells one device from another. It changes when a device is
// pulled and another gets its name.
type Identity struct {
	Number, Model, Serial, WWN string
	Size                       int64
	Sequence                   uint64
}

// Identity returns the device's identity.
func (d *Device) Identity() Identity {
	return Identity{d.Number, d.Model, d.Serial, d.WWN, d.Size, d.Sequence}
}

// String names the device for people: its path, model and serial number.
func (d *Device) String() string {
	s := d.Path
	if d.Model != "" {
		s += " " + d.Model
	}
	if d.Backing != "" {
		s += " " + d.Backing
	}
	if d.Serial != "" {
		s += " (serial " + d.Serial + ")"
	}
	return s
}

// Contents says in words what is on the device: one line for the whole device,
// where it has a signature of its own, and one a partition.
func (d *Device) Contents() []string {
	var lines []string
	if s := d.Text(); s != "" {
		lines = append(lines, d.Name+": "+s)
	}
	for _, p := range d.Partitions {
		s := p.Text()
		if s == "" {
			s = "nothing known"
		}
		lines = append(lines, p.Name+": "+s)
	}
	return lines
}

// Text describes the content, empty when nothing is known.
func (c Content) Text() string {
	label := ""
	if c.Label != "" {
		label = ` "` + c.Label + `"`
	}
	switch {
	case c.FileSystem == "iso9660" && strings.HasPrefix(c.Label, "Ubuntu"):
		return "the installation medium" + label
	case c.FileSystem == "iso9660" && strings.EqualFold(c.Label, "cidata"):
		return "a NoCloud seed"
	case c.FileSystem != "":
		return c.FileSystem + label
	}
	return ""
}

// printable returns text of a device as it can be shown: without control and
// format characters, which could turn the line around, and with single blanks.
func printable(s string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return strings.Join(strings.Fields(clean), " ")
}
