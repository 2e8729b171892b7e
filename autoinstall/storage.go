package autoinstall

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/config"
)

// storage returns the storage section with the nearest thing to the disk rules
// that the installer can match by itself; choose-disk.sh, in early-commands,
// replaces it with the paths of the disks that fit. Where one of the installer's
// own layouts does what is asked for, it is taken. Everything else is a list of
// curtin's actions.
func (b *builder) storage() *Storage {
	s := &b.in.Machine.Storage
	out := &Storage{}
	switch {
	case s.Config != nil:
		if err := s.Config.Decode(&out.Config); err != nil {
			b.complain("storage.config", fmt.Sprintf("cannot read storage.config: %v", err), "write a list of curtin's storage actions")
		}
	case b.ownLayout():
		out.Layout = &Layout{Name: s.Layout, Match: Matches{match(s.Disk)}}
		if s.Layout == "lvm" {
			out.Layout.SizingPolicy = "all"
		}
	default:
		out.Config = b.actions()
	}
	if s.Swap != nil {
		out.Swap = map[string]any{"size": int(*s.Swap)}
	}
	return out
}

// ownLayout reports whether the installer's own layout does what is asked for.
// The installer of the first 22.04 images heeds swap beside actions alone, and
// nowhere a password.
func (b *builder) ownLayout() bool {
	s := &b.in.Machine.Storage
	return s.Layout != "raid1" && s.Encryption == nil && s.Boot == 0 && len(s.Data) == 0 &&
		(s.Swap == nil || b.in.Machine.Ubuntu >= "24.04")
}

// match returns the nearest thing to a disk rule.
func match(d config.Disk) Match {
	switch {
	case d.Serial != "":
		// ID_SERIAL, which the installer compares, has the model before the
		// serial number and sometimes a namespace behind it.
		return Match{Serial: "*" + literalPattern(d.Serial) + "*"}
	case d.WWN != "":
		return Match{Path: "/dev/disk/by-id/wwn-" + literalPattern(d.WWN)}
	case d.Path != "":
		return Match{Path: literalPattern(d.Path)}
	case d.Size != "":
		return Match{Size: d.Size}
	}
	return Match{Size: "largest"}
}

// literalPattern returns a shell pattern that matches s alone.
func literalPattern(s string) string {
	return strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]").Replace(s)
}

// diskRules returns the arguments of choose-disk.sh.
func diskRules(s *config.Storage) []string {
	out := diskRule(s.Disk)
	for _, d := range s.Further {
		out = append(append(out, "--disk"), diskRule(d)...)
	}
	for _, d := range s.Data {
		out = append(append(out, "--data"), diskRule(d.Disk)...)
	}
	return out
}

func diskRule(d config.Disk) []string {
	switch {
	case d.Serial != "":
		return []string{"serial", d.Serial}
	case d.WWN != "":
		return []string{"wwn", d.WWN}
	case d.Path != "":
		return []string{"path", d.Path}
	case d.Size != "":
		return []string{"size", d.Size}
	}
	return []string{"only"}
}

// keepRules returns the arguments of keep-data.sh: for each disk whose file
// system stays, its id, the file system that an empty disk gets, and the
// partition or 0.
func keepRules(s *config.Storage) []string {
	var out []string
	for i, d := range s.Data {
		if d.Preserve {
			out = append(out, fmt.Sprintf("data-%d", i), d.Filesystem, fmt.Sprint(d.Partition))
		}
	}
	return out
}

// Sizes of what is made, in bytes, where nobody says otherwise: the installer's
// own sizes for a disk of some hundred GB.
const (
	mebibyte = 1 << 20
	biosSize = 1 * mebibyte
	espSize  = 1075 * mebibyte
	bootSize = 2048 * mebibyte
)

// rest is a size that stands for all that is left of a disk or a volume group.
const rest = -1

// action is one of curtin's storage actions.
type action = map[string]any

