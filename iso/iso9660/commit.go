package iso9660

import "slices"

// commit is one run of Tree.Commit.
type commit struct {
	tree    *Tree
	alloc   func(sectors uint32) (Sector, error)
	patches []Patch
	moved   bool // some directory is at another place, or new or gone
}

// place finds room for every directory that is new or has outgrown its own and
// tells those that hold its address.
func (c *commit) place() error {
	t := c.tree
	for _, d := range t.dirs() {
		if !d.changed {
			continue
		}
		d.taken = nil // nothing is inserted while this runs
		need := d.packedSectors()
		x := Extent{d.Extent.Sector, need * SectorSize}
		if need > d.capacity {
			s, err := c.alloc(need)
			if err != nil {
				return err
			}
			x.Sector, d.capacity = s-t.Start, need
			c.moved = true
		}
		d.Extent = x
	}
	c.address(t.Root, t.Root)
	t.desc.root = t.desc.root.withExtent(t.Root.Extent)
	return nil
}

// address makes the records that lead to a directory and to its parent agree
// with where they are. A second record that led to the directory itself, as
// libisofs writes it for Joliet, goes on to.
func (c *commit) address(d, parent *Dir) {
	up := parent.Extent
	if d.was.Length > 0 && d.parent.extent() == d.was {
		up = d.Extent
	}
	d.set(&d.self, d.Extent)
	d.set(&d.parent, up)
	for _, e := range d.Entries {
		if e.Dir != nil {
			d.set(&e.records[0], e.Dir.Extent)
			c.address(e.Dir, d)
		}
	}
}

// set changes where one of the directory's records leads. Lengths of records
// stay, so the directory still fits where it was placed.
func (d *Dir) set(r *record, x Extent) {
	if r.extent() != x {
		*r = r.withExtent(x)
		d.changed = true
	}
}

// continuations places the new continuation areas, none across the end of a
// sector, and points the records to them (SUSP 5.1).
func (c *commit) continuations() error {
	var owners []*Entry
	size := 0
	for _, d := range c.tree.dirs() {
		for _, e := range d.Entries {
			if len(e.continuation) == 0 {
				continue
			}
			if room := SectorSize - size%SectorSize; len(e.continuation) > room {
				size += room
			}
			size += len(e.continuation)
			owners = append(owners, e)
		}
	}
	if len(owners) == 0 {
		return nil
	}
	b := make([]byte, 0, Sectors(int64(size))*SectorSize)
	first, err := c.alloc(uint32(Sectors(int64(size))))
	if err != nil {
		return err
	}
	for _, e := range owners {
		if room := SectorSize - len(b)%SectorSize; len(e.continuation) > room {
			b = append(b, make([]byte, room)...)
		}
		sector := first - c.tree.Start + Sector(len(b)/SectorSize)
		for i, r := range e.records {
			r = slices.Clone(r)
			entry := r[r.systemUseStart()+e.ce:]
			putBoth32(entry[4:], uint32(sector))
			putBoth32(entry[12:], uint32(len(b)%SectorSize))
			putBoth32(entry[20:], uint32(len(e.continuation)))
			e.records[i] = r
		}
		b = append(b, e.continuation...)
		e.continuation = nil
	}
	c.patches = append(c.patches, Patch{first, padSector(b)})
	return nil
}

// directories writes those that changed.
func (c *commit) directories() error {
	for _, d := range c.tree.dirs() {
		if d.changed {
			c.patches = append(c.patches, Patch{d.Extent.Sector + c.tree.Start, d.pack(make([]byte, 0, d.Extent.Length))})
			d.changed = false
		}
	}
	return nil
}

// pathTables writes both path tables anew when a directory moved, came or went.
func (c *commit) pathTables() error {
	t := c.tree
	if !c.moved && !t.dirsRemoved {
		return nil
	}
	for i, p := range t.tables() {
		b, err := t.pathTable(p.order)
		if err != nil {
			return err
		}
		need := uint32(Sectors(int64(len(b))))
		sector := p.sector + t.Start
		if need > t.tableCapacity {
			if sector, err = c.alloc(need); err != nil {
				return err
			}
		}
		if i == 0 {
			t.desc.pathTableL = sector - t.Start
		} else {
			t.desc.pathTableM = sector - t.Start
		}
		t.desc.pathTableSize = uint32(len(b))
		c.patches = append(c.patches, Patch{sector, padSector(b)})
	}
	t.dirsRemoved = false
	return nil
}
