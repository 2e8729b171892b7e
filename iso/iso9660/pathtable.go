package iso9660

import (
	"encoding/binary"
	"io"
	"math"
	"slices"
)

// maxPathTable bounds a path table in bytes: 65535 directories with the longest
// identifiers.
const maxPathTable = 16 << 20

// pathTable encodes the path table of the tree (ECMA-119 9.4) in the byte order
// given: little-endian for type L, big-endian for type M.
func (t *Tree) pathTable(order binary.ByteOrder) ([]byte, error) {
	type place struct {
		dir    *Dir
		id     []byte
		parent int
	}
	all := []place{{t.Root, []byte{0}, 1}}
	var table []byte
	for i := 0; i < len(all); i++ {
		p := all[i]
		var head [8]byte
		head[0] = byte(len(p.id))
		order.PutUint32(head[2:], uint32(p.dir.Extent.Sector))
		order.PutUint16(head[6:], uint16(p.parent))
		table = append(table, head[:]...)
		table = append(table, p.id...)
		if len(p.id)&1 == 1 {
			table = append(table, 0)
		}
		for _, e := range p.dir.Entries {
			if e.Dir != nil {
				all = append(all, place{e.Dir, e.Identifier(), i + 1})
			}
		}
		if len(all) > math.MaxUint16 {
			return nil, &LimitError{"more than 65535 directories, which a path table cannot number"}
		}
	}
	return table, nil
}

// LimitError says that what is asked for is beyond what the format can hold.
type LimitError struct{ Message string }

// Error returns the message.
func (e *LimitError) Error() string { return e.Message }

// CheckRegenerates packs every directory and both path tables of an unedited
// tree anew and compares them with the image, byte for byte, and checks that
// every directory leads back to its parent. It is the proof that the tree was
// understood well enough to be edited.
func (t *Tree) CheckRegenerates(r io.ReaderAt) error {
	if err := t.checkParents(t.Root, t.Root); err != nil {
		return err
	}
	var have, want []byte
	for _, d := range t.dirs() {
		n := int(Sectors(int64(d.Extent.Length)) * SectorSize)
		want = slices.Grow(want[:0], n)[:n]
		at := t.at(d.Extent.Sector)
		if err := readFull(r, want, at); err != nil {
			return err
		}
		have = d.pack(have[:0])
		if i := mismatch(have, want); i >= 0 {
			return formatErrorf(at+Offset(i), "the %s directory is not packed as expected", t.Kind)
		}
	}
	for _, p := range t.tables() {
		if t.desc.pathTableSize > maxPathTable {
			return formatErrorf(t.desc.Sector.Offset()+descPathTableSize, "a path table of %d bytes", t.desc.pathTableSize)
		}
		have, err := t.pathTable(p.order)
		if err != nil {
			return err
		}
		want := make([]byte, t.desc.pathTableSize)
		if err := readFull(r, want, t.at(p.sector)); err != nil {
			return err
		}
		if i := mismatch(have, want); i >= 0 {
			return formatErrorf(t.at(p.sector)+Offset(i), "the %s path table (type %s) does not list the directories in order", t.Kind, p.name)
		}
	}
	return nil
}

// checkParents makes sure that the first two records of every directory lead to
// itself and to its parent (ECMA-119 7.6.2). In the Joliet trees that libisofs
// writes the second one leads to the directory itself.
func (t *Tree) checkParents(d, parent *Dir) error {
	up := d.parent.extent()
	if d.self.extent() != d.Extent || up != parent.Extent && (t.Kind != Joliet || up != d.Extent) {
		return formatErrorf(t.at(d.Extent.Sector), "the %s directory's first records do not lead to itself and to its parent", t.Kind)
	}
	for _, e := range d.Entries {
		if e.Dir != nil {
			if err := t.checkParents(e.Dir, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// tablePlace is one of the two path tables of a tree.
type tablePlace struct {
	name   string
	order  binary.ByteOrder
	sector Sector
}

func (t *Tree) tables() [2]tablePlace {
	return [2]tablePlace{
		{"L", binary.LittleEndian, t.desc.pathTableL},
		{"M", binary.BigEndian, t.desc.pathTableM},
	}
}

// mismatch returns the first position where a and b differ, or -1.
func mismatch(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}
