package iso

import (
	"io/fs"
	"path"
	"strings"

	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// editTrees makes all trees of both sets show the added files and no longer the
// removed ones, and plans the sectors that change for it. The volume descriptors
// come later, when the number of inserted sectors is known.
func (p *plan) editTrees() error {
	for i := range p.base.sets {
		s := &p.base.sets[i]
		if s.rockRidge.Relocated {
			return refuse(hintGenuine, "directories of the medium were relocated to keep their depth at eight, which is not understood")
		}
		e := &setEdit{plan: p, rockRidge: s.rockRidge.Clone()}
		if s.joliet != nil {
			e.joliet = s.joliet.Clone()
		}
		if err := e.run(); err != nil {
			return err
		}
		if err := p.commit(e.rockRidge); err != nil {
			return err
		}
		e.rockRidge = nil // the trees of a large overlay take more memory than all else
		if e.joliet == nil {
			continue
		}
		if err := p.commit(e.joliet); err != nil {
			return err
		}
	}
	return nil
}

// commit plans what to write for an edited tree and keeps of it what it takes to
// grow its volume.
func (p *plan) commit(t *iso9660.Tree) error {
	patches, err := t.Commit(func(sectors uint32) (iso9660.Sector, error) { return p.take(int64(sectors)) })
	if err != nil {
		return err
	}
	for _, c := range patches {
		p.patch(int64(c.Sector.Offset()), c.Bytes)
	}
	p.volumes = append(p.volumes, t.Volume())
	return nil
}

// setEdit edits the trees of one metadata set.
type setEdit struct {
	plan              *plan
	rockRidge, joliet *iso9660.Tree
}

// dirPair is one directory as the set's two trees show it. joliet is nil when the
// set has no Joliet tree.
type dirPair struct {
	rockRidge, joliet *iso9660.Dir
	counterparts      map[*iso9660.Entry]*iso9660.Entry
}

func newPair(rockRidge, joliet *iso9660.Dir) dirPair {
	d := dirPair{rockRidge: rockRidge, joliet: joliet}
	if joliet != nil {
		d.counterparts = iso9660.Counterparts(rockRidge, joliet)
	}
	return d
}

func (e *setEdit) run() error {
	for _, r := range e.plan.removed {
		if err := e.remove(e.root(), r); err != nil {
			return err
		}
	}
	return e.merge(e.root(), e.plan.added)
}

func (e *setEdit) root() dirPair {
	if e.joliet == nil {
		return newPair(e.rockRidge.Root, nil)
	}
	return newPair(e.rockRidge.Root, e.joliet.Root)
}

// remove takes a path off both trees. One path may lie below another that is gone
// already.
func (e *setEdit) remove(d dirPair, p string) error {
	dir, name := path.Split(p)
	for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		if part == "" {
			break
		}
		entry := d.rockRidge.Lookup(part)
		if entry == nil {
			return nil
		}
		if entry.Mode&fs.ModeSymlink != 0 {
			return &OverlayError{Path: p, Reason: part + " is a symbolic link on the medium; name the path that it leads to"}
		}
		sub, err := e.sub(d, entry, p)
		if err != nil {
			return err
		}
		d = sub
	}
	entry := d.rockRidge.Lookup(name)
	if entry == nil {
		return nil
	}
	if d.joliet != nil {
		if c := d.counterparts[entry]; c != nil {
			e.joliet.Remove(d.joliet, c)
		} else if entry.Mode&fs.ModeSymlink == 0 {
			return noCounterpart(p)
		}
	}
	e.rockRidge.Remove(d.rockRidge, entry)
	return nil
}

func noCounterpart(p string) error {
	return &OverlayError{Path: p, Reason: "cannot be found in the medium's Joliet tree, so it cannot be changed there"}
}

// sub steps from a directory into one of its entries.
func (e *setEdit) sub(d dirPair, entry *iso9660.Entry, p string) (dirPair, error) {
	if entry.Dir == nil {
		return d, &OverlayError{Path: p, Reason: entry.Name + " is a file on the medium and not a directory"}
	}
	if d.joliet == nil {
		return newPair(entry.Dir, nil), nil
	}
	c := d.counterparts[entry]
	if c == nil {
		return d, noCounterpart(p)
	}
	return newPair(entry.Dir, c.Dir), nil
}

// merge puts the children of a node into a directory.
func (e *setEdit) merge(d dirPair, n *node) error {
	known := make([]*iso9660.Entry, len(n.children)) // looked up before the directory changes
	for i, c := range n.children {
		known[i] = d.rockRidge.Lookup(c.name)
	}
	for i, c := range n.children {
		var err error
		entry := known[i]
		switch {
		case entry == nil:
			err = e.add(d, c)
		case c.mode.IsDir() && entry.Mode&fs.ModeSymlink != 0:
			err = &OverlayError{Path: c.path, Reason: "a symbolic link on the medium; name the path that it leads to, or remove it"}
		case c.mode.IsDir():
			var sub dirPair
			if sub, err = e.sub(d, entry, c.path); err == nil {
				err = e.merge(sub, c)
			}
		case entry.Dir != nil:
			err = &OverlayError{Path: c.path, Reason: "a directory on the medium, which a file cannot replace unless it is removed"}
		default:
			err = e.replace(d, entry, c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add makes a new entry in both trees, with all below it.
func (e *setEdit) add(d dirPair, n *node) error {
	entry, err := e.rockRidge.Insert(d.rockRidge, e.file(e.rockRidge, n))
	if err != nil {
		return &OverlayError{Path: n.path, Reason: err.Error()}
	}
	sub := dirPair{rockRidge: entry.Dir}
	// Joliet has no symbolic links.
	if d.joliet != nil && n.mode&fs.ModeSymlink == 0 {
		shown, err := e.joliet.Insert(d.joliet, e.file(e.joliet, n))
		if err != nil {
			return &OverlayError{Path: n.path, Reason: err.Error()}
		}
		sub.joliet = shown.Dir
	}
	if !n.mode.IsDir() {
		return nil
	}
	return e.merge(sub, n)
}

// replace gives an entry new content in both trees.
func (e *setEdit) replace(d dirPair, entry *iso9660.Entry, n *node) error {
	isLink := entry.Mode&fs.ModeSymlink != 0
	if isLink != (n.mode&fs.ModeSymlink != 0) {
		// Only Rock Ridge has links, so the trees do not change alike.
		return &OverlayError{Path: n.path, Reason: "a symbolic link cannot replace a file, nor a file a link, unless that is removed"}
	}
	if d.joliet != nil && !isLink {
		c := d.counterparts[entry]
		if c == nil {
			return noCounterpart(n.path)
		}
		if err := e.joliet.Replace(d.joliet, c, e.file(e.joliet, n)); err != nil {
			return &OverlayError{Path: n.path, Reason: err.Error()}
		}
	}
	if err := e.rockRidge.Replace(d.rockRidge, entry, e.file(e.rockRidge, n)); err != nil {
		return &OverlayError{Path: n.path, Reason: err.Error()}
	}
	return nil
}

// file describes a node for one tree.
func (e *setEdit) file(t *iso9660.Tree, n *node) iso9660.File {
	f := iso9660.File{Name: n.name, Mode: n.mode, ModTime: e.plan.date, Link: n.link}
	for _, x := range n.extents {
		x.Sector -= t.Start
		f.Extents = append(f.Extents, x)
	}
	return f
}
