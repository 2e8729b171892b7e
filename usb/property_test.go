package usb

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// machine makes up the records of a machine and knows which of its disks are used.
type machine struct {
	*rand.Rand
	files  fstest.MapFS
	minor  int
	mounts []string
	swaps  []string
	disks  []string
	below  map[string][]string // block device or partition: the disks it lies on
	used   map[string]string   // disk: why
	// leaves are what something can still be put on.
	leaves []leaf
}

type leaf struct{ name, number, dir, source string }

func newMachine(r *rand.Rand) *machine {
	m := &machine{Rand: r, files: fstest.MapFS{}, below: map[string][]string{}, used: map[string]string{}}
	m.mounts = []string{"22 28 0:21 / /proc rw - proc proc rw", "28 1 0:50 / / rw - overlay overlay rw"}
	for i := range 1 + m.IntN(4) {
		m.disk(i)
	}
	for range m.IntN(7) {
		m.use()
	}
	m.file("proc/self/mountinfo", strings.Join(m.mounts, "\n"))
	m.file("proc/swaps", "Filename Type Size Used Priority\n"+strings.Join(m.swaps, "\n"))
	return m
}

func (m *machine) file(path, content string) {
	m.files[path] = &fstest.MapFile{Data: []byte(content + "\n")}
}
func (m *machine) folder(path string) { m.files[path] = &fstest.MapFile{Mode: fs.ModeDir | 0o755} }
func (m *machine) link(path, target string) {
	m.files[path] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
}

// block adds the records that every block device has.
func (m *machine) block(name, where string) leaf {
	m.minor++
	dir := "sys/devices/" + where + "/" + name
	m.link("sys/block/"+name, "../devices/"+where+"/"+name)
	number := fmt.Sprintf("%d:%d", 8+m.IntN(250), m.minor)
	for file, content := range map[string]string{
		"dev": number, "size": fmt.Sprint(1 + m.Int64N(1<<40)), "ro": "0", "removable": fmt.Sprint(m.IntN(2)),
		"queue/logical_block_size": "512", "diskseq": fmt.Sprint(m.minor),
	} {
		m.file(dir+"/"+file, content)
	}
	m.folder(dir + "/holders")
	m.folder(dir + "/slaves")
	return leaf{name, number, dir, "/dev/" + name}
}

func (m *machine) disk(i int) {
	letter := string(rune('a' + i))
	kinds := []struct{ name, where string }{
		{"sd" + letter, "pci0/usb1/1-1/host1/target1:0:0/block"},
		{"sd" + letter, "pci0/ata1/host0/target0:0:0/block"},
		{"vd" + letter, "pci0/virtio0/block"},
		{fmt.Sprintf("nvme%dn1", i), "pci0/nvme/nvme0"},
		{fmt.Sprintf("mmcblk%d", i), "pci0/mmc_host/mmc0/mmc0:1/block"},
	}
	k := kinds[m.IntN(len(kinds))]
	disk := m.block(k.name, k.where)
	m.disks = append(m.disks, k.name)
	m.below[k.name] = []string{k.name}
	m.partition(disk, m.IntN(4))
}

// partition puts partitions on a block device; without any, it is itself a leaf.
func (m *machine) partition(on leaf, count int) {
	if count == 0 {
		m.leaves = append(m.leaves, on)
	}
	for n := 1; n <= count; n++ {
		m.minor++
		name := fmt.Sprintf("%s%d", on.name, n)
		if c := on.name[len(on.name)-1]; c >= '0' && c <= '9' {
			name = fmt.Sprintf("%sp%d", on.name, n)
		}
		p := leaf{name, fmt.Sprintf("%d:%d", 8+m.IntN(250), m.minor), on.dir + "/" + name, "/dev/" + name}
		m.file(p.dir+"/partition", fmt.Sprint(n))
		m.file(p.dir+"/dev", p.number)
		m.file(p.dir+"/size", "2048")
		m.folder(p.dir + "/holders")
		m.below[name] = m.below[on.name]
		m.leaves = append(m.leaves, p)
	}
}

func (m *machine) mark(l leaf, why string) {
	for _, disk := range m.below[l.name] {
		m.used[disk] = why + " on " + l.name
	}
}

