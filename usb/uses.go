package usb

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// graph is what lies on what: every block device and partition, and who uses it.
type graph struct {
	nodes map[string]*node
	// unknown is what could not be read at all: it could hide a use of any device.
	unknown []string
}

// node is a block device or partition.
type node struct {
	name       string
	number     string
	partitions []string
	holders    []string // block devices built on this one
	mapped     string   // the device-mapper name
	about      string   // what this is, for people: LVM volume vg0-root
	uses       []Use    // direct ones; Chain ends here
}

// readGraph reads who uses what.
func (s System) readGraph() *graph {
	g := &graph{nodes: map[string]*node{}}
	entries, err := fs.ReadDir(s.FS, "sys/block")
	if err != nil {
		g.unknown = append(g.unknown, "the block devices in sys/block")
	}
	for _, e := range entries {
		s.addNode(g, e.Name(), path.Join("sys/block", e.Name()))
	}
	for _, e := range entries {
		s.addLinks(g, e.Name())
	}
	s.addMounts(g)
	s.addSwaps(g)
	s.addBtrfs(g)
	return g
}

// addNode adds a device and its partitions.
func (s System) addNode(g *graph, name, dir string) {
	n := &node{name: name, number: s.word(dir, "dev"), mapped: s.word(dir, "dm/name"), about: s.about(name, dir)}
	g.nodes[name] = n
	if n.number == "" && s.word(dir, "hidden") != "1" {
		g.unknown = append(g.unknown, "the number of a device that could be mounted, in "+dir+"/dev")
	}
	n.holders = s.names(g, dir, "holders")
	if s.exists(path.Join(dir, "bcache")) {
		n.uses = append(n.uses, Use{Kind: UseMember, Where: "a bcache set"})
	}
	entries, err := fs.ReadDir(s.FS, dir)
	if err != nil {
		g.unknown = append(g.unknown, "the partitions in "+dir)
	}
	for _, e := range entries {
		part := path.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), name) && s.exists(path.Join(part, "partition")) {
			n.partitions = append(n.partitions, e.Name())
			s.addNode(g, e.Name(), part)
		}
	}
}

