package iso_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/grubcfg"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

// overlays are what most tests put on a medium.
func overlays() map[string]iso.Overlay {
	many := fstest.MapFS{}
	for i := range 700 {
		many[fmt.Sprintf("extra/pool/%d/package-%d_1.0-%s.deb", i%3, i, strings.Repeat("v", i%90))] = &fstest.MapFile{Data: []byte(fmt.Sprint(i))}
	}
	deep := fstest.MapFS{strings.Repeat("d/", 30) + "leaf": &fstest.MapFile{Data: []byte("deep")}}
	odd := fstest.MapFS{
		"empty file":                   &fstest.MapFile{},
		"empty directory":              &fstest.MapFile{Mode: os.ModeDir | 0o700},
		"tool":                         &fstest.MapFile{Data: []byte("#!/bin/sh\n"), Mode: 0o700},
		"link":                         &fstest.MapFile{Data: []byte("../a/./b"), Mode: os.ModeSymlink},
		"absolute":                     &fstest.MapFile{Data: []byte("/etc/" + strings.Repeat("x", 251)), Mode: os.ModeSymlink},
		"long link":                    &fstest.MapFile{Data: []byte(strings.Repeat("component/", 90) + "end"), Mode: os.ModeSymlink},
		strings.Repeat("n", 253):       &fstest.MapFile{Data: []byte("long name")},
		strings.Repeat("n", 252) + "m": &fstest.MapFile{Data: []byte("another")},
		strings.Repeat("ü", 110):       &fstest.MapFile{Data: []byte("umlauts")},
		"smile 😀 ; * ? :":              &fstest.MapFile{Data: []byte("not in Joliet")},
		"UPPER":                        &fstest.MapFile{Data: []byte("1")},
		"upper":                        &fstest.MapFile{Data: []byte("2")},
		".hidden":                      &fstest.MapFile{Data: []byte("3")},
		"trailing.":                    &fstest.MapFile{Data: []byte("4")},
		"EFI/boot/new.efi":             &fstest.MapFile{Data: bytes.Repeat([]byte("x"), 2048)},
	}
	return map[string]iso.Overlay{
		"nothing":    {},
		"seed":       {Files: files(seed())},
		"replace":    {Files: files(map[string]string{"casper/vmlinuz": "smaller", "boot/grub/grub.cfg": strings.Repeat("# larger\n", 1000), ".disk/cd_type": ""})},
		"many files": {Files: many},
		"deep":       {Files: deep},
		"odd names":  {Files: odd},
		"remove":     {Remove: []string{"casper/initrd", "pool/main/p", "dists/stable", "ubuntu", "pool/main/p/package00"}},
		"remove and add": {
			Remove: []string{"pool", "casper"},
			Files:  files(map[string]string{"pool/new": "new", "casper": "a file now"}),
		},
	}
}

func TestRemaster(t *testing.T) {
	for kind, medium := range media() {
		t.Run(kind, func(t *testing.T) {
			base := medium.Make(t)
			for name, o := range overlays() {
				t.Run(name, func(t *testing.T) {
					if testing.Short() && kind != "amd64" && name != "seed" {
						t.Skip("amd64 alone in a short run")
					}
					image, l := remaster(t, base, o)
					// File systems share blocks at multiples of 4 KiB.
					if moved := l.Size() - size(t, base); moved%4096 != 0 {
						t.Errorf("what lies behind the first partition moved by %d bytes", moved)
					}
					checkMedium(t, base, image, o)
					checkKeepsPlaces(t, base, image, o)
					if diff := cmp.Diff(report(t, base), report(t, image)); diff != "" {
						t.Errorf("xorriso's report differs (-base +image):\n%s", diff)
					}
					if sum(t, restore(t, image)) != sum(t, base) {
						t.Error("the restored image is not the original")
					}
					again, _ := remaster(t, base, o)
					if sum(t, again) != sum(t, image) {
						t.Error("two runs gave different images")
					}
					checkShared(t, l, o)
				})
			}
		})
	}
}

