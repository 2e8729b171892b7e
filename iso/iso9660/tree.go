package iso9660

import (
	"bytes"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Kind says which naming a tree follows.
type Kind int

// The kinds of tree.
const (
	Plain Kind = iota + 1
	RockRidge
	Joliet
)

// String returns the extension's name.
func (k Kind) String() string {
	switch k {
	case RockRidge:
		return "Rock Ridge"
	case Joliet:
		return "Joliet"
	}
	return "ISO 9660"
}

// Bounds on one directory and on all directories of a tree together, in bytes:
// beyond them an image is hostile or broken. A directory of 100,000 files has
// some 15 MB. A path on Linux has at most 4096 bytes, so no sound image nests
// deeper than maxDepth.
const (
	maxDirectory   = 64 << 20
	maxDirectories = 256 << 20
	maxDepth       = 256
)

// Tree is one directory tree of a volume. The tree that ReadTree returns is not
// changed by anyone; Clone gives one that can be edited.
type Tree struct {
	Kind Kind
	// Start is the sector of the image that the tree's addresses count from.
	Start Sector
	Root  *Dir
	// Relocated is set when directories were moved to keep the depth at eight
	// (RRIP 4.1.5). Such a tree can be read but not edited.
	Relocated bool
	// Extension is the identifier in the ER entry, such as RRIP_1991A.
	Extension string

	desc      Descriptor
	skip      int    // SUSP: bytes to skip in each system use field
	pxLength  int    // of the tree's own PX entries
	maxSerial uint32 // greatest file serial number in a PX entry
	versions  bool   // file identifiers end in ;1

	continuations []Sector // of the image, ascending: where continuation areas lie
	tableCapacity uint32   // sectors that each path table owns at its place
	dirsRemoved   bool     // a directory was removed since the last Commit
}

// Dir is one directory.
type Dir struct {
	// Extent is where the directory's records lie, relative to the tree's start,
	// and how long they are.
	Extent  Extent
	Entries []*Entry

	self, parent record
	was          Extent       // Extent as read; zero for a new directory
	capacity     uint32       // sectors that the directory owns at its place
	changed      bool         // its records differ from what the image holds
	taken        *identifiers // for Insert
	byName       atomic.Pointer[map[string]*Entry]
}

// Entry is a file, symbolic link or directory as its parent directory lists it.
type Entry struct {
	// Name is the Rock Ridge or Joliet name, or else the file identifier without
	// its version.
	Name string
	// Dir is set for a directory.
	Dir     *Dir
	Mode    fs.FileMode
	ModTime time.Time
	// Link is the target of a symbolic link.
	Link string

	records      []record // one, or one for each extent of the file
	continuation []byte   // bytes of a new continuation area, until Commit places it
	ce           int      // where in the system use field the CE entry for it lies
	linked       *Dir     // CL: the directory that stands here in the Rock Ridge view
	hidden       bool     // RE: not shown in the Rock Ridge view
	zisofs       bool
	childLink    Sector
	hasChild     bool
}

// Extents returns the runs of sectors that hold the file's content, relative to
// the tree's start.
func (e *Entry) Extents() []Extent {
	x := make([]Extent, len(e.records))
	for i, r := range e.records {
		x[i] = r.extent()
	}
	return x
}

// Size returns the length of the content in bytes.
func (e *Entry) Size() int64 {
	if e.Mode&fs.ModeSymlink != 0 {
		return int64(len(e.Link))
	}
	var n int64
	for _, r := range e.records {
		n += int64(r.extent().Length)
	}
	return n
}

// Identifier returns the file identifier as stored (ECMA-119 9.1.11).
func (e *Entry) Identifier() []byte { return e.records[0].identifier() }

// IsDir reports whether the entry shows a directory, also one that was moved
// elsewhere to keep the depth down.
func (e *Entry) IsDir() bool { return e.directory() != nil }

func (e *Entry) directory() *Dir {
	if e.linked != nil {
		return e.linked
	}
	return e.Dir
}

// largeDir is how many entries a directory has for which Lookup keeps an index.
const largeDir = 100

// Lookup returns the entry of that name, or nil. It can be called from several
// goroutines as long as none edits the tree.
func (d *Dir) Lookup(name string) *Entry {
	if len(d.Entries) >= largeDir {
		return d.index()[name]
	}
	for _, e := range d.Entries {
		if e.Name == name && !e.hidden {
			return e
		}
	}
	return nil
}

// index returns the entries by name. Of two with the same name the first counts.
func (d *Dir) index() map[string]*Entry {
	if m := d.byName.Load(); m != nil {
		return *m
	}
	m := make(map[string]*Entry, len(d.Entries))
	for _, e := range slices.Backward(d.Entries) {
		if !e.hidden {
			m[e.Name] = e
		}
	}
	d.byName.Store(&m)
	return m
}

// treeReader reads one tree.
type treeReader struct {
	r    io.ReaderAt
	size int64
	tree *Tree
	susp suspReader
	seen map[Sector]*Dir
	read int64
}

// ReadTree reads all directories of the tree that the descriptor leads to, in an
// image of size bytes. It fails when a directory is reached twice, so the tree
// it returns is finite.
func (v *Volume) ReadTree(r io.ReaderAt, size int64, d *Descriptor) (*Tree, error) {
	t := &Tree{Start: v.Start, desc: *d, tableCapacity: uint32(Sectors(int64(d.pathTableSize)))}
	t.Kind = Plain
	if d.joliet {
		t.Kind = Joliet
	}
	tr := &treeReader{
		r: r, size: size, tree: t, seen: map[Sector]*Dir{},
		susp: suspReader{r: r, size: size, start: v.Start, note: t.noteContinuation},
	}
	if err := tr.readAll(d.root.extent()); err != nil {
		return nil, err
	}
	return t, nil
}

// readAll reads the tree level by level.
func (tr *treeReader) readAll(root Extent) error {
	dir, err := tr.dir(root, true)
	if err != nil {
		return err
	}
	tr.tree.Root = dir
	level := []*Dir{dir}
	for depth := 1; len(level) > 0; depth++ {
		if depth > maxDepth {
			return formatErrorf(tr.tree.at(level[0].Extent.Sector), "directories nested more than %d deep", maxDepth)
		}
		var next []*Dir
		for _, dir := range level {
			for _, e := range dir.Entries {
				if !e.records[0].isDirectory() {
					continue
				}
				if e.Dir, err = tr.dir(e.records[0].extent(), false); err != nil {
					return err
				}
				next = append(next, e.Dir)
			}
		}
		level = next
	}
	return tr.link()
}

// link joins relocated directories to the places that stand for them and makes
// sure that the Rock Ridge view is a finite tree too.
func (tr *treeReader) link() error {
	if !tr.tree.Relocated {
		return nil
	}
	for _, d := range tr.tree.dirs() {
		for _, e := range d.Entries {
			if e.hasChild {
				if e.linked = tr.seen[e.childLink]; e.linked == nil {
					return formatErrorf(tr.tree.at(d.Extent.Sector), "%q stands for a directory in sector %d, where there is none", e.Name, e.childLink)
				}
				e.Mode = fs.ModeDir | e.Mode.Perm()
			}
		}
	}
	visited := map[*Dir]bool{tr.tree.Root: true}
	queue := []*Dir{tr.tree.Root}
	for len(queue) > 0 {
		d := queue[0]
		queue = queue[1:]
		for _, e := range d.Entries {
			sub := e.directory()
			if sub == nil || e.hidden {
				continue
			}
			if visited[sub] {
				return formatErrorf(tr.tree.at(sub.Extent.Sector), "the directory is reached twice")
			}
			visited[sub] = true
			queue = append(queue, sub)
		}
	}
	return nil
}

// at returns where in the image a sector of the tree lies.
func (t *Tree) at(s Sector) Offset { return t.Start.Offset() + s.Offset() }

// dir reads one directory.
func (tr *treeReader) dir(x Extent, isRoot bool) (*Dir, error) {
	at := tr.tree.at(x.Sector)
	if tr.seen[x.Sector] != nil {
		return nil, formatErrorf(at, "the directory is reached twice")
	}
	length := Sectors(int64(x.Length)) * SectorSize
	tr.read += length
	switch {
	case length == 0 || length > maxDirectory:
		return nil, formatErrorf(at, "a directory of %d bytes", x.Length)
	case int64(at)+length > tr.size:
		return nil, formatErrorf(at, "a directory of %d bytes in an image of %d", x.Length, tr.size)
	case tr.read > maxDirectories:
		return nil, formatErrorf(at, "directories of more than %d bytes", maxDirectories)
	}
	b := make([]byte, length)
	if err := readFull(tr.r, b, at); err != nil {
		return nil, err
	}
	d := &Dir{Extent: x, was: x, capacity: uint32(length / SectorSize)}
	tr.seen[x.Sector] = d
	records, err := splitRecords(b[:x.Length], at)
	if err != nil {
		return nil, err
	}
	if len(records) < 2 || !records[0].isSelf() || !records[1].isParent() {
		return nil, formatErrorf(at, "the directory does not begin with its own and its parent's record")
	}
	d.self, d.parent = records[0].record, records[1].record
	if isRoot && tr.tree.Kind == Plain {
		if err := tr.sharing(records[0]); err != nil {
			return nil, err
		}
	}
	return d, tr.entries(d, records[2:])
}

// located is a record and its place.
type located struct {
	record
	at Offset
}

// splitRecords cuts a directory into its records. A zero byte where a record
// would begin means that the rest of the sector is unused (ECMA-119 6.8.1.1).
func splitRecords(b []byte, at Offset) ([]located, error) {
	var records []located
	for i := 0; i < len(b); {
		end := min(i-i%SectorSize+SectorSize, len(b))
		if b[i] == 0 {
			i = end
			continue
		}
		r, err := decodeRecord(b[i:end], at+Offset(i))
		if err != nil {
			return nil, err
		}
		records = append(records, located{r, at + Offset(i)})
		i += len(r)
	}
	return records, nil
}

// sharing looks at the root directory's own record, where SUSP announces itself
// (SUSP 5.3).
func (tr *treeReader) sharing(self located) error {
	use := self.systemUse()
	if len(use) < lenSP || string(use[:2]) != "SP" {
		return nil
	}
	a, err := tr.susp.decode(use, self.at+Offset(self.systemUseStart()), true)
	if err != nil {
		return err
	}
	if !a.hasSharing || a.pxLength == 0 {
		return nil
	}
	tr.tree.Kind = RockRidge
	tr.tree.Extension, tr.tree.skip, tr.tree.pxLength = a.extension, a.skip, a.pxLength
	tr.tree.maxSerial = a.serial
	tr.susp.skip = a.skip
	return nil
}

// entries turns records into entries; records of one file's extents follow one
// another and all but the last say so (ECMA-119 9.1.6, Multi-Extent).
func (tr *treeReader) entries(d *Dir, records []located) error {
	for i := 0; i < len(records); {
		j := i + 1
		for j < len(records) && records[j-1].isMultiExtent() {
			if !bytes.Equal(records[j].identifier(), records[i].identifier()) {
				return formatErrorf(records[j].at, "the extents of a file are interrupted by another file's record")
			}
			j++
		}
		if records[j-1].isMultiExtent() {
			return formatErrorf(records[j-1].at, "the directory ends before the last extent of a file")
		}
		if records[i].isDirectory() && j-i > 1 {
			return formatErrorf(records[i].at, "a directory of several extents")
		}
		e, err := tr.entry(records[i:j])
		if err != nil {
			return err
		}
		d.Entries = append(d.Entries, e)
		i = j
	}
	return nil
}

// entry makes one entry of a file's records.
func (tr *treeReader) entry(records []located) (*Entry, error) {
	first := records[0]
	e := &Entry{records: make([]record, len(records)), ModTime: first.date()}
	for i, r := range records {
		e.records[i] = r.record
	}
	e.Mode = 0o444
	if first.isDirectory() {
		e.Mode = fs.ModeDir | 0o555
	}
	id := first.identifier()
	if !first.isDirectory() && bytes.HasSuffix(id, tr.version()) {
		tr.tree.versions = true
	}
	switch tr.tree.Kind {
	case Joliet:
		e.Name = decodeUCS2(bytes.TrimSuffix(id, tr.version()))
	case RockRidge:
		if err := tr.rockRidge(e, first); err != nil {
			return nil, err
		}
	default:
		e.Name = string(bytes.TrimSuffix(id, tr.version()))
	}
	if e.Name == "" || e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\x00") {
		return nil, formatErrorf(first.at, "a file named %q", e.Name)
	}
	return e, nil
}

