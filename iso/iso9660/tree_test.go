package iso9660

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var date = time.Date(2026, 11, 23, 12, 30, 15, 0, time.UTC)

// disc is an image made by hand: a primary volume with Rock Ridge, a root directory
// in sector 20, and what a test adds.
type disc struct {
	sectors map[Sector][]byte
	tree    *Tree // only to make records
	last    Sector
}

func newDisc() *disc {
	return &disc{sectors: map[Sector][]byte{}, tree: &Tree{Kind: RockRidge, pxLength: lenPX1991}, last: 63}
}

// self makes a directory's own or its parent's record; the root's has an SP entry.
func (d *disc) self(id byte, at Sector, root bool) record {
	var use []byte
	if root {
		use = []byte{'S', 'P', 7, 1, 0xBE, 0xEF, 0}
	}
	use = append(use, d.tree.posixAttributes(File{Mode: fs.ModeDir | 0o555}, 0)...)
	return newRecord([]byte{id}, Extent{at, SectorSize}, flagDirectory, date, use)
}

// dir puts a directory of one sector on the disc.
func (d *disc) dir(at, parent Sector, records ...record) {
	b := append([]byte{}, d.self(0, at, at == 20)...)
	b = append(b, d.self(1, parent, false)...)
	for _, r := range records {
		b = append(b, r...)
	}
	d.sectors[at] = b
}

func (d *disc) entry(f File, x Extent, extra ...byte) record {
	id := []byte(strings.ToUpper(f.Name) + ";1")
	flags := byte(0)
	if f.Mode.IsDir() {
		id, flags = []byte(strings.ToUpper(f.Name)), flagDirectory
	}
	use, _, _, err := d.tree.systemUse(f, 0, 180)
	if err != nil {
		panic(err)
	}
	return newRecord(id, x, flags, date, append(use, extra...))
}

func dirEntry(d *disc, name string, at Sector, extra ...byte) record {
	return d.entry(File{Name: name, Mode: fs.ModeDir | 0o555}, Extent{at, SectorSize}, extra...)
}

func fileEntry(d *disc, name string, at Sector, n uint32, extra ...byte) record {
	return d.entry(File{Name: name, Mode: 0o444}, Extent{at, n}, extra...)
}

// image returns the disc's bytes.
func (d *disc) image() (io.ReaderAt, int64) {
	pvd := make([]byte, SectorSize)
	copy(pvd, "\x01CD001\x01")
	putBoth32(pvd[descSpaceSize:], uint32(d.last)+1)
	putBoth16(pvd[descBlockSize:], SectorSize)
	copy(pvd[descRoot:], newRecord([]byte{0}, Extent{20, SectorSize}, flagDirectory, date, nil))
	d.sectors[16] = pvd
	d.sectors[17] = []byte("\xffCD001\x01")
	b := make([]byte, (int64(d.last)+1)*SectorSize)
	for at, s := range d.sectors {
		copy(b[at.Offset():], s)
	}
	return bytes.NewReader(b), int64(len(b))
}

func (d *disc) read() (*Tree, io.ReaderAt, error) {
	r, size := d.image()
	v, err := ReadVolume(r, size, 0)
	if err != nil {
		return nil, nil, err
	}
	t, err := v.ReadTree(r, size, v.Primary)
	return t, r, err
}

// ce makes an entry that leads to a continuation area.
func ce(sector Sector, offset, length uint32) []byte {
	b := make([]byte, lenCE)
	copy(b, "CE")
	b[2], b[3] = lenCE, 1
	putBoth32(b[4:], uint32(sector))
	putBoth32(b[12:], offset)
	putBoth32(b[20:], length)
	return b
}

func nm(flags byte, text string) []byte {
	return append([]byte{'N', 'M', byte(5 + len(text)), 1, flags}, text...)
}