// checkKeepsPlaces compares every file that the overlay leaves alone with the
// base's bytes at the same place.
func checkKeepsPlaces(t *testing.T, base, image string, o iso.Overlay) {
	t.Helper()
	before, f := open(t, base)
	after, g := open(t, image)
	added := map[string]entry{}
	if o.Files != nil {
		added = listing(t, o.Files)
	}
	for name, place := range places(before) {
		if _, replaced := added[name]; replaced || name == md5sum || slices.Contains(bootCatalogues, name) {
			continue
		}
		now, ok := places(after)[name]
		if !ok {
			continue // removed
		}
		if diff := cmp.Diff(place, now); diff != "" {
			t.Errorf("%s was moved (-base +image):\n%s", name, diff)
		}
		var a, b bytes.Buffer
		for _, x := range place {
			if _, err := io.Copy(&a, io.NewSectionReader(f, x.Offset, x.Length)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(&b, io.NewSectionReader(g, x.Offset, x.Length)); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("%s: its bytes have changed", name)
		}
	}
}

// places returns the ranges of the image that hold each file.
func places(im *iso.Image) map[string][]iso.Range {
	all := map[string][]iso.Range{}
	for _, f := range im.Files() {
		all[f.Path] = f.Ranges
	}
	return all
}

// checkShared holds the bound on what an image does not share with its base.
func checkShared(t *testing.T, l *iso.Layout, o iso.Overlay) {
	t.Helper()
	var added int64
	if o.Files != nil {
		for name := range listing(t, o.Files) {
			if info, err := o.Files.Open(name); err == nil {
				if i, err := info.Stat(); err == nil && i.Mode().IsRegular() {
					added += (i.Size() + 2047) / 2048 * 2048
				}
			}
		}
	}
	const esp, slack = 1 << 20, 1 << 20
	if own := l.Size() - l.SharedBytes(); own > esp+slack+added {
		t.Errorf("%d bytes are not the base's, for %d added", own, added)
	}
}

func TestMenu(t *testing.T) {
	menu := &grubcfg.Menu{
		KernelArgs: []string{"autoinstall", "ds=nocloud;s=/cdrom/nocloud/"},
		Title:      "ERASE disk SERIAL S6ES and install node01",
		Timeout:    30,
	}
	for kind, medium := range media() {
		t.Run(kind, func(t *testing.T) {
			base := medium.Make(t)
			image, _ := remaster(t, base, iso.Overlay{Files: files(seed()), Menu: menu})
			im, _ := open(t, image)
			for _, name := range []string{"boot/grub/grub.cfg", "boot/grub/loopback.cfg"} {
				b, err := im.PartitionFS().Open(name)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(b)
				if err != nil {
					t.Fatal(err)
				}
				entries, err := grubcfg.Entries(text)
				if err != nil {
					t.Fatal(err)
				}
				if entries[0].Title != menu.Title || !slices.Contains(entries[0].Args, menu.KernelArgs[1]) {
					t.Errorf("%s: the first entry is %+v", name, entries[0])
				}
			}
			checkVerify(t, image)
			checkSums(t, extract(t, image))
			if sum(t, restore(t, image)) != sum(t, base) {
				t.Error("the restored image is not the original")
			}
		})
	}
}

func TestMenuOfOverlay(t *testing.T) {
	base := isotest.Medium{}.Make(t)
	own := strings.ReplaceAll(isotest.GrubCfg, "Try or Install", "Own title:")
	image, _ := remaster(t, base, iso.Overlay{
		Files: files(map[string]string{"boot/grub/grub.cfg": own}),
		Menu:  &grubcfg.Menu{KernelArgs: []string{"autoinstall"}, Title: "T"},
	})
	im, _ := open(t, image)
	f, err := im.FS().Open("boot/grub/grub.cfg")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("Own title:")) || !bytes.Contains(text, []byte("autoinstall")) {
		t.Errorf("the overlay's menu was not the one edited:\n%s", text)
	}
}

