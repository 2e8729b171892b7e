package iso_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

// names draws file names: ordinary, long, of other scripts, and of the kinds that
// ISO 9660 and Joliet identifiers cannot hold.
func names() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[a-zA-Z0-9_.+~-]{1,40}`),
		rapid.StringMatching(`[a-c]{1,2}(\.[a-c])?`), // these collide
		rapid.StringMatching(`(package-name-){2,20}[0-9]{1,3}\.deb`),
		rapid.StringMatching(`[ -.:-\[\]-~]{1,60}`),
		rapid.StringMatching(`[äöüßéñ漢字😀.]{1,40}`),
		rapid.Just(strings.Repeat("n", 253)),
	).Filter(func(s string) bool { return s != "." && s != ".." && len(s) <= 253 })
}

// content draws a file's content, mostly small, sometimes at the edge of a sector.
func content(t *rapid.T) []byte {
	n := rapid.OneOf(rapid.IntRange(0, 100), rapid.SampledFrom([]int{0, 2047, 2048, 2049, 4096, 50_000})).Draw(t, "size")
	return bytes.Repeat([]byte{byte(rapid.IntRange(0, 255).Draw(t, "byte"))}, n)
}

// drawOverlay draws an overlay for a medium with the files given.
func drawOverlay(t *rapid.T, base map[string]entry) iso.Overlay {
	var o iso.Overlay
	all := slices.Sorted(maps.Keys(base))
	fixed := func(p string) bool {
		return p == md5sum || slices.Contains(bootCatalogues, p) || p == patched
	}
	for range rapid.IntRange(0, 4).Draw(t, "removals") {
		p := rapid.SampledFrom(all).Draw(t, "remove")
		holdsFixed := slices.ContainsFunc(all, func(q string) bool { return fixed(q) && (p == q || strings.HasPrefix(q, p+"/")) })
		if !holdsFixed {
			o.Remove = append(o.Remove, p)
		}
	}
	left := without(base, o.Remove)
	added := fstest.MapFS{}
	for range rapid.IntRange(0, 25).Draw(t, "files") {
		var p string
		if rapid.IntRange(0, 4).Draw(t, "where") == 0 {
			p = rapid.SampledFrom(all).Draw(t, "replace")
		} else {
			parts := rapid.SliceOfN(names(), 1, 5).Draw(t, "path")
			if rapid.Bool().Draw(t, "below") {
				parts = append([]string{rapid.SampledFrom(all).Draw(t, "parent")}, parts...)
			}
			p = strings.Join(parts, "/")
		}
		if !fits(p, left, added) || fixed(p) {
			continue
		}
		f := &fstest.MapFile{Data: content(t), Mode: rapid.SampledFrom([]fs.FileMode{0o600, 0o755}).Draw(t, "mode")}
		if _, there := left[p]; !there && rapid.IntRange(0, 5).Draw(t, "kind") == 0 {
			f = &fstest.MapFile{Mode: fs.ModeSymlink | 0o777, Data: []byte(rapid.StringMatching(`/?([a-z.]{1,300}/){0,3}[a-z]{1,80}`).Draw(t, "target"))}
		}
		added[p] = f
	}
	o.Files = added
	return o
}

// fits reports whether a file can be added: there is none of another kind at its
// path, and no file where it needs a directory.
func fits(p string, base map[string]entry, added fstest.MapFS) bool {
	if _, there := added[p]; there {
		return false
	}
	if e := base[p]; e == "directory" || strings.HasPrefix(string(e), "->") {
		return false
	}
	for q := range added {
		if strings.HasPrefix(q, p+"/") {
			return false
		}
	}
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if e, there := base[dir]; there && e != "directory" {
			return false
		}
		if _, there := added[dir]; there {
			return false
		}
	}
	return true
}

// randomMedia are media with trees drawn at random, besides the stock files.
func randomMedia(t *testing.T) []string {
	list := []string{isotest.Medium{}.Make(t)}
	kinds := []isotest.Medium{{}, {Layout: isotest.ARM64}, {NoJoliet: true}, {NewRockRidge: true}, {Tags: true}}
	if testing.Short() {
		kinds = kinds[:1]
	}
	for i, m := range kinds {
		m.Files = rapid.Custom(func(t *rapid.T) map[string]string {
			found := map[string]string{}
			added := fstest.MapFS{}
			for range 80 {
				p := "random/" + strings.Join(rapid.SliceOfN(names(), 1, 6).Draw(t, "path"), "/")
				// xorriso's Joliet and isoinfo differ on names outside the BMP.
				if fits(p, nil, added) && len(p) < 900 && !strings.Contains(p, "😀") {
					added[p] = &fstest.MapFile{}
					found[p] = string(content(t))
				}
			}
			return found
		}).Example(i)
		list = append(list, m.Make(t))
	}
	return list
}

// TestAnyOverlay remasters media with overlays drawn at random. Each result must
// show the right files in both views, pass Verify, and lead back to the original;
// xorriso unpacks a sample of them.
func TestAnyOverlay(t *testing.T) {
	type medium struct {
		path  string
		im    *iso.Image
		files map[string]entry
		sum   string
	}
	var list []medium
	for _, p := range randomMedia(t) {
		im, _ := open(t, p)
		list = append(list, medium{p, im, listing(t, im.FS()), sum(t, p)})
	}
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		m := list[rapid.IntRange(0, len(list)-1).Draw(rt, "medium")]
		o := drawOverlay(rt, m.files)
		l, err := iso.Remaster(m.im, o)
		if err != nil && strings.Contains(err.Error(), "cannot be found in the medium's Joliet tree") {
			// An empty file whose long name xorriso cut for Joliet: refused by design.
			rt.Skip(err)
		}
		if err != nil {
			rt.Fatal(err)
		}
		im, err := iso.Open(l, l.Size())
		if err != nil {
			rt.Fatal(err)
		}
		want := apply(t, m.files, o)
		for name, fsys := range map[string]fs.FS{"whole image": im.FS(), "partition 1": im.PartitionFS()} {
			got := listing(t, fsys)
			for _, p := range append(bootCatalogues, md5sum) {
				delete(want, p)
				delete(got, p)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				rt.Fatalf("%s: files differ (-want +got):\n%s", name, diff)
			}
		}
		faults, err := iso.Verify(t.Context(), l, l.Size(), iso.VerifyOptions{})
		if err != nil {
			rt.Fatal(err)
		}
		for _, f := range faults {
			if f.Check != iso.CheckMenu && !f.Base {
				rt.Fatalf("Verify: %v", f)
			}
		}
		back, err := iso.Restore(im)
		if err != nil {
			rt.Fatal(err)
		}
		if sumOf(rt, back) != m.sum {
			rt.Fatal("the restored image is not the original")
		}
		if runs++; runs%25 == 0 {
			image := write(t, l)
			checkMedium(t, m.path, image, o)
			if err := os.Remove(image); err != nil {
				rt.Fatal(err)
			}
		}
	})
	if runs == 0 {
		t.Error("nothing was tried")
	}
}

func sumOf(t *rapid.T, l *iso.Layout) string {
	h := sha256.New()
	if err := iso.WriteTo(t.Context(), l, h, nil); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