// version returns the version number that ends a file identifier.
func (tr *treeReader) version() []byte {
	if tr.tree.Kind == Joliet {
		return []byte{0, ';', 0, '1'}
	}
	return []byte(";1")
}

// rockRidge fills in what the system use field of the first record says.
func (tr *treeReader) rockRidge(e *Entry, first located) error {
	a, err := tr.susp.decode(first.systemUse(), first.at+Offset(first.systemUseStart()), false)
	if err != nil {
		return err
	}
	e.Name = string(bytes.TrimSuffix(first.identifier(), tr.version()))
	if a.hasName {
		e.Name = a.name
	}
	if a.pxLength != 0 {
		e.Mode = fileMode(a.mode)
	}
	if e.Mode.IsDir() != first.isDirectory() && !a.hasChild {
		return formatErrorf(first.at, "%q is a directory in one way of looking at it and a file in the other", e.Name)
	}
	if a.hasLink && e.Mode&fs.ModeSymlink != 0 {
		e.Link = a.link.String()
	}
	if !a.modified.IsZero() {
		e.ModTime = a.modified
	}
	tr.tree.maxSerial = max(tr.tree.maxSerial, a.serial)
	e.zisofs, e.hidden, e.hasChild, e.childLink = a.hasZisofs, a.relocated, a.hasChild, a.childLink
	if a.hasChild || a.relocated || a.parentLink {
		tr.tree.Relocated = true
	}
	return nil
}