func TestRemasterAgain(t *testing.T) {
	for kind, medium := range media() {
		t.Run(kind, func(t *testing.T) {
			base := medium.Make(t)
			first, _ := remaster(t, base, iso.Overlay{Files: files(map[string]string{
				"old/file": "old", "casper/vmlinuz": "old", strings.Repeat("o", 250): "old",
			}), Remove: []string{"casper/initrd"}})
			o := iso.Overlay{Files: files(seed())}
			second, l := remaster(t, first, o)
			direct, _ := remaster(t, base, o)
			if sum(t, second) != sum(t, direct) {
				t.Error("remastering a remastered image differs from remastering its base")
			}
			for _, s := range l.Segments() {
				if s.Kind == iso.Base && s.BaseOffset+s.Length > int64(l.Size())+1<<20 {
					t.Errorf("segment %+v leads out of the base", s)
				}
			}
			if sum(t, restore(t, second)) != sum(t, base) {
				t.Error("the restored image is not the original")
			}
		})
	}
}

func TestModTime(t *testing.T) {
	base := isotest.Medium{}.Make(t)
	own := time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)
	for _, c := range []struct {
		name    string
		modTime time.Time
		want    time.Time
	}{
		{"the medium's own", time.Time{}, time.Unix(1739746162, 0).UTC()},
		{"given", own, own},
	} {
		t.Run(c.name, func(t *testing.T) {
			image, _ := remaster(t, base, iso.Overlay{Files: files(seed()), ModTime: c.modTime})
			im, _ := open(t, image)
			for _, f := range im.Files() {
				if strings.HasPrefix(f.Path, "nocloud") && !f.ModTime.Equal(c.want) {
					t.Errorf("%s has the date %v, want %v", f.Path, f.ModTime, c.want)
				}
			}
		})
	}
}

func TestOverlayErrors(t *testing.T) {
	base := isotest.Medium{}.Make(t)
	im, _ := open(t, base)
	one := func(name, text string) iso.Overlay { return iso.Overlay{Files: files(map[string]string{name: text})} }
	for _, c := range []struct {
		name    string
		overlay iso.Overlay
		path    string
		reason  string
	}{
		{"boot catalogue", one("boot.catalog", "x"), "boot.catalog", "the medium boots from its place"},
		{"boot image", iso.Overlay{Remove: []string{"boot/grub"}}, "boot/grub/i386-pc/eltorito.img", "the medium boots from its place"},
		{"checksums", one("md5sum.txt", "x"), "md5sum.txt", "kept true"},
		{"removed checksums", iso.Overlay{Remove: []string{"md5sum.txt"}}, "md5sum.txt", "kept true"},
		{"remove what is not there", iso.Overlay{Remove: []string{"casper/none"}}, "casper/none", "no such file"},
		{"remove all", iso.Overlay{Remove: []string{"."}}, ".", "not a path"},
		{"remove outside", iso.Overlay{Remove: []string{"../x"}}, "../x", "not a path"},
		{"remove through a link", iso.Overlay{Remove: []string{"ubuntu/casper/initrd"}}, "ubuntu/casper/initrd", "symbolic link"},
		{"file for directory", one("casper", "x"), "casper", "a directory on the medium"},
		{"directory for file", one("casper/vmlinuz/x", "x"), "casper/vmlinuz", "is a file on the medium"},
		{"through a link", one("ubuntu/x", "x"), "ubuntu", "a symbolic link on the medium"},
		{"file for link", one("ubuntu", "x"), "ubuntu", "a symbolic link"},
		{"long name", one(strings.Repeat("x", 254), "x"), strings.Repeat("x", 254), "a name of 254 bytes"},
		{"control character", one("a\nb", "x"), "a\nb", "control character"},
		{"backslash", one(`a\b`, "x"), `a\b`, "backslash"},
		{"device", iso.Overlay{Files: fstest.MapFS{"null": {Mode: os.ModeDevice}}}, "null", "neither a file"},
		{"link without target", iso.Overlay{Files: fstest.MapFS{"l": {Mode: os.ModeSymlink}}}, "l", "without a target"},
		{"long link", iso.Overlay{Files: fstest.MapFS{"l": {Mode: os.ModeSymlink, Data: bytes.Repeat([]byte("x"), 1025)}}}, "l", "more than 1024"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := iso.Remaster(im, c.overlay)
			var wrong *iso.OverlayError
			if !errors.As(err, &wrong) {
				t.Fatalf("Remaster: %v, want an OverlayError", err)
			}
			if wrong.Path != c.path || !strings.Contains(wrong.Reason, c.reason) {
				t.Errorf("Remaster: %q: %q, want %q: …%s…", wrong.Path, wrong.Reason, c.path, c.reason)
			}
		})
	}
}

