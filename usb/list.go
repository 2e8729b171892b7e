package usb

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// System is a machine's records of its block devices.
type System struct {
	// FS is the machine's root file system. Read from it are sys/block,
	// sys/class/block, sys/dev/block, sys/fs/btrfs, proc/self/mountinfo,
	// proc/swaps, run/udev/data and, where udev says nothing, the beginnings of
	// the devices themselves in dev.
	FS fs.FS
}

// sysfsSector is the unit of sizes in sysfs, whatever the device's own sectors.
const sysfsSector = 512

// kind says what a device is to this package.
type kind int

const (
	kindOther kind = iota // refused: nobody taught us what it is
	kindDisk
	kindOptical
	kindStacked // put together from other devices by the kernel
	kindMemory  // not listed
)

// kinds tells them by the kernel's names (Documentation/admin-guide/devices.txt).
var kinds = []struct {
	name *regexp.Regexp
	kind kind
}{
	{regexp.MustCompile(`^(sd|vd|xvd|hd)[a-z]+$`), kindDisk},
	{regexp.MustCompile(`^nvme\d+n\d+$`), kindDisk},
	{regexp.MustCompile(`^mmcblk\d+$`), kindDisk},
	{regexp.MustCompile(`^loop\d+$`), kindDisk},
	{regexp.MustCompile(`^sr\d+$`), kindOptical},
	{regexp.MustCompile(`^(dm-|md|bcache|drbd|zd)`), kindStacked},
	{regexp.MustCompile(`^z?ram\d+$`), kindMemory},
}

func kindOf(name string) kind {
	for _, k := range kinds {
		if k.name.MatchString(name) {
			return k.kind
		}
	}
	return kindOther
}