func TestReadTree(t *testing.T) {
	d := newDisc()
	cont := append(nm(1, " and its end"), ce(31, 100, 20)...)
	d.sectors[30] = append(make([]byte, 50), cont...)
	d.sectors[31] = append(make([]byte, 100), nm(0, ", and more")...)
	named := newRecord([]byte("X.;1"), Extent{40, 5}, 0, date, append(nm(1, "begin"), ce(30, 50, uint32(len(cont)))...))
	d.dir(20, 20,
		named,
		dirEntry(d, "sub", 21),
		d.entry(File{Name: "link", Mode: fs.ModeSymlink | 0o777, Link: "/a/../b/./c"}, Extent{}),
		newRecord([]byte("MULTI.;1"), Extent{41, SectorSize}, flagMultiExtent, date, nm(0, "multi")),
		newRecord([]byte("MULTI.;1"), Extent{45, 3}, 0, date, nm(0, "multi")),
	)
	d.dir(21, 20)
	d.sectors[40] = []byte("hello")
	d.sectors[41] = bytes.Repeat([]byte("m"), SectorSize)
	d.sectors[45] = []byte("end")
	tree, r, err := d.read()
	if err != nil {
		t.Fatal(err)
	}
	fsys := tree.FS(r)
	got := map[string]string{}
	err = fs.WalkDir(fsys, ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			got[p] = "directory"
		case e.Type() == fs.ModeSymlink:
			got[p], err = fs.ReadLink(fsys, p)
		default:
			b, readErr := fs.ReadFile(fsys, p)
			got[p], err = string(b), readErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		".": "directory", "sub": "directory", "begin and its end, and more": "hello",
		"link": "/a/../b/./c", "multi": strings.Repeat("m", SectorSize) + "end",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestReadTreeErrors(t *testing.T) {
	many := func(n int, r record) []record {
		var list []record
		for range n {
			list = append(list, r)
		}
		return list
	}
	for _, c := range []struct {
		name string
		make func(d *disc)
		want string
	}{
		{"directory holds itself", func(d *disc) { d.dir(20, 20, dirEntry(d, "loop", 20)) }, "reached twice"},
		{"directory holds its parent", func(d *disc) {
			d.dir(20, 20, dirEntry(d, "sub", 21))
			d.dir(21, 20, dirEntry(d, "loop", 20))
		}, "reached twice"},
		{"two directories in one place", func(d *disc) {
			d.dir(20, 20, dirEntry(d, "a", 21), dirEntry(d, "b", 21))
			d.dir(21, 20)
		}, "reached twice"},
		{"directory behind the end", func(d *disc) { d.dir(20, 20, dirEntry(d, "a", 64)) }, "in an image of"},
		{"directory at the last sector", func(d *disc) { d.dir(20, 20, dirEntry(d, "a", 0xFFFFFFFF)) }, "in an image of"},
		{"huge directory", func(d *disc) {
			d.dir(20, 20, d.entry(File{Name: "a", Mode: fs.ModeDir}, Extent{21, 0xFFFFFFFF}))
		}, "a directory of 4294967295 bytes"},
		{"empty directory extent", func(d *disc) { d.dir(20, 20, d.entry(File{Name: "a", Mode: fs.ModeDir}, Extent{21, 0})) }, "a directory of 0 bytes"},
		{"no own record", func(d *disc) { d.sectors[20] = fileEntry(d, "a", 40, 1) }, "does not begin with its own"},
		{"nothing in a directory", func(d *disc) { d.sectors[20] = nil }, "does not begin with its own"},
		{"short record", func(d *disc) { d.dir(20, 20, record{33, 0}) }, "directory record of 33 bytes"},
		{"record across sectors", func(d *disc) { d.dir(20, 20, many(19, fileEntry(d, "a", 40, 1))...) }, "crosses the end of its sector"},
		{"identifier too long", func(d *disc) {
			r := fileEntry(d, "a", 40, 1)
			r[recordIDLength] = 250
			d.dir(20, 20, r)
		}, "file identifier of 250 bytes"},
		{"no identifier", func(d *disc) {
			r := fileEntry(d, "a", 40, 1)
			r[recordIDLength] = 0
			d.dir(20, 20, r)
		}, "file identifier of 0 bytes"},
		{"byte orders", func(d *disc) {
			r := fileEntry(d, "a", 40, 1)
			r[recordSize+7]++
			d.dir(20, 20, r)
		}, "byte orders of an extent's length disagree"},
		{"name with a slash", func(d *disc) { d.dir(20, 20, newRecord([]byte("A.;1"), Extent{40, 1}, 0, date, nm(0, "a/b"))) }, `a file named "a/b"`},
		{"name that is the parent's", func(d *disc) { d.dir(20, 20, newRecord([]byte("A.;1"), Extent{40, 1}, 0, date, nm(0, ".."))) }, `a file named ".."`},
		{"endless continuation", func(d *disc) {
			d.sectors[30] = ce(30, 0, lenCE)
			d.dir(20, 20, newRecord([]byte("A.;1"), Extent{40, 1}, 0, date, ce(30, 0, lenCE)))
		}, "more than 32 continuation areas"},
		{"continuation behind the end", func(d *disc) {
			d.dir(20, 20, newRecord([]byte("A.;1"), Extent{40, 1}, 0, date, ce(64, 0, 28)))
		}, "continuation area in sector 64"},
		{"continuation across a sector", func(d *disc) {
			d.dir(20, 20, newRecord([]byte("A.;1"), Extent{40, 1}, 0, date, ce(30, 2040, 28)))
		}, "continuation area of 28 bytes at byte 2040"},
		{"entry longer than its field", func(d *disc) {
			d.dir(20, 20, newRecord([]byte("A.;1"), Extent{40, 1}, 0, date, []byte{'N', 'M', 200, 1, 0, 'a'}))
		}, `system use entry "NM" of 200 bytes`},
		{"malformed link", func(d *disc) {
			d.dir(20, 20, newRecord([]byte("A.;1"), Extent{40, 1}, 0, date, []byte{'S', 'L', 8, 1, 0, 0, 9, 'a'}))
		}, "malformed component"},
		{"file or directory", func(d *disc) {
			d.dir(20, 20, newRecord([]byte("A.;1"), Extent{40, 1}, 0, date, d.tree.posixAttributes(File{Mode: fs.ModeDir}, 0)))
		}, "a directory in one way of looking at it"},
		{"extents interrupted", func(d *disc) {
			a := fileEntry(d, "a", 40, SectorSize)
			a[recordFlags] = flagMultiExtent
			d.dir(20, 20, a, fileEntry(d, "b", 41, 1))
		}, "interrupted by another file's record"},
		{"last extent missing", func(d *disc) {
			a := fileEntry(d, "a", 40, SectorSize)
			a[recordFlags] = flagMultiExtent
			d.dir(20, 20, a)
		}, "ends before the last extent"},
		{"too deep", func(d *disc) {
			d.last = 20 + maxDepth + 10
			for i := Sector(20); i < d.last; i++ {
				d.dir(i, max(i-1, 20), dirEntry(d, "d", i+1))
			}
			d.dir(d.last, d.last-1)
		}, "nested more than 256 deep"},
		{"relocated into itself", func(d *disc) {
			d.dir(20, 20, dirEntry(d, "moved", 21, 'R', 'E', 4, 1))
			d.dir(21, 20, fileEntry(d, "here", 0, 0, childLink(21)...))
		}, ""},
		{"relocated to two places", func(d *disc) {
			d.dir(20, 20, fileEntry(d, "a", 0, 0, childLink(21)...), fileEntry(d, "b", 0, 0, childLink(21)...), dirEntry(d, "moved", 21, 'R', 'E', 4, 1))
			d.dir(21, 20)
		}, "reached twice"},
		{"relocated to nowhere", func(d *disc) { d.dir(20, 20, fileEntry(d, "a", 0, 0, childLink(33)...)) }, "where there is none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDisc()
			c.make(d)
			_, _, err := d.read()
			var format *FormatError
			if c.want == "" && err != nil || c.want != "" && !errors.As(err, &format) {
				t.Fatalf("ReadTree: %v, want a FormatError", err)
			}
			if c.want != "" && !strings.Contains(format.Message, c.want) {
				t.Errorf("ReadTree: %v, want …%s…", err, c.want)
			}
		})
	}
}

func childLink(at Sector) []byte {
	b := []byte{'C', 'L', 12, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	putBoth32(b[4:], uint32(at))
	return b
}

// TestRelocated reads a directory that stands deeper than it lies.
func TestRelocated(t *testing.T) {
	d := newDisc()
	d.dir(20, 20, dirEntry(d, "a", 21), dirEntry(d, "rr_moved", 22))
	d.dir(21, 20, fileEntry(d, "deep", 0, 0, childLink(23)...))
	d.dir(22, 20, dirEntry(d, "deep", 23, 'R', 'E', 4, 1))
	d.dir(23, 22, fileEntry(d, "file", 40, 4))
	d.sectors[40] = []byte("text")
	tree, r, err := d.read()
	if err != nil {
		t.Fatal(err)
	}
	if !tree.Relocated {
		t.Error("the tree does not say that it has relocated directories")
	}
	fsys := tree.FS(r)
	if b, err := fs.ReadFile(fsys, "a/deep/file"); err != nil || string(b) != "text" {
		t.Errorf("a/deep/file: %q, %v", b, err)
	}
	if list, err := fs.ReadDir(fsys, "rr_moved"); err != nil || len(list) != 0 {
		t.Errorf("rr_moved: %v, %v", list, err)
	}
}

func TestLinks(t *testing.T) {
	d := newDisc()
	link := func(name, target string) record {
		return d.entry(File{Name: name, Mode: fs.ModeSymlink | 0o777, Link: target}, Extent{})
	}
	d.dir(20, 20, dirEntry(d, "sub", 21), link("a", "sub/up/sub/file"), link("loop", "loop"), link("out", "../../../sub/file"), link("abs", "/sub/file"), link("dir", "sub"))
	d.dir(21, 20, link("up", ".."), fileEntry(d, "file", 40, 4))
	d.sectors[40] = []byte("text")
	tree, r, err := d.read()
	if err != nil {
		t.Fatal(err)
	}
	fsys := tree.FS(r)
	for _, p := range []string{"a", "out", "abs", "dir/file", "sub/up/dir/up/abs"} {
		if b, err := fs.ReadFile(fsys, p); err != nil || string(b) != "text" {
			t.Errorf("%s: %q, %v", p, b, err)
		}
	}
	if _, err := fs.Stat(fsys, "loop"); !errors.Is(err, errLoop) {
		t.Errorf("loop: %v", err)
	}
	if _, err := fs.Stat(fsys, "sub/file/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("below a file: %v", err)
	}
	if _, err := fsys.Open("../x"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("outside: %v", err)
	}
}

func TestReadVolumeErrors(t *testing.T) {
	d := newDisc()
	d.dir(20, 20)
	r, size := d.image()
	good := make([]byte, size)
	if _, err := r.ReadAt(good, 0); err != nil {
		t.Fatal(err)
	}
	set := func(at int64, text string) func([]byte) []byte {
		return func(b []byte) []byte {
			copy(b[at:], text)
			return b
		}
	}
	const pvd = 16 * SectorSize
	for _, c := range []struct {
		name string
		edit func([]byte) []byte
		want string
	}{
		{"empty", func([]byte) []byte { return nil }, "ends before its volume descriptors do"},
		{"short", func(b []byte) []byte { return b[:pvd+100] }, "ends before its volume descriptors do"},
		{"no magic", set(pvd, "xxxxxxx"), "no ISO 9660 volume descriptor"},
		{"no terminator", set(pvd+SectorSize, "xxxxxxx"), "end without a terminator"},
		{"no primary", set(pvd, "\x02"), "no primary volume descriptor"},
		{"block size", set(pvd+descBlockSize, "\x00\x02\x02\x00"), "logical block size 512"},
		{"byte orders", set(pvd+descSpaceSize, "\xff"), "byte orders of the volume space size disagree"},
		{"optional path table", set(pvd+descOptionalL, "\x01"), "optional path tables"},
		{"root is a file", set(pvd+descRoot+recordFlags, "\x00"), "not marked as a directory"},
		{"endless", func(b []byte) []byte {
			for i := pvd; i < pvd+40*SectorSize; i += SectorSize {
				copy(b[i:], "\x03CD001")
			}
			return append(b, bytes.Repeat(b[pvd:pvd+SectorSize], 60)...)
		}, "without a terminator"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.edit(bytes.Clone(good))
			_, err := ReadVolume(bytes.NewReader(b), int64(len(b)), 0)
			var format *FormatError
			if !errors.As(err, &format) || !strings.Contains(format.Message, c.want) {
				t.Errorf("ReadVolume: %v, want …%s…", err, c.want)
			}
		})
	}
}

func TestIdentifiers(t *testing.T) {
	tree := &Tree{versions: true}
	joliet := &Tree{Kind: Joliet}
	long := strings.Repeat("a", 200)
	for _, c := range []struct {
		name   string
		dir    bool
		taken  []string
		iso    string
		joliet string
	}{
		{"user-data", false, nil, "USER_DATA.;1", "user-data"},
		{"meta.tar.gz", false, nil, "META_TAR.GZ;1", "meta.tar.gz"},
		{"nocloud", true, nil, "NOCLOUD", "nocloud"},
		{".disk", true, nil, "_DISK", ".disk"},
		{".hidden", false, nil, "_HIDDEN.;1", ".hidden"},
		{"a.b", false, []string{"A.B;1"}, "A000.B;1", "a.b"},
		{"a.b", false, []string{"A.B;1", "A000.B;1"}, "A001.B;1", "a.b"},
		{"ü*?.ö", false, nil, "___._;1", "ü__.ö"},
		{"😀", false, nil, "_.;1", "_"},
		{long + ".packages", false, nil, strings.Repeat("A", 22) + ".PACKAGES;1", strings.Repeat("a", 94) + ".packages"},
		{long, true, nil, strings.Repeat("A", 31), strings.Repeat("a", 103)},
		{long, true, []string{strings.Repeat("A", 31)}, strings.Repeat("A", 28) + "000", strings.Repeat("a", 103)},
	} {
		taken := newIdentifiers(nil)
		for _, id := range c.taken {
			taken.take([]byte(id))
		}
		if got := string(tree.isoIdentifier(c.name, c.dir, taken)); got != c.iso {
			t.Errorf("isoIdentifier(%q): %q, want %q", c.name, got, c.iso)
		}
		if got := decodeUCS2(joliet.jolietIdentifier(c.name, c.dir, newIdentifiers(nil))); got != c.joliet {
			t.Errorf("jolietIdentifier(%q): %q, want %q", c.name, got, c.joliet)
		}
	}
}

func TestDates(t *testing.T) {
	for _, c := range []struct {
		long string
		zone int8
		want time.Time
	}{
		{"2026112312301500", 0, date},
		{"2026112312301550", 0, date.Add(500 * time.Millisecond)},
		{"2026112314301500", 8, date},
		{"0000000000000000", 0, time.Time{}},
		{"garbage, garbage", 0, time.Time{}},
	} {
		if got := decodeLongDate(append([]byte(c.long), byte(c.zone))); !got.Equal(c.want) {
			t.Errorf("decodeLongDate(%q, %d): %v, want %v", c.long, c.zone, got, c.want)
		}
	}
	short := shortDate(date)
	if got := decodeShortDate(short[:]); !got.Equal(date) {
		t.Errorf("a short date comes back as %v", got)
	}
	short[6] = 0xFC // an hour west
	if got := decodeShortDate(short[:]); !got.Equal(date.Add(time.Hour)) {
		t.Errorf("a short date of another zone is %v", got)
	}
	if got := decodeShortDate(make([]byte, 7)); !got.IsZero() {
		t.Errorf("an unset date is %v", got)
	}
}

// TestSystemUse decodes what systemUse makes.
func TestSystemUse(t *testing.T) {
	for _, px := range []int{lenPX1991, lenPX} {
		for _, skip := range []int{0, 14} {
			for _, f := range []File{
				{Name: "short", Mode: 0o444, ModTime: date},
				{Name: strings.Repeat("n", maxNewName), Mode: 0o555, ModTime: date},
				{Name: "d", Mode: fs.ModeDir | 0o555, ModTime: date},
				{Name: "l", Mode: fs.ModeSymlink | 0o777, ModTime: date, Link: "../a/./b"},
				{Name: "l", Mode: fs.ModeSymlink | 0o777, ModTime: date, Link: "/" + strings.Repeat("x", 600)},
				{Name: strings.Repeat("n", maxNewName), Mode: fs.ModeSymlink | 0o777, ModTime: date, Link: strings.Repeat("ab/", 340) + "end"},
				{Name: "l", Mode: fs.ModeSymlink | 0o777, ModTime: date, Link: "/"},
			} {
				t.Run(fmt.Sprint(px, skip, len(f.Name), len(f.Link)), func(t *testing.T) {
					tree := &Tree{Kind: RockRidge, pxLength: px, skip: skip}
					use, area, at, err := tree.systemUse(f, 7, 120)
					if err != nil {
						t.Fatal(err)
					}
					if len(use) > 120 {
						t.Errorf("the field has %d bytes", len(use))
					}
					disc := make([]byte, 2*SectorSize)
					if at >= 0 {
						copy(disc[SectorSize+10:], area)
						copy(use[at:], ce(1, 10, uint32(len(area))))
					}
					s := &suspReader{r: bytes.NewReader(disc), size: int64(len(disc)), skip: skip, note: func(Sector) {}}
					a, err := s.decode(use, 0, false)
					if err != nil {
						t.Fatal(err)
					}
					wantSerial := uint32(0)
					if px == lenPX {
						wantSerial = 7
					}
					if a.name != f.Name || a.link.String() != f.Link || fileMode(a.mode) != f.Mode || !a.modified.Equal(date) || a.serial != wantSerial {
						t.Errorf("comes back as %q → %q, %v, %v, %d", a.name, a.link.String(), fileMode(a.mode), a.modified, a.serial)
					}
				})
			}
		}
	}
}

// TestOrder inserts entries in any order; records are to be sorted (ECMA-119 9.3),
// and a directory that outgrew its place is to be found by all that lead to it.
func TestOrder(t *testing.T) {
	for _, kind := range []Kind{RockRidge, Joliet} {
		d := newDisc()
		d.dir(20, 20, dirEntry(d, "m", 21))
		d.dir(21, 20, dirEntry(d, "n", 22))
		d.dir(22, 21)
		tree, _, err := d.read()
		if err != nil {
			t.Fatal(err)
		}
		tree = tree.Clone()
		tree.Kind = kind
		m := tree.Root.Lookup("m").Dir
		for i := range 100 {
			name := fmt.Sprintf("%d-%s", i*37%100, strings.Repeat("x", i%50))
			if _, err := tree.Insert(m, File{Name: name, Mode: 0o444, Extents: []Extent{{}}}); err != nil {
				t.Fatal(err)
			}
		}
		for i := 1; i < len(m.Entries); i++ {
			if a, b := m.Entries[i-1].Identifier(), m.Entries[i].Identifier(); tree.compareIdentifiers(a, b) >= 0 {
				t.Errorf("%v: %q comes before %q", kind, a, b)
			}
		}
		next := Sector(64)
		_, err = tree.Commit(func(n uint32) (Sector, error) {
			next += Sector(n)
			return next - Sector(n), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if m.Extent.Sector < 64 || tree.Root.Entries[0].records[0].extent() != m.Extent ||
			m.self.extent() != m.Extent || m.parent.extent() != tree.Root.Extent || m.Lookup("n").Dir.parent.extent() != m.Extent {
			t.Errorf("%v: the moved directory is not found everywhere", kind)
		}
	}
}

func TestPathTable(t *testing.T) {
	d := newDisc()
	d.dir(20, 20, dirEntry(d, "a", 21), dirEntry(d, "b", 22))
	d.dir(21, 20, dirEntry(d, "z", 23))
	d.dir(22, 20, dirEntry(d, "c", 24))
	d.dir(23, 21)
	d.dir(24, 22)
	tree, _, err := d.read()
	if err != nil {
		t.Fatal(err)
	}
	// ECMA-119 6.9.1: by level, then by parent, then by identifier.
	want := "\x01\x00\x14\x00\x00\x00\x01\x00\x00\x00" +
		"\x01\x00\x15\x00\x00\x00\x01\x00A\x00" + "\x01\x00\x16\x00\x00\x00\x01\x00B\x00" +
		"\x01\x00\x17\x00\x00\x00\x02\x00Z\x00" + "\x01\x00\x18\x00\x00\x00\x03\x00C\x00"
	got, err := tree.pathTable(binary.LittleEndian)
	if err != nil || string(got) != want {
		t.Errorf("path table (%v):\n got %q\nwant %q", err, got, want)
	}
}

// Thousands of names that begin alike take a number each, and not a search for it
// from the first one on.
func TestUniqueTakesOneNumberEach(t *testing.T) {
	const names = 5000
	ids, made := newIdentifiers(nil), 0
	for range names {
		ids.unique("LINUX_MODULES_NVIDIA_580", 26, func(stem string) []byte {
			made++
			return []byte(stem + ".DEB")
		})
	}
	if len(ids.taken) != names || made > 3*names {
		t.Errorf("%d identifiers for %d names, after %d attempts", len(ids.taken), names, made)
	}
}