// use puts one thing on one or two leaves.
func (m *machine) use() {
	if len(m.leaves) == 0 {
		return
	}
	i := m.IntN(len(m.leaves))
	l := m.leaves[i]
	where := fmt.Sprintf("/mnt\\040%d", m.minor)
	switch m.IntN(9) {
	case 0, 1, 2: // a stacked device, on which something may lie in turn
		m.stack(i)
		return
	case 3:
		m.mounts = append(m.mounts, fmt.Sprintf("40 28 %s / %s rw shared:1 - ext4 /dev/root rw", l.number, where))
		m.mark(l, "mounted")
	case 4: // the number is no device's
		m.mounts = append(m.mounts, fmt.Sprintf("41 28 0:%d / %s rw - btrfs %s rw", 60+m.minor, where, l.source))
		m.mark(l, "mounted by name")
	case 5:
		m.swaps = append(m.swaps, l.source+" partition 1 0 -2")
		m.mark(l, "swap")
	case 6:
		m.folder("sys/fs/btrfs/features")
		m.link("sys/fs/btrfs/0000-1111/devices/"+l.name, "../../../../block/"+l.name)
		m.mark(l, "btrfs")
	case 7:
		m.file("run/udev/data/b"+l.number, "E:ID_FS_TYPE=zfs_member")
		m.mark(l, "ZFS")
	case 8:
		m.folder(l.dir + "/bcache")
		m.mark(l, "bcache")
	}
	m.leaves = slices.Delete(m.leaves, i, i+1)
}

// stack builds a device on one leaf or two.
func (m *machine) stack(i int) {
	on := []leaf{m.leaves[i]}
	m.leaves = slices.Delete(m.leaves, i, i+1)
	if len(m.leaves) > 0 && m.IntN(3) == 0 {
		j := m.IntN(len(m.leaves))
		on = append(on, m.leaves[j])
		m.leaves = slices.Delete(m.leaves, j, j+1)
	}
	kinds := []string{"dm-%d", "md%d", "bcache%d"}
	if len(on) == 1 {
		kinds = append(kinds, "loop%d")
	}
	kind := kinds[m.IntN(len(kinds))]
	above := m.block(fmt.Sprintf(kind, m.minor), "virtual/block")
	switch kind {
	case "dm-%d":
		mapped := fmt.Sprintf("vg-lv%d", m.minor)
		m.file(above.dir+"/dm/name", mapped)
		m.file(above.dir+"/dm/uuid", []string{"LVM-x", "CRYPT-x", "mpath-x", ""}[m.IntN(4)])
		above.source = "/dev/mapper/" + mapped
	case "loop%d":
		m.file(above.dir+"/loop/backing_file", on[0].source)
	}
	for _, l := range on {
		m.below[above.name] = append(m.below[above.name], m.below[l.name]...)
		if kind != "loop%d" { // which alone holds nothing in sysfs
			m.link(l.dir+"/holders/"+above.name, "../"+above.name)
			m.link(above.dir+"/slaves/"+l.name, "../"+l.name)
		}
		m.mark(l, "held by "+above.name)
	}
	m.partition(above, m.IntN(3))
}

// damage takes one record away that sysfs and proc cannot do without.
func (m *machine) damage() string {
	var paths []string
	for path := range m.files {
		switch {
		case strings.HasPrefix(path, "sys/fs/"), strings.HasPrefix(path, "run/"), strings.Contains(path, "/dm/"),
			strings.HasSuffix(path, "/bcache"), strings.HasSuffix(path, "/diskseq"),
			strings.HasPrefix(path, "sys/block/"), strings.HasSuffix(path, "/partition"):
		default:
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	gone := paths[m.IntN(len(paths))]
	delete(m.files, gone)
	return gone
}

// TestNoDiskInUsePasses makes up 10,000 machines: none of their disks that is in
// use passes, however the use is stacked, and all free ones do. Half of the
// machines lack a record, and then the used ones still do not pass.
func TestNoDiskInUsePasses(t *testing.T) {
	machines := 10_000
	if testing.Short() {
		machines = 1000
	}
	used, free := 0, 0
	for seed := range uint64(machines) {
		m := newMachine(rand.New(rand.NewPCG(seed, 7)))
		gone := ""
		if seed%2 == 1 {
			gone = m.damage()
		}
		devices, err := System{FS: m.files}.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range devices {
			if !slices.Contains(m.disks, d.Name) {
				continue
			}
			refusal := Refuse(&d, Request{Size: 1, AllowFixed: true})
			why, inUse := m.used[d.Name]
			switch {
			case inUse:
				used++
				if refusal == nil {
					t.Fatalf("machine %d: %s passes: %s, without the record %q", seed, d.Name, why, gone)
				}
			case gone == "":
				free++
				if refusal != nil {
					t.Fatalf("machine %d: %s does not pass: %s", seed, d.Name, refusal)
				}
			}
		}
	}
	t.Logf("%d disks in use were refused, %d free ones passed", used, free)
	if used < machines || free < machines/3 {
		t.Errorf("only %d disks in use and %d free ones: the test shows little", used, free)
	}
}
