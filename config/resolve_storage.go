package config

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/report"
)

func (r *resolver) storage(k *storageKeys, m *Machine, path string) Storage {
	out := Storage{Layout: defaultStorage}
	if k == nil || k.bad {
		return out
	}
	path = under(path, "storage")
	out.Layout = otherwise(k.layout, defaultStorage)
	out.Boot = bytesOf(k.boot.v)
	if k.swap.ok() {
		swap := bytesOf(k.swap.v)
		out.Swap = &swap
	}
	if e := k.encryption; e != nil && otherwise(e.on, true) {
		out.Encryption = r.encryption(e, under(path, "encryption"))
	}
	if k.config.ok() {
		out.Layout, out.Config = "", k.config.v
	}
	out.Disk, out.Further = disksOf(k, out.Layout)
	for i, d := range k.data.items {
		out.Data = append(out.Data, Data{
			Disk: diskOf(d.disk), Mount: d.mount.v, Preserve: otherwise(d.preserve, true),
			Filesystem: otherwise(d.filesystem, defaultFilesystem), Partition: d.partition.v,
		})
		r.checkData(k, i, fmt.Sprintf("%s.data[%d]", path, i))
	}
	r.checkDiskCount(k, &out, path)
	r.checkDiskRules(k, path)
	r.checkLayout(k, &out, m, path)
	if out.Config != nil {
		r.checkActions(k, len(out.Further)+1, path)
	}
	return out
}

const (
	defaultFilesystem = "ext4"
	byPassphrase      = "passphrase"
)

func (r *resolver) encryption(k *encryptionKeys, path string) *Encryption {
	if !k.key.set() && !k.bad {
		r.error(k.at, path, fmt.Sprintf("%s has no \"key_file\"", path), "add key_file: …")
	}
	return &Encryption{Key: k.key.v, TPM: r.tpm(k.tpm, under(path, "tpm"))}
}

// secureBootPCR holds whether Secure Boot is on, its keys, and whose signatures
// were accepted. It stays as it is over updates of the kernel and of GRUB.
const secureBootPCR = 7

func (r *resolver) tpm(k *tpmKeys, path string) *TPM {
	if k == nil || k.bad || !otherwise(k.on, true) {
		return nil
	}
	out := &TPM{PCRs: []int{secureBootPCR}, Recovery: otherwise(k.recovery, byPassphrase) == byPassphrase}
	if !k.pcrs.set() {
		return out
	}
	out.PCRs = nil
	for i, pcr := range k.pcrs.items {
		if slices.Contains(out.PCRs, pcr.v) {
			r.error(pcr.at, fmt.Sprintf("%s.pcrs[%d]", path, i), fmt.Sprintf("PCR %d is named twice", pcr.v), "remove one of them")
			continue
		}
		out.PCRs = append(out.PCRs, pcr.v)
	}
	slices.Sort(out.PCRs)
	return out
}

func diskOf(k *diskKeys) Disk {
	if k == nil {
		return Disk{}
	}
	return Disk{Serial: k.serial.v, WWN: k.wwn.v, Path: k.path.v, Size: k.size.v}
}

// disksOf returns the rules for the disks of the system.
func disksOf(k *storageKeys, layout string) (first Disk, further []Disk) {
	if k.disks.set() {
		for i, d := range k.disks.items {
			if i == 0 {
				first = diskOf(d)
			} else {
				further = append(further, diskOf(d))
			}
		}
		return first, further
	}
	if layout == layoutRAID1 {
		further = []Disk{{}}
	}
	return diskOf(k.disk), further
}

const (
	layoutZFS   = "zfs"
	layoutRAID1 = "raid1"
)

func (r *resolver) checkDiskCount(k *storageKeys, s *Storage, path string) {
	if k.disks.bad || k.layout.bad || k.config.bad {
		return
	}
	layout := func() []report.Related {
		if !k.layout.set() {
			return nil
		}
		return []report.Related{r.related(k.layout.at, "the layout is here")}
	}
	switch {
	case s.Config != nil:
	case s.Layout == layoutRAID1 && k.disk != nil:
		r.error(k.disk.at, under(path, "disk"), "raid1 takes two disks, and disk names one",
			"write disks: [{serial: …}, {serial: …}], or leave it out where the machine has only two", layout()...)
	case s.Layout == layoutRAID1 && k.disks.set() && len(k.disks.items) != 2:
		r.error(k.disks.at, under(path, "disks"), fmt.Sprintf("raid1 takes two disks, and disks names %d", len(k.disks.items)),
			"write two; for other sets of disks there is storage.config", layout()...)
	case s.Layout != layoutRAID1 && k.disks.set() && len(k.disks.items) > 1:
		r.error(k.disks.at, under(path, "disks"), fmt.Sprintf("the layout %s takes one disk, and disks names %d", s.Layout, len(k.disks.items)),
			"write disk: with one of them, or layout: raid1; disks that only hold data stand in storage.data", layout()...)
	}
}