// List returns the machine's whole block devices, in the order of their names.
// Memory disks, hidden paths and loop devices without a file are left out. What
// cannot be read of one device is told in its Unknown; an error means that there
// is no list at all.
func (s System) List() ([]Device, error) {
	entries, err := fs.ReadDir(s.FS, "sys/block")
	if err != nil {
		return nil, fmt.Errorf("cannot list the block devices: %w", err)
	}
	graph := s.readGraph()
	var devices []Device
	for _, e := range entries {
		name := e.Name()
		dir := path.Join("sys/block", name)
		if kindOf(name) == kindMemory || s.word(dir, "hidden") == "1" {
			continue
		}
		d := s.device(name, graph)
		if d.Bus == BusLoop && d.Backing == "" && d.Size == 0 {
			continue
		}
		devices = append(devices, d)
	}
	addOtherPaths(devices)
	slices.SortFunc(devices, func(a, b Device) int {
		return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	return devices, nil
}

// addOtherPaths adds to each disk that seems free the use of the same disk by another
// path: two cables to one array, without the multipath driver over them. One disk has
// one name all over the world, and one length.
func addOtherPaths(devices []Device) {
	found := make([]Use, len(devices)) // added when all have been looked at
	for i := range devices {
		d := &devices[i]
		if d.wwid == "" || len(d.Uses) > 0 {
			continue
		}
		for j := range devices {
			if other := &devices[j]; i != j && other.wwid == d.wwid && other.Size == d.Size && len(other.Uses) > 0 {
				found[i] = Use{Kind: UsePath, Chain: []string{d.Name}, Where: fmt.Sprintf("%s, and %s", other.Name, other.Uses[0])}
			}
		}
	}
	for i, u := range found {
		if u.Kind != "" {
			devices[i].Uses = append(devices[i].Uses, u)
		}
	}
}

// ErrNoDevice says that no block device has the number asked for.
var ErrNoDevice = errors.New("no such block device")

// Find returns the device with a number (major:minor). For a partition's number
// it returns the whole device and the partition's name.
func (s System) Find(number string) (Device, string, error) {
	devices, err := s.List()
	if err != nil {
		return Device{}, "", err
	}
	for _, d := range devices {
		if d.Number == number {
			return d, "", nil
		}
		for _, p := range d.Partitions {
			if p.Number == number {
				return d, p.Name, nil
			}
		}
	}
	return Device{}, "", fmt.Errorf("%w with the number %s", ErrNoDevice, number)
}

// device reads all there is to know of a device.
func (s System) device(name string, graph *graph) Device {
	dir := path.Join("sys/block", name)
	d := Device{Name: name, Path: "/dev/" + nodeName(name), kind: kindOf(name)}
	unknown := func(format string, args ...any) { d.Unknown = append(d.Unknown, fmt.Sprintf(format, args...)) }
	d.Unknown = append(d.Unknown, graph.unknown...)

	d.Number = s.word(dir, "dev")
	if d.Number == "" {
		unknown("its number in %s/dev", dir)
	}
	sectors, err := strconv.ParseInt(s.word(dir, "size"), 10, 64)
	if err != nil || sectors < 0 || sectors > 1<<53 {
		unknown("its size in %s/size", dir)
	}
	d.Size = sectors * sysfsSector
	d.SectorSize, err = strconv.Atoi(s.word(dir, "queue/logical_block_size"))
	if err != nil {
		unknown("the length of its sectors in %s/queue/logical_block_size", dir)
	}
	d.Removable = s.flag(&d, dir, "removable")
	d.ReadOnly = s.flag(&d, dir, "ro")
	d.Sequence, _ = strconv.ParseUint(s.word(dir, "diskseq"), 10, 64) // 0: an old kernel

	udev := s.udev(d.Number)
	d.Bus = s.bus(name, dir)
	if d.Bus == BusSD {
		d.Removable = true // its driver says 0 for every card
	}
	d.Model = printable(cmp.Or(s.word(dir, "device/model"), s.word(dir, "device/name"), udev["ID_MODEL"]))
	if vendor := printable(s.word(dir, "device/vendor")); vendor != "" && vendor != "ATA" && !strings.HasPrefix(vendor, "0x") {
		d.Model = strings.TrimSpace(vendor + " " + d.Model)
	}
	d.Serial = printable(cmp.Or(udev["ID_SERIAL_SHORT"], s.word(dir, "device/serial"), s.word(dir, "serial"), s.usbSerial(dir)))
	d.WWN = printable(cmp.Or(udev["ID_WWN"], s.word(dir, "device/wwid"), s.word(dir, "wwid")))
	d.wwid = cmp.Or(s.word(dir, "device/wwid"), s.word(dir, "wwid"), udev["ID_WWN_WITH_EXTENSION"])
	d.Backing = printable(s.word(dir, "loop/backing_file"))
	_, onDevice := s.backingNumber(s.word(dir, "loop/backing_file"))
	if onDevice || strings.HasPrefix(d.Backing, "/dev/") && !strings.HasPrefix(d.Backing, "/dev/shm/") {
		d.kind = kindStacked // a view of another device, which may be in use
	}
	d.Table = udev["ID_PART_TABLE_TYPE"]
	d.Content = s.content(name, d.Size, udev)
	s.partitions(&d, dir)
	d.Uses = graph.uses(&d)
	return d
}

// partitions reads the device's partitions.
func (s System) partitions(d *Device, dir string) {
	entries, err := fs.ReadDir(s.FS, dir)
	if err != nil {
		d.Unknown = append(d.Unknown, "its partitions in "+dir)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), d.Name) || !s.exists(path.Join(dir, e.Name(), "partition")) {
			continue
		}
		part := path.Join(dir, e.Name())
		p := Partition{Name: e.Name(), Number: s.word(part, "dev")}
		sectors, err := strconv.ParseInt(s.word(part, "size"), 10, 64)
		if err != nil || p.Number == "" {
			d.Unknown = append(d.Unknown, "the partition "+p.Name)
		}
		p.Size = sectors * sysfsSector
		p.Content = s.content(p.Name, p.Size, s.udev(p.Number))
		d.Partitions = append(d.Partitions, p)
	}
	slices.SortFunc(d.Partitions, func(a, b Partition) int {
		return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
	})
}

// extent is a partition as the kernel has it.
type extent struct {
	Range
	name   string
	number int // in the table
}