// names lists a folder of links to devices. Every device has one, even if empty.
func (s System) names(g *graph, dir, name string) []string {
	entries, err := fs.ReadDir(s.FS, path.Join(dir, name))
	if err != nil {
		g.unknown = append(g.unknown, "what holds a device, in "+path.Join(dir, name))
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// addLinks adds the edges that holders does not tell: what a stacked device says
// it is made of, and the devices behind loop devices.
func (s System) addLinks(g *graph, name string) {
	dir := path.Join("sys/block", name)
	entries, err := fs.ReadDir(s.FS, path.Join(dir, "slaves"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.unknown = append(g.unknown, "what a device is made of, in "+dir+"/slaves")
	}
	for _, e := range entries {
		g.hold(e.Name(), name)
	}
	if !strings.HasPrefix(name, "loop") {
		return
	}
	file := s.word(dir, "loop/backing_file")
	n := s.nodeAt(g, file)
	if number, isDevice := s.backingNumber(file); n == nil && isDevice {
		if n = g.byNumber(number); n == nil {
			g.unknown = append(g.unknown, fmt.Sprintf("which device is %s, behind a loop device", printable(file)))
		}
	}
	if n != nil {
		g.hold(n.name, name)
	}
	if size := s.word(dir, "size"); file == "" && size != "0" {
		g.unknown = append(g.unknown, "what is behind a loop device, in "+dir+"/loop/backing_file")
	}
}

// backingNumber returns the number of the device that is behind a loop device, and
// whether what is there is a device at all: device nodes may lie anywhere, and in the
// /dev of a chroot often do.
func (s System) backingNumber(file string) (number string, isDevice bool) {
	info, err := fs.Stat(s.FS, strings.TrimPrefix(file, "/"))
	if err != nil || info.Mode()&fs.ModeDevice == 0 {
		return "", false
	}
	return nodeNumber(info), true
}

// nodeAt returns the node of a path in /dev: a kernel name, a device-mapper name
// or a link to one of them; nil for everything else.
func (s System) nodeAt(g *graph, file string) *node {
	file, ok := strings.CutPrefix(strings.TrimSuffix(file, " (deleted)"), "/dev/")
	if !ok {
		return nil
	}
	if n := g.nodes[sysName(file)]; n != nil {
		return n
	}
	if mapped, ok := strings.CutPrefix(file, "mapper/"); ok {
		for _, n := range g.nodes {
			if n.mapped == mapped {
				return n
			}
		}
	}
	if target, err := fs.ReadLink(s.FS, path.Join("dev", file)); err == nil {
		return g.nodes[path.Base(target)]
	}
	return nil
}

// hold records that a device is built on another.
func (g *graph) hold(below, above string) {
	if n := g.nodes[below]; n != nil && !slices.Contains(n.holders, above) {
		n.holders = append(n.holders, above)
	}
}

// about says what a stacked device is.
func (s System) about(name, dir string) string {
	if dm := s.word(dir, "dm/name"); dm != "" {
		id := s.word(dir, "dm/uuid")
		for prefix, what := range map[string]string{
			"LVM-": "the LVM volume ", "CRYPT-": "the encrypted volume ", "mpath-": "the multipath device ",
		} {
			if strings.HasPrefix(id, prefix) {
				return what + printable(dm)
			}
		}
		return "the device-mapper volume " + printable(dm)
	}
	if level := s.word(dir, "md/level"); level != "" {
		return "the md array " + name + " (" + printable(level) + ")"
	}
	if strings.HasPrefix(name, "loop") {
		return "the loop device " + name
	}
	return name
}

// addMounts reads the mount table (proc(5), /proc/pid/mountinfo: the third field
// is the number, the fifth the mount point, and behind a hyphen file system and
// source). File systems on several devices show only one, by its path.
func (s System) addMounts(g *graph) {
	data, err := fs.ReadFile(s.FS, "proc/self/mountinfo")
	if err != nil {
		g.unknown = append(g.unknown, "what is mounted, in /proc/self/mountinfo")
		return
	}
	for line := range strings.Lines(string(data)) {
		// Only blanks part the fields: a folder's name may hold any other space.
		fields := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		dash := slices.Index(fields, "-")
		if dash < 6 || len(fields) < dash+3 {
			g.unknown = append(g.unknown, fmt.Sprintf("what is mounted: the line %q of /proc/self/mountinfo", printable(line)))
			continue
		}
		number, where, source := fields[2], unescapeOctal(fields[4]), unescapeOctal(fields[dash+2])
		use := Use{Kind: UseMounted, Where: printable(where)}
		if n := g.byNumber(number); n != nil {
			n.uses = append(n.uses, use)
			continue
		}
		for file := range strings.SplitSeq(source, ":") { // bcachefs names all its devices
			if n := s.nodeAt(g, file); n != nil {
				n.uses = append(n.uses, use)
			} else if manyDevices[fields[dash+1]] {
				g.unknown = append(g.unknown, fmt.Sprintf("which device %s, mounted at %s, is on", printable(source), use.Where))
			}
		}
	}
}

// manyDevices are the file systems on several devices, whose number in the mount
// table is no device's.
var manyDevices = map[string]bool{"btrfs": true, "bcachefs": true}

// addSwaps reads the swap areas (proc(5), /proc/swaps). A swap file belongs to a
// file system, which is mounted.
func (s System) addSwaps(g *graph) {
	data, err := fs.ReadFile(s.FS, "proc/swaps")
	if err != nil {
		g.unknown = append(g.unknown, "what is used as swap, in /proc/swaps")
		return
	}
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		if i == 0 || len(fields) < 2 || fields[1] != "partition" {
			continue
		}
		file := unescapeOctal(fields[0])
		n := s.nodeAt(g, file)
		if n == nil {
			g.unknown = append(g.unknown, "which device the swap area "+printable(file)+" is on")
			continue
		}
		n.uses = append(n.uses, Use{Kind: UseSwap})
	}
}

// addBtrfs reads which devices belong to mounted btrfs file systems, of whose
// devices the mount table shows but one.
func (s System) addBtrfs(g *graph) {
	systems, err := fs.ReadDir(s.FS, "sys/fs/btrfs")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // the file system's driver may not be loaded
		g.unknown = append(g.unknown, "what btrfs is mounted, in sys/fs/btrfs")
	}
	for _, e := range systems {
		folder := path.Join("sys/fs/btrfs", e.Name(), "devices")
		members, err := fs.ReadDir(s.FS, folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the folder "features" has none
			g.unknown = append(g.unknown, "the devices of a btrfs, in "+folder)
		}
		for _, m := range members {
			if n := g.nodes[m.Name()]; n != nil {
				n.uses = append(n.uses, Use{Kind: UseMember, Where: "a mounted btrfs file system"})
			}
		}
	}
}

func (g *graph) byNumber(number string) *node {
	for _, n := range g.nodes {
		if n.number == number && number != "" {
			return n
		}
	}
	return nil
}

// uses collects what uses a device: itself, its partitions, and all above them.
func (g *graph) uses(d *Device) []Use {
	var found []Use
	seen := map[string]bool{}
	var walk func(name string, chain []string)
	walk = func(name string, chain []string) {
		if seen[name] {
			return
		}
		seen[name] = true
		chain = append(slices.Clone(chain), name)
		n := g.nodes[name]
		if n == nil {
			return
		}
		for _, u := range n.uses {
			u.Chain = chain
			found = append(found, u)
		}
		for _, part := range n.partitions {
			walk(part, chain[:len(chain)-1])
		}
		for _, holder := range n.holders {
			about := holder
			if h := g.nodes[holder]; h != nil {
				about = h.about
			}
			found = append(found, Use{Kind: UseHeld, Chain: append(slices.Clone(chain), holder), Where: about})
			walk(holder, chain)
		}
	}
	walk(d.Name, nil)
	// ZFS claims its devices without showing up in sysfs.
	for _, p := range append([]Partition{{Name: d.Name, Content: d.Content}}, d.Partitions...) {
		if p.FileSystem == "zfs_member" {
			found = append(found, Use{Kind: UseMember, Chain: []string{p.Name}, Where: strings.TrimSpace("the ZFS pool " + p.Label)})
		}
	}
	return found
}

// unescapeOctal undoes the kernel's \ooo for blanks and backslashes.
func unescapeOctal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