// checkDiskRules refuses two rules that name one disk.
func (r *resolver) checkDiskRules(k *storageKeys, path string) {
	rules := k.rules()
	for i, one := range rules {
		same := func(other diskRule) bool {
			d := diskOf(one.keys)
			return d.Exact() && strings.EqualFold(fmt.Sprint(d), fmt.Sprint(diskOf(other.keys)))
		}
		if j := slices.IndexFunc(rules[:i], same); j >= 0 {
			r.error(one.keys.at, under(path, one.path), "this disk is named twice", "name another disk, or remove one of them", r.related(rules[j].keys.at, "the other is here"))
		}
	}
}

func (r *resolver) checkData(k *storageKeys, i int, path string) {
	d := k.data.items[i]
	for _, other := range k.data.items[:i] {
		if d.mount.ok() && d.mount.v == other.mount.v {
			r.error(d.mount.at, under(path, "mount"), fmt.Sprintf("two disks would be mounted at %s", d.mount.v), "write another path for one", r.related(other.mount.at, "the other is here"))
		}
	}
	if d.partition.ok() && d.preserve.ok() && !d.preserve.v {
		r.error(d.partition.at, under(path, "partition"), "partition says which file system stays, and this disk is erased", "remove it, or write preserve: true",
			r.related(d.preserve.at, "preserve is here"))
	}
}

// checkLayout refuses what a layout, or the release's installer, cannot do.
func (r *resolver) checkLayout(k *storageKeys, s *Storage, m *Machine, path string) {
	type option struct {
		name string
		at   mark
	}
	var options []option
	if k.encryption != nil && s.Encryption != nil {
		options = append(options, option{"encryption", k.encryption.at})
	}
	if k.boot.ok() {
		options = append(options, option{"boot", k.boot.at})
	}
	if len(k.data.items) > 0 {
		options = append(options, option{"data", k.data.at})
	}
	if s.Config != nil {
		for _, o := range options {
			r.error(o.at, under(path, o.name), o.name+" has no meaning beside config", "write it among config's actions",
				r.related(k.config.at, "config is here"))
		}
		return
	}
	if s.Layout != layoutZFS {
		return
	}
	if k.swap.ok() {
		options = append(options, option{"swap", k.swap.at})
	}
	for _, o := range options {
		r.error(o.at, under(path, o.name), "Ubuntu's installer lays ZFS out by itself, without "+o.name, "remove it, or write layout: lvm, direct or raid1",
			r.related(k.layout.at, "the layout is here"))
	}
	if m.Ubuntu == "22.04" {
		r.error(k.layout.at, under(path, "layout"), "the installer of Ubuntu 22.04 has no layout zfs", `write layout: lvm, direct or raid1, or ubuntu: "24.04"`)
	}
}

// checkActions holds curtin's actions against what the guard of the disks
// needs: it puts the paths of the chosen disks in, by the actions' ids.
func (r *resolver) checkActions(k *storageKeys, disks int, path string) {
	root := false
	seen := map[string]bool{}
	for i, action := range k.config.v.Content {
		at := fmt.Sprintf("%s.config[%d]", path, i)
		word := func(name string) string {
			if n := valueOf(action, name); n != nil && n.Kind == yaml.ScalarNode {
				return n.Value
			}
			return ""
		}
		id, kind := word("id"), word("type")
		switch {
		case id == "" || kind == "":
			r.error(markOf(action), at, "a storage action needs an id and a type", "add id: and type:; curtin's documentation, under Storage, lists the types")
		case seen[id]:
			r.error(markOf(action), at, fmt.Sprintf("two storage actions have the id %q", id), "rename one")
		case kind == "disk":
			r.checkDiskAction(action, id, disks, at)
		case kind == "mount" && word("path") == "/":
			root = true
		}
		seen[id] = true
	}
	for i := range disks {
		if id := fmt.Sprintf("disk-%d", i); !seen[id] {
			r.error(k.config.at, under(path, "config"), fmt.Sprintf("no storage action has the id %s", id), "add {id: "+id+", type: disk, …}, or name fewer disks")
		}
	}
	if !root {
		r.error(k.config.at, under(path, "config"), "nothing is mounted at /", "add {id: …, type: mount, device: …, path: /}")
	}
}

func (r *resolver) checkDiskAction(action *yaml.Node, id string, disks int, at string) {
	ours := false
	for i := range disks {
		ours = ours || id == fmt.Sprintf("disk-%d", i)
	}
	if !ours {
		r.error(markOf(action), at, fmt.Sprintf("no rule says which disk %q is", id),
			fmt.Sprintf("call it disk-0 to disk-%d, by the order of storage.disks, and add a rule there for each further disk", disks-1))
		return
	}
	for _, name := range []string{"match", "serial", "path", "wwn"} {
		if n := valueOf(action, name); n != nil {
			r.error(markOf(n), at+"."+name, fmt.Sprintf("%s says itself which disk it is", id), "remove "+name+": storage.disks says so, and the installation stops unless it means exactly one disk")
		}
	}
}

// valueOf returns the value of a key of a mapping node, or nil.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