// dirs returns the directories in path table order: level by level, in the order
// of their parents and then of their records (ECMA-119 6.9.1).
func (t *Tree) dirs() []*Dir {
	all := []*Dir{t.Root}
	for i := 0; i < len(all); i++ {
		for _, e := range all[i].Entries {
			if e.Dir != nil {
				all = append(all, e.Dir)
			}
		}
	}
	return all
}

// Clone returns a tree that can be edited without changing this one. Records are
// shared until they change.
func (t *Tree) Clone() *Tree {
	c := *t
	c.Root = t.Root.clone()
	return &c
}

func (d *Dir) clone() *Dir {
	c := &Dir{Extent: d.Extent, was: d.was, self: d.self, parent: d.parent, capacity: d.capacity}
	c.Entries = make([]*Entry, len(d.Entries))
	for i, e := range d.Entries {
		entry := *e
		if e.Dir != nil {
			entry.Dir = e.Dir.clone()
		}
		entry.records = slices.Clone(e.records)
		c.Entries[i] = &entry
	}
	return c
}

// Differ compares two trees of the same kind that may count from different
// starts. It returns the path of the first entry that is not in both with the
// same identifier, mode, link and content.
func Differ(a, b *Tree) (path string, differ bool) {
	shift := a.Start - b.Start
	return a.Root.differ(b.Root, "", shift)
}

func (d *Dir) differ(o *Dir, prefix string, shift Sector) (string, bool) {
	for i, e := range d.Entries {
		path := prefix + e.Name
		if i >= len(o.Entries) || !e.same(o.Entries[i], shift) {
			return path, true
		}
		if e.Dir != nil {
			if path, differ := e.Dir.differ(o.Entries[i].Dir, path+"/", shift); differ {
				return path, true
			}
		}
	}
	if len(o.Entries) > len(d.Entries) {
		return prefix + o.Entries[len(d.Entries)].Name, true
	}
	return "", false
}

// same compares two entries; shift is what an address in e's tree lacks to be
// one in o's.
func (e *Entry) same(o *Entry, shift Sector) bool {
	if e.Name != o.Name || e.Mode != o.Mode || e.Link != o.Link || (e.Dir == nil) != (o.Dir == nil) ||
		!bytes.Equal(e.Identifier(), o.Identifier()) || len(e.records) != len(o.records) {
		return false
	}
	if e.Dir != nil {
		return true
	}
	for i, r := range e.records {
		x, y := r.extent(), o.records[i].extent()
		if x.Length != y.Length || x.Length > 0 && x.Sector+shift != y.Sector {
			return false
		}
	}
	return true
}
