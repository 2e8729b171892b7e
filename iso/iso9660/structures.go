package iso9660

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// StructureKind says what a structure of a tree is.
type StructureKind int

// The kinds of structure.
const (
	StructureDescriptor StructureKind = iota + 1
	StructurePathTable
	StructureDirectory
	StructureContinuation
)

// Structure is a run of sectors of the image that holds a tree's metadata.
type Structure struct {
	Kind    StructureKind
	Sector  Sector // of the image
	Sectors uint32
	// Path is the path of a directory; Type is L or M for a path table.
	Path, Type string
}

// Meaning names the structure.
func (s Structure) Meaning() string {
	switch s.Kind {
	case StructureDescriptor:
		return "volume descriptor"
	case StructurePathTable:
		return "path table, type " + s.Type
	case StructureDirectory:
		if s.Path == "." {
			return "root directory"
		}
		return "directory /" + s.Path
	case StructureContinuation:
		return "continuation area"
	}
	return fmt.Sprintf("structure(%d)", int(s.Kind))
}

// Structures lists where the tree's metadata lies.
func (t *Tree) Structures() []Structure {
	list := []Structure{{Kind: StructureDescriptor, Sector: t.desc.Sector, Sectors: 1}}
	for _, p := range t.tables() {
		n := uint32(Sectors(int64(t.desc.pathTableSize)))
		list = append(list, Structure{Kind: StructurePathTable, Sector: p.sector + t.Start, Sectors: n, Type: p.name})
	}
	add := func(path string, d *Dir) {
		list = append(list, Structure{
			Kind: StructureDirectory, Sector: d.Extent.Sector + t.Start,
			Sectors: uint32(Sectors(int64(d.Extent.Length))), Path: path,
		})
	}
	add(".", t.Root)
	for path, e := range t.Files() {
		if e.Dir != nil {
			add(path, e.Dir)
		}
	}
	for _, s := range t.continuations {
		list = append(list, Structure{Kind: StructureContinuation, Sector: s, Sectors: 1})
	}
	return list
}

// Files lists every entry with its path, directories before what they hold.
func (t *Tree) Files() iter.Seq2[string, *Entry] {
	return func(yield func(string, *Entry) bool) { t.Root.files("", yield) }
}

func (d *Dir) files(prefix string, yield func(string, *Entry) bool) bool {
	for _, e := range d.Entries {
		if !yield(prefix+e.Name, e) {
			return false
		}
		if e.Dir != nil && !e.Dir.files(prefix+e.Name+"/", yield) {
			return false
		}
	}
	return true
}

// Outside returns the path of a directory or file that reaches to or beyond a
// sector of the image.
func (t *Tree) Outside(end Sector) (path string, outside bool) {
	beyond := func(x Extent) bool {
		return x.Length > 0 && int64(t.Start)+int64(x.Sector)+Sectors(int64(x.Length)) > int64(end)
	}
	if beyond(t.Root.Extent) {
		return ".", true
	}
	for path, e := range t.Files() {
		if slices.ContainsFunc(e.Extents(), beyond) {
			return path, true
		}
	}
	return "", false
}

// noteContinuation remembers a sector of the image that holds continuation areas.
func (t *Tree) noteContinuation(s Sector) {
	if i, found := slices.BinarySearch(t.continuations, s); !found {
		t.continuations = slices.Insert(t.continuations, i, s)
	}
}

// Find returns the entry at a path, without following links; nil when there is
// none. The root has no entry.
func (t *Tree) Find(path string) *Entry {
	d := t.Root
	var e *Entry
	for part := range strings.SplitSeq(path, "/") {
		if d == nil {
			return nil
		}
		if e = d.Lookup(part); e == nil {
			return nil
		}
		d = e.Dir
	}
	return e
}