// extent reads what the kernel knows of a partition.
func (s System) extent(device, name string) (extent, error) {
	dir := path.Join("sys/block", device, name)
	number, err := strconv.Atoi(s.word(dir, "partition"))
	if err != nil {
		return extent{}, fmt.Errorf("cannot read the number of the partition in %s: %w", dir, err)
	}
	start, err := strconv.ParseInt(s.word(dir, "start"), 10, 64)
	if err != nil {
		return extent{}, fmt.Errorf("cannot read where the partition in %s begins: %w", dir, err)
	}
	sectors, err := strconv.ParseInt(s.word(dir, "size"), 10, 64)
	if err != nil {
		return extent{}, fmt.Errorf("cannot read the length of the partition in %s: %w", dir, err)
	}
	return extent{Range{start * sysfsSector, sectors * sysfsSector}, name, number}, nil
}

// flag reads a file that holds 0 or 1.
func (s System) flag(d *Device, dir, name string) bool {
	switch s.word(dir, name) {
	case "0":
		return false
	case "1":
		return true
	}
	d.Unknown = append(d.Unknown, fmt.Sprintf("whether it is %q in %s", name, dir))
	return false
}

// bus goes by where the device hangs in the tree of /sys/devices, to which the
// entry in /sys/block is a link.
func (s System) bus(name, dir string) Bus {
	target, err := fs.ReadLink(s.FS, dir)
	if err != nil {
		return BusUnknown
	}
	has := func(part string) bool { return strings.Contains(target, part) }
	switch {
	case strings.HasPrefix(name, "loop"):
		return BusLoop
	case has("/virtual/") && !strings.HasPrefix(name, "nvme"): // NVMe multipath lies there
		return BusVirtual
	case has("/usb"):
		return BusUSB
	case has("/nvme"):
		return BusNVMe
	case has("/virtio"):
		return BusVirtio
	case has("/mmc_host/"):
		if s.word(dir, "device/type") == "SD" {
			return BusSD
		}
		return BusMMC
	case has("/ata"):
		return BusSATA
	case has("/vbd-"):
		return BusXen
	case has("/host") && has("/target"):
		return BusSCSI
	}
	return BusUnknown
}

// usbSerial returns the serial number of the USB device that a block device hangs
// on: the nearest folder above it in /sys/devices that has a USB vendor.
func (s System) usbSerial(dir string) string {
	target, err := fs.ReadLink(s.FS, dir)
	if err != nil {
		return ""
	}
	above := path.Join(path.Dir(dir), target)
	for strings.HasPrefix(above, "sys/devices/") {
		if above = path.Dir(above); s.exists(path.Join(above, "idVendor")) {
			return s.word(above, "serial")
		}
	}
	return ""
}

// content goes by udev's record and, without one, by the signature.
func (s System) content(name string, size int64, udev map[string]string) Content {
	if udev == nil {
		return s.signature(name, size)
	}
	label := cmp.Or(unescape(udev["ID_FS_LABEL_ENC"]), udev["ID_FS_LABEL"])
	return Content{FileSystem: printable(udev["ID_FS_TYPE"]), Label: printable(label)}
}

// udev returns the properties that udev recorded for a device number, nil when it
// recorded none (systemd, src/libsystemd/sd-device: one "E:KEY=VALUE" a line).
func (s System) udev(number string) map[string]string {
	if number == "" {
		return nil
	}
	data, err := fs.ReadFile(s.FS, "run/udev/data/b"+number)
	if err != nil {
		return nil
	}
	properties := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if key, value, found := strings.Cut(strings.TrimSuffix(line, "\n"), "="); found && strings.HasPrefix(key, "E:") {
			properties[key[2:]] = value
		}
	}
	return properties
}

// unescape undoes udev's \xNN.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if strings.HasPrefix(s[i:], `\x`) && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// nodeName turns a name in sysfs into that of the node in /dev, and sysName back:
// sysfs writes ! for a slash.
func nodeName(name string) string { return strings.ReplaceAll(name, "!", "/") }
func sysName(node string) string  { return strings.ReplaceAll(node, "/", "!") }

// word returns a file's content without surrounding space; empty when it cannot
// be read.
func (s System) word(dir, name string) string {
	data, err := fs.ReadFile(s.FS, path.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.Trim(string(data), " \t\r\n\x00")
}

func (s System) exists(name string) bool {
	_, err := fs.Stat(s.FS, name)
	return err == nil
}