// actions returns curtin's storage actions for the layout: on each disk what
// both firmwares boot from, then /boot where it must be apart, then the system.
// choose-disk.sh takes out what the machine's firmware does not need.
func (b *builder) actions() []action {
	s := &b.in.Machine.Storage
	apart := s.Boot > 0 || s.Encryption != nil || s.Layout == "lvm"
	boot := s.Boot
	if boot == 0 {
		boot = bootSize
	}
	var out []action
	var boots, roots []string
	for i, d := range s.Disks() {
		id := fmt.Sprintf("disk-%d", i)
		out = append(out, b.bootDisk(id, d, i == 0)...)
		if apart {
			out = append(out, partition(id, "boot", boot))
			boots = append(boots, id+"-boot")
		}
		out = append(out, partition(id, "system", rest))
		roots = append(roots, id+"-system")
	}
	if apart {
		device, more := mirror("md-boot", "md0", boots)
		out = append(append(out, more...), format("boot", device, "ext4"), mount("boot", "/boot"))
	}
	device, more := mirror("md-system", "md1", roots)
	out = append(out, more...)
	if s.Encryption != nil {
		out = append(out, action{"id": "crypt", "type": "dm_crypt", "volume": device, "dm_name": "system", "key": s.Encryption.Key})
		device = "crypt"
	}
	if s.Layout == "lvm" {
		out = append(out,
			action{"id": "vg", "type": "lvm_volgroup", "name": "ubuntu-vg", "devices": []any{device}},
			action{"id": "lv", "type": "lvm_partition", "name": "ubuntu-lv", "volgroup": "vg", "size": rest})
		device = "lv"
	}
	out = append(out, format("system", device, "ext4"), mount("system", "/"))
	for i, d := range s.Data {
		out = append(out, dataActions(fmt.Sprintf("data-%d", i), d)...)
	}
	return out
}

// bootDisk returns a disk of the system with its boot partitions. Each ESP is
// kept up to date by Ubuntu's grub-multi-install, and the first is mounted.
func (b *builder) bootDisk(id string, d config.Disk, first bool) []action {
	out := []action{diskAction(id, d)}
	if b.in.Machine.Arch == "amd64" {
		out[0]["grub_device"] = true
		bios := partition(id, "bios", biosSize)
		bios["flag"] = "bios_grub"
		out = append(out, bios)
	}
	esp := partition(id, "esp", espSize)
	esp["flag"], esp["grub_device"] = "boot", true
	out = append(out, esp, format(id+"-esp", id+"-esp", "fat32"))
	if first {
		out = append(out, mount(id+"-esp", "/boot/efi"))
	}
	return out
}

// diskAction returns a disk that is erased.
func diskAction(id string, d config.Disk) action {
	rule := action{}
	m := match(d)
	for name, value := range map[string]string{"serial": m.Serial, "path": m.Path, "size": m.Size} {
		if value != "" {
			rule[name] = value
		}
	}
	return action{"id": id, "type": "disk", "match": rule, "ptable": "gpt", "wipe": "superblock-recursive"}
}

func partition(disk, use string, size int64) action {
	return action{"id": disk + "-" + use, "type": "partition", "device": disk, "size": int(size), "wipe": "superblock"}
}

func format(id, volume, fstype string) action {
	return action{"id": id + "-format", "type": "format", "volume": volume, "fstype": fstype}
}

func mount(id, at string) action {
	return action{"id": id + "-mount", "type": "mount", "device": id + "-format", "path": at}
}

// mirror returns what holds two partitions' content: their mirror, or the one
// partition itself.
func mirror(id, name string, parts []string) (device string, more []action) {
	if len(parts) == 1 {
		return parts[0], nil
	}
	devices := make([]any, len(parts))
	for i, p := range parts {
		devices[i] = p
	}
	return id, []action{{"id": id, "type": "raid", "name": name, "raidlevel": 1, "devices": devices}}
}

// dataActions returns a disk of data. One that is kept stands here as a file
// system on the whole disk that nobody touches; keep-data.sh writes down what it
// finds there.
func dataActions(id string, d config.Data) []action {
	disk := diskAction(id, d.Disk)
	if !d.Preserve {
		return []action{disk, partition(id, "part", rest), format(id, id+"-part", d.Filesystem), mount(id, d.Mount)}
	}
	delete(disk, "ptable")
	delete(disk, "wipe")
	disk["preserve"] = true
	kept := format(id, id, d.Filesystem)
	kept["preserve"] = true
	return []action{disk, kept, mount(id, d.Mount)}
}

// ownsStorage reports whether the person's raw fragment takes the storage out of
// our hands.
func ownsStorage(fragment *yaml.Node) bool {
	if fragment == nil {
		return false
	}
	section := valueOf(fragment, "storage")
	return section != nil && valueOf(resolveAlias(section), "config") != nil
}