func TestOverlayChangesLater(t *testing.T) {
	base := isotest.Medium{}.Make(t)
	im, f := open(t, base)
	dir := t.TempDir()
	name := dir + "/user-data"
	if err := os.WriteFile(name, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := iso.Remaster(im, iso.Overlay{Files: os.DirFS(dir)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = iso.WriteFile(t.Context(), l, f, dir+"/out.iso", iso.WriteOptions{})
	if err == nil || !strings.Contains(err.Error(), "has changed since the image was planned") {
		t.Errorf("WriteFile: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestLayoutReadAt(t *testing.T) {
	base := isotest.Medium{}.Make(t)
	image, l := remaster(t, base, iso.Overlay{Files: files(seed()), Remove: []string{"casper/initrd"}})
	want, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("ranges", func(t *testing.T) {
		for i := range 8 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel() // ReadAt is for several goroutines
				for off := i * 511; off < len(want); off += 100_003 + i {
					p := make([]byte, min(50_000, len(want)-off))
					if n, err := l.ReadAt(p, int64(off)); n != len(p) || err != nil {
						t.Fatalf("ReadAt(%d): %d, %v", off, n, err)
					}
					if !bytes.Equal(p, want[off:off+len(p)]) {
						t.Fatalf("ReadAt(%d): other bytes than the file", off)
					}
				}
			})
		}
	})
	p := make([]byte, 10)
	if n, err := l.ReadAt(p, l.Size()-4); n != 4 || err != io.EOF {
		t.Errorf("ReadAt across the end: %d, %v", n, err)
	}
	if n, err := l.ReadAt(p, l.Size()); n != 0 || err != io.EOF {
		t.Errorf("ReadAt at the end: %d, %v", n, err)
	}
	if _, err := l.ReadAt(p, -1); err == nil {
		t.Error("ReadAt(-1) gave no error")
	}
	var at int64
	for _, s := range l.Segments() {
		if s.Offset != at {
			t.Errorf("segment at %d, want %d", s.Offset, at)
		}
		at = s.End()
	}
	if at != l.Size() {
		t.Errorf("the segments end at %d of %d", at, l.Size())
	}
}

func TestDescribe(t *testing.T) {
	base := isotest.Medium{}.Make(t)
	_, l := remaster(t, base, iso.Overlay{Files: files(seed())})
	meanings := map[string]bool{}
	for off := int64(0); off < l.Size(); off += 512 {
		meanings[l.Describe(off)] = true
	}
	for _, want := range []string{
		"master boot record", "GUID partition table header", "GUID partition table entries",
		"backup GUID partition table", "El Torito boot record", "El Torito boot catalogue",
		"volume descriptor (Rock Ridge, whole image)", "volume descriptor (Joliet, partition 1)",
		"path table, type L (Joliet, whole image)", "path table, type M (Rock Ridge, partition 1)",
		"root directory (Rock Ridge, whole image)", "directory /nocloud (Joliet, partition 1)",
		"continuation area (Rock Ridge, whole image)",
		"file /nocloud/user-data", "file /casper/vmlinuz", "restore record", "EFI system partition",
	} {
		if !meanings[want] {
			t.Errorf("no byte is described as %q; there are %q", want, slices.Sorted(maps.Keys(meanings)))
		}
	}
	if got := l.Describe(l.Size()); got != "outside the image" {
		t.Errorf("Describe behind the end: %q", got)
	}
}
