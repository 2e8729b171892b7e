package iso9660

import (
	"io/fs"
	"slices"
	"time"
)

// File is what a new or replaced entry shall be: a regular file, a directory or
// a symbolic link, by its mode.
type File struct {
	Name    string
	Mode    fs.FileMode
	ModTime time.Time
	// Link is the target of a symbolic link, at most 1024 bytes.
	Link string
	// Extents hold a regular file's content, relative to the tree's start. All
	// but the last are MaxExtent long. An empty file has one extent of length 0.
	Extents []Extent
}

// Patch is a run of whole sectors to write.
type Patch struct {
	Sector Sector // of the image
	Bytes  []byte
}

// Insert adds an entry to a directory of a cloned tree and returns it. The name
// must not be there yet.
func (t *Tree) Insert(d *Dir, f File) (*Entry, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if d.taken == nil {
		d.taken = newIdentifiers(d.Entries)
	}
	var id []byte
	if t.Kind == Joliet {
		id = t.jolietIdentifier(f.Name, f.Mode.IsDir(), d.taken)
	} else {
		id = t.isoIdentifier(f.Name, f.Mode.IsDir(), d.taken)
	}
	e := &Entry{}
	if err := t.fill(e, id, f); err != nil {
		return nil, err
	}
	if f.Mode.IsDir() {
		e.Dir = t.newDir(f, d)
	}
	i, _ := slices.BinarySearchFunc(d.Entries, id, func(e *Entry, id []byte) int {
		return t.compareIdentifiers(e.Identifier(), id)
	})
	d.Entries = slices.Insert(d.Entries, i, e)
	d.change()
	return e, nil
}

// Replace gives an entry of a cloned tree new content and a new date. Its name
// and identifier stay.
func (t *Tree) Replace(d *Dir, e *Entry, f File) error {
	if err := f.check(); err != nil {
		return err
	}
	d.change()
	f.Name = e.Name
	return t.fill(e, slices.Clone(e.Identifier()), f)
}

// Remove takes an entry, with all below it, out of a directory of a cloned tree.
func (t *Tree) Remove(d *Dir, e *Entry) {
	i := slices.Index(d.Entries, e)
	if i < 0 {
		return
	}
	d.Entries = slices.Delete(d.Entries, i, i+1)
	d.change()
	if e.Dir != nil {
		t.dirsRemoved = true
	}
	d.taken = nil // made anew when the next one is inserted
}

// change notes that the directory's records are not what the image holds any more.
func (d *Dir) change() {
	d.changed = true
	d.byName.Store(nil)
}

func (f File) check() error {
	switch {
	case len(f.Name) > maxNewName:
		return &LimitError{"a file name of more than 253 bytes: " + f.Name}
	case len(f.Link) > maxNewLink:
		return &LimitError{"the symbolic link " + f.Name + " has a target of more than 1024 bytes"}
	case f.Mode.IsRegular() && len(f.Extents) == 0:
		return &LimitError{"the file " + f.Name + " has no extent"}
	}
	return nil
}

// fill makes the entry's records.
func (t *Tree) fill(e *Entry, id []byte, f File) error {
	e.Name, e.Mode, e.ModTime, e.Link = f.Name, f.Mode, f.ModTime, f.Link
	e.records, e.continuation, e.zisofs = nil, nil, false
	extents, flags := f.Extents, byte(0)
	if !f.Mode.IsRegular() {
		extents = []Extent{{}}
	}
	if f.Mode.IsDir() {
		flags = flagDirectory
	}
	var use []byte
	e.ce = -1
	if t.Kind == RockRidge {
		start := recordIdentifier + len(id) + 1 - len(id)&1
		t.maxSerial++
		var err error
		if use, e.continuation, e.ce, err = t.systemUse(f, t.maxSerial, maxRecord-start); err != nil {
			return err
		}
	}
	for i, x := range extents {
		if i < len(extents)-1 {
			e.records = append(e.records, newRecord(id, x, flags|flagMultiExtent, f.ModTime, use))
		} else {
			e.records = append(e.records, newRecord(id, x, flags, f.ModTime, use))
		}
	}
	return nil
}

// newDir makes an empty directory. Its own record and its parent's carry
// attributes but no name, as those of the image do.
func (t *Tree) newDir(f File, parent *Dir) *Dir {
	var use []byte
	if t.Kind == RockRidge {
		use = append(make([]byte, t.skip), t.posixAttributes(f, t.maxSerial)...)
		use = append(use, timeStamps(f)...)
	}
	d := &Dir{
		changed: true,
		self:    newRecord([]byte{0}, Extent{}, flagDirectory, f.ModTime, use),
		parent:  newRecord([]byte{1}, parent.Extent, flagDirectory, parent.self.date(), use),
	}
	return d
}

// pack appends the directory's records to an empty b, filled up to whole sectors:
// none crosses a sector's end (ECMA-119 6.8.1.1).
func (d *Dir) pack(b []byte) []byte {
	d.eachRecord(func(r record) {
		if room := SectorSize - len(b)%SectorSize; len(r) > room {
			b = append(b, make([]byte, room)...)
		}
		b = append(b, r...)
	})
	return padSector(b)
}

func (d *Dir) eachRecord(f func(record)) {
	f(d.self)
	f(d.parent)
	for _, e := range d.Entries {
		for _, r := range e.records {
			f(r)
		}
	}
}

// packedSectors returns how many sectors pack fills.
func (d *Dir) packedSectors() uint32 {
	n := 0
	d.eachRecord(func(r record) {
		if room := SectorSize - n%SectorSize; len(r) > room {
			n += room
		}
		n += len(r)
	})
	return uint32(Sectors(int64(n)))
}

// padSector fills b up with zeros to whole sectors.
func padSector(b []byte) []byte {
	return append(b, make([]byte, int(Sectors(int64(len(b)))*SectorSize)-len(b))...)
}

// Commit finishes the edits of a cloned tree and returns what to write for them:
// directories, continuation areas and path tables. Whatever does not fit where it
// was is placed by alloc, which is asked for a number of sectors and answers with
// the first one's number in the image. The volume's descriptor comes from Volume.
func (t *Tree) Commit(alloc func(sectors uint32) (Sector, error)) ([]Patch, error) {
	c := &commit{tree: t, alloc: alloc}
	for _, step := range []func() error{c.place, c.continuations, c.directories, c.pathTables} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c.patches, nil
}

// Volume returns a copy of the tree's volume descriptor, with the addresses that
// Commit gave out.
func (t *Tree) Volume() *Descriptor {
	d := t.desc
	return &d
}

// Grow makes the volume longer by a number of sectors and returns what to write for
// it.
func (d *Descriptor) Grow(sectors Sector) Patch {
	d.SpaceSize += uint32(sectors)
	return Patch{d.Sector, d.bytes()}
}
