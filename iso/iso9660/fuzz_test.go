package iso9660_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/iso/iso9660"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

var update = flag.Bool("update", false, "write the fuzz targets' seeds anew")

// TestSeeds makes the seeds of the fuzz targets: the metadata of small media.
func TestSeeds(t *testing.T) {
	if !*update {
		t.Skip("only with -update")
	}
	for name, m := range map[string]isotest.Medium{
		"joliet": {Small: true, Files: map[string]string{
			string(bytes.Repeat([]byte("long"), 60)): "long name",
			"a/b/c/d/e/f/g/h/i/j":                    "deep",
		}, Links: map[string]string{"link": "../" + string(bytes.Repeat([]byte("x"), 240)) + "/y"}},
		"rrip112": {Small: true, NoJoliet: true, NewRockRidge: true},
	} {
		f, err := os.Open(m.Make(t))
		if err != nil {
			t.Fatal(err)
		}
		b, err := isotest.PackSparse(f, 600<<10)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", b)
		if err := os.WriteFile(filepath.Join("testdata/fuzz/FuzzTree", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzTree reads whatever volumes the bytes hold. What can be read must be a finite
// tree; and what this package would write the same way must stay a readable volume
// when it is edited.
func FuzzTree(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		r, size := isotest.Sparse(b)
		for _, start := range []iso9660.Sector{0, 16} {
			v, err := iso9660.ReadVolume(r, size, start)
			if err != nil {
				continue
			}
			for _, d := range []*iso9660.Descriptor{v.Primary, v.Joliet} {
				if d == nil {
					continue
				}
				tree, err := v.ReadTree(r, size, d)
				if err != nil {
					continue
				}
				walk(t, tree.FS(r))
				tree.Structures()
				tree.Outside(100)
				if tree.CheckRegenerates(r) == nil && !tree.Relocated {
					editTree(t, r, size, v, tree)
				}
			}
		}
	})
}

// walk reads a bit of every file.
func walk(t *testing.T, fsys fs.FS) {
	files := 0
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir // a name that is no valid path
		}
		if files++; files > 1<<20 {
			t.Fatal("the tree has no end")
		}
		if d.Type()&fs.ModeSymlink != 0 {
			_, _ = fs.ReadLink(fsys, p)
			_, _ = fs.Stat(fsys, p) // may lead anywhere
		}
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := fsys.Open(p)
		if err != nil {
			return nil // zisofs
		}
		_, _ = io.CopyN(io.Discard, f, 5000) // may lie outside the image
		return f.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// editTree adds and removes entries and reads the volume again.
func editTree(t *testing.T, r io.ReaderAt, size int64, v *iso9660.Volume, tree *iso9660.Tree) {
	const name = "a new file with a name of some length, so that it may need a continuation area ................................................................."
	next := iso9660.Sector(iso9660.Sectors(size))
	if tree.Root.Lookup(name) != nil || next < tree.Start {
		return
	}
	edited := tree.Clone()
	if n := len(edited.Root.Entries); n > 3 {
		edited.Remove(edited.Root, edited.Root.Entries[n/2])
	}
	date := time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)
	dir, err := edited.Insert(edited.Root, iso9660.File{Name: name, Mode: fs.ModeDir | 0o555, ModTime: date})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		f := iso9660.File{Name: fmt.Sprintf("%d %s", i, name), Mode: 0o444, ModTime: date, Extents: []iso9660.Extent{{Length: 0}}}
		if _, err := edited.Insert(dir.Dir, f); err != nil {
			t.Fatal(err)
		}
	}
	image := &patched{ReaderAt: r}
	patches, err := edited.Commit(func(n uint32) (iso9660.Sector, error) {
		at := next
		next += iso9660.Sector(n)
		return at, nil
	})
	if err != nil {
		return // too many directories
	}
	image.patches = append(patches, edited.Volume().Grow(0))
	after, err := iso9660.ReadVolume(image, int64(next.Offset()), v.Start)
	if err != nil {
		t.Fatalf("after an edit: %v", err)
	}
	d := after.Primary
	if tree.Kind == iso9660.Joliet {
		d = after.Joliet
	}
	again, err := after.ReadTree(image, int64(next.Offset()), d)
	if err != nil {
		t.Fatalf("after an edit: %v", err)
	}
	if path, differ := iso9660.Differ(edited, again); differ && tree.Kind == iso9660.RockRidge {
		t.Fatalf("after an edit %q is not what was written", path)
	}
	if err := again.CheckRegenerates(image); err != nil {
		t.Fatalf("after an edit: %v", err)
	}
}

// patched is an image with sectors written over it.
type patched struct {
	io.ReaderAt
	patches []iso9660.Patch
}

func (p *patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, off)
	clear(b[n:])
	for _, c := range p.patches {
		start := int64(c.Sector.Offset())
		from, to := max(start, off), min(start+int64(len(c.Bytes)), off+int64(len(b)))
		if from < to {
			copy(b[from-off:to-off], c.Bytes[from-start:])
		}
	}
	if err == io.EOF {
		err = nil
	}
	return len(b), err
}
