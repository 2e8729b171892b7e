package iso_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/grubcfg"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

var menu = &grubcfg.Menu{
	KernelArgs: []string{"autoinstall", "ds=nocloud;s=/cdrom/nocloud/"},
	Title:      "ERASE disk SERIAL S6ES and install node01",
	Timeout:    30,
}

// find returns the first byte of an image that is described so.
func find(t testing.TB, l *iso.Layout, meaning string) int64 {
	t.Helper()
	for off := int64(0); off < l.Size(); off += 512 {
		if l.Describe(off) == meaning {
			return off
		}
	}
	t.Fatalf("no byte is described as %q", meaning)
	return 0
}

// TestVerifyDamage damages one byte of each structure and wants the fault named.
func TestVerifyDamage(t *testing.T) {
	base := isotest.Medium{}.Make(t)
	image, l := remaster(t, base, iso.Overlay{Files: files(seed()), Menu: menu})
	good, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		meaning string
		at      int64 // from the first byte described so
		check   string
		message string
	}{
		{"master boot record", 100, iso.CheckBoot, "its boot code is not the base"},
		{"master boot record", 446 + 12, iso.CheckPartitions, "the protective entry ends"},
		{"master boot record", 510, iso.CheckStructure, "no partition table"},
		{"GUID partition table header", 40, iso.CheckStructure, "header's checksum is wrong"},
		{"GUID partition table entries", 33, iso.CheckStructure, "entries' checksum is wrong"},
		{"backup GUID partition table", 33, iso.CheckPartitions, "entries' checksum is wrong"},
		{"backup GUID partition table", 62*512 + 40, iso.CheckPartitions, "header's checksum is wrong"},
		{"El Torito boot record", 71, iso.CheckStructure, "boot catalogue"},
		{"El Torito boot catalogue", 0, iso.CheckStructure, "no validation entry"},
		{"El Torito boot catalogue", 5, iso.CheckStructure, "checksum is wrong"},
		{"El Torito boot catalogue", 64 + 32 + 8, iso.CheckStructure, "the boot catalogue leads to a UEFI boot image"},
		{"volume descriptor (Rock Ridge, whole image)", 80, iso.CheckStructure, "byte orders"},
		{"volume descriptor (Joliet, partition 1)", 1, iso.CheckStructure, "terminator"},
		{"volume descriptor (Rock Ridge, partition 1)", 1, iso.CheckStructure, "no partition holds a second set"},
		{"root directory (Rock Ridge, partition 1)", 2, iso.CheckStructure, "byte orders"},
		{"directory /nocloud (Joliet, whole image)", 2, iso.CheckStructure, "byte orders"},
		{"path table, type L (Rock Ridge, whole image)", 2, iso.CheckStructure, "path table (type L) does not list"},
		{"path table, type M (Joliet, whole image)", 4, iso.CheckStructure, "path table (type M) does not list"},
		{"path table, type L (Joliet, partition 1)", 2, iso.CheckStructure, "path table (type L) does not list"},
		{"path table, type M (Rock Ridge, partition 1)", 5, iso.CheckStructure, "path table (type M) does not list"},
		{"restore record", 3000, iso.CheckStructure, "SHA-256 is wrong"},
		{"EFI system partition", 510, iso.CheckBoot, "boot sector of a FAT"},
		{"file /casper/initrd", 100, iso.CheckFiles, "its MD5 is"},
		{"file /nocloud/user-data", 0, iso.CheckSeed, "not #cloud-config"},
		{"file /nocloud/meta-data", 0, iso.CheckFiles, "its MD5 is"},
		{"file /boot/grub/i386-pc/eltorito.img", 200, iso.CheckBoot, "boot information table is wrong"},
		{"file /boot/grub/i386-pc/eltorito.img", 8, iso.CheckBoot, "boot information table is not about this image"},
		{"file /boot/grub/i386-pc/eltorito.img", 17, iso.CheckBoot, "boot information table is not about this image"},
		{"file /md5sum.txt", 34, iso.CheckFiles, ""},
		{"file /md5sum.txt", 32, iso.CheckFiles, "line 1 is not a checksum and a path"},
	} {
		t.Run(c.meaning, func(t *testing.T) {
			at := find(t, l, c.meaning) + c.at
			b := bytes.Clone(good)
			b[at] ^= 0x04
			faults, err := iso.Verify(t.Context(), bytes.NewReader(b), int64(len(b)), iso.VerifyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(faults, func(f iso.Fault) bool {
				return f.Check == c.check && strings.Contains(f.Message, c.message) && !f.Base
			}) {
				t.Errorf("byte %d damaged: found %v, want %s: …%s…", at, faults, c.check, c.message)
			}
			_, opened := iso.Open(bytes.NewReader(b), int64(len(b)))
			if checked := iso.Check(bytes.NewReader(b), int64(len(b))); (checked == nil) != (opened == nil) {
				t.Errorf("byte %d damaged: Open says %v, and the check of what Remaster makes %v", at, opened, checked)
			}
		})
	}
}

// TestVerifyOverlay wants faults in what was put on the medium, although its
// structure is sound.
func TestVerifyOverlay(t *testing.T) {
	base := isotest.Medium{}.Make(t)
	with := func(edit func(map[string]string)) iso.Overlay {
		f := seed()
		edit(f)
		return iso.Overlay{Files: files(f), Menu: menu}
	}
	bare := strings.ReplaceAll(isotest.GrubCfg, "/casper/vmlinuz  ---", "/casper/vmlinuz autoinstall ds=nocloud;s=/cdrom/nocloud/ ---")
	for _, c := range []struct {
		name    string
		overlay iso.Overlay
		want    []string
	}{
		{"all is well", with(func(map[string]string) {}), nil},
		{"no meta-data", with(func(f map[string]string) { delete(f, "nocloud/meta-data") }),
			[]string{"seed nocloud/meta-data: cannot be read in the whole image", "seed nocloud/meta-data: cannot be read in partition 1"}},
		{"no user-data", with(func(f map[string]string) { delete(f, "nocloud/user-data") }),
			[]string{"seed nocloud/user-data: cannot be read in the whole image", "seed nocloud/user-data: cannot be read in partition 1"}},
		{"empty user-data", with(func(f map[string]string) { f["nocloud/user-data"] = "\n" }),
			[]string{"seed nocloud/user-data: empty in the whole image", "seed nocloud/user-data: empty in partition 1"}},
		{"not cloud-config", with(func(f map[string]string) { f["nocloud/user-data"] = "autoinstall:\n" }),
			[]string{`seed nocloud/user-data: its first line is "autoinstall:"`, `seed nocloud/user-data: its first line is "autoinstall:"`}},
		{"no menu entry", iso.Overlay{Files: files(seed())}, []string{"seed nocloud: no boot entry leads the installer to the seed"}},
		{"unquoted semicolon", iso.Overlay{Files: files(map[string]string{
			"boot/grub/grub.cfg": bare, "nocloud/user-data": seed()["nocloud/user-data"], "nocloud/meta-data": "",
		})}, []string{`boot menu boot/grub/grub.cfg, Try or Install Ubuntu Server: line 8: the kernel sees "ds=nocloud", which names no place`, "seed nocloud: no boot entry leads"}},
		{"the installer asks first", iso.Overlay{Files: files(seed()), Menu: &grubcfg.Menu{Title: "T", KernelArgs: menu.KernelArgs[1:]}}, nil},
		{"kernel gone", iso.Overlay{Remove: []string{"casper/vmlinuz"}},
			[]string{"boot menu boot/grub/grub.cfg, Try or Install Ubuntu Server: line 8: /casper/vmlinuz is not there in the whole image and partition 1",
				"boot menu boot/grub/loopback.cfg, Try or Install Ubuntu Server: line 1: /casper/vmlinuz is not there"}},
		{"menu gone", iso.Overlay{Remove: []string{"boot/grub/grub.cfg"}}, []string{"boot menu boot/grub/grub.cfg: the medium has no boot menu"}},
		{"menu broken", iso.Overlay{Files: files(map[string]string{"boot/grub/grub.cfg": "menuentry 'x' {\n"})},
			[]string{"boot menu boot/grub/grub.cfg: GRUB cannot read it"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			image, _ := remaster(t, base, c.overlay)
			var got []string
			for _, f := range verify(t, image) {
				if !f.Base {
					got = append(got, f.Check+" "+f.Where+": "+f.Message)
				}
			}
			same := len(got) == len(c.want)
			for i := range got {
				same = same && strings.HasPrefix(got[i], c.want[i])
			}
			if !same {
				t.Errorf("faults differ (-want +got):\n%s", cmp.Diff(c.want, got))
			}
		})
	}
}

// TestVerifyBase: a medium's own wrong lines in md5sum.txt are told from damage
// where that can be told.
func TestVerifyBase(t *testing.T) {
	sums := "00000000000000000000000000000000  ./casper/vmlinuz\n" +
		"00000000000000000000000000000000  ./not/there\n" +
		"00000000000000000000000000000000  ./" + patched + "\n" +
		"no line of a checksum\n"
	base := isotest.Medium{NoChecksums: true, Files: map[string]string{md5sum: sums}}.Make(t)
	image, _ := remaster(t, base, iso.Overlay{Files: files(seed()), Menu: menu})
	type found struct {
		Where string
		Base  bool
	}
	for _, c := range []struct {
		name, image string
		want        []found
	}{
		{"base", base, []found{{md5sum, false}, {"casper/vmlinuz", false}, {"not/there", false}, {"not/there", false}, {patched, true}}},
		{"remastered", image, []found{{md5sum, true}, {"casper/vmlinuz", false}, {"not/there", true}, {"not/there", true}, {patched, true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []found
			for _, f := range verify(t, c.image) {
				if f.Check != iso.CheckFiles {
					t.Errorf("%v", f)
				}
				got = append(got, found{f.Where, f.Base})
				told := strings.Contains(f.Message, "remastering left the file and its line alone")
				if want := c.name == "remastered" && f.Where == "casper/vmlinuz"; told != want {
					t.Errorf("%v", f)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("faults differ (-want +got):\n%s", diff)
			}
		})
	}
	text, err := os.ReadFile(extract(t, image) + "/" + md5sum)
	if err != nil || !strings.HasPrefix(string(text), sums) {
		t.Errorf("md5sum.txt is not the base's with lines added: %v\n%s", err, text)
	}
}

// TestVerifyWithBase: with the base at hand, its own wrong lines are told from
// damage.
func TestVerifyWithBase(t *testing.T) {
	sums := "00000000000000000000000000000000  ./casper/vmlinuz\n"
	base := isotest.Medium{NoChecksums: true, Files: map[string]string{md5sum: sums}}.Make(t)
	image, _ := remaster(t, base, iso.Overlay{Files: files(seed()), Menu: menu})
	given, _ := open(t, base)
	good, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		damaged string
		want    []bool // whether each fault is the base's own
	}{
		{"undamaged", "", []bool{true}},
		{"the file damaged too", "casper/vmlinuz", []bool{false, false}}, // by checksum, and beside the base
		{"a good file damaged", "nocloud/user-data", []bool{true, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bytes.Clone(good)
			for _, f := range given.Files() {
				if f.Path == c.damaged {
					b[f.Ranges[0].Offset]++
				}
			}
			if im, _ := open(t, image); c.damaged == "nocloud/user-data" {
				for _, f := range im.Files() {
					if f.Path == c.damaged {
						b[f.Ranges[0].Offset+20]++
					}
				}
			}
			faults, err := iso.Verify(t.Context(), bytes.NewReader(b), int64(len(b)), iso.VerifyOptions{Base: given})
			if err != nil {
				t.Fatal(err)
			}
			var got []bool
			for _, f := range faults {
				got = append(got, f.Base)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%v (-want +got):\n%s", faults, diff)
			}
		})
	}
}

// TestVerifyAgainstBase: damage that no checksum covers shows beside the base.
func TestVerifyAgainstBase(t *testing.T) {
	base := isotest.Medium{}.Make(t)
	image, _ := remaster(t, base, iso.Overlay{Files: files(seed()), Menu: menu})
	given, _ := open(t, base)
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	at := given.Files()[0].Ranges[0].Offset - 1 // in front of the first file's content
	b[at]++
	for _, beside := range []*iso.Image{nil, given} {
		faults, err := iso.Verify(t.Context(), bytes.NewReader(b), int64(len(b)), iso.VerifyOptions{Base: beside})
		if err != nil {
			t.Fatal(err)
		}
		want := beside != nil
		got := slices.ContainsFunc(faults, func(f iso.Fault) bool { return f.Check == iso.CheckBase && f.Offset == at && !f.Base })
		if got != want {
			t.Errorf("with the base %v: %v", want, faults)
		}
	}
}

func TestVerifyRefused(t *testing.T) {
	faults := verify(t, isotest.Medium{Layout: isotest.Isohybrid}.Make(t))
	if len(faults) != 1 || !strings.Contains(faults[0].Message, "isohybrid") {
		t.Errorf("Verify: %v", faults)
	}
}

func TestVerifyStops(t *testing.T) {
	base := isotest.Medium{}.Make(t)
	_, f := open(t, base)
	ctx, cancel := context.WithCancel(t.Context())
	var total int64
	_, err := iso.Verify(ctx, f, size(t, base), iso.VerifyOptions{Progress: func(done, of int64) {
		total = of
		cancel()
	}})
	if !errors.Is(err, context.Canceled) || total == 0 {
		t.Errorf("Verify: %v", err)
	}
	broken := errors.New("bad sector")
	im, _ := open(t, base)
	at := int64(0)
	for _, f := range im.Files() {
		if f.Path == "casper/initrd" {
			at = f.Ranges[0].Offset + 70_000
		}
	}
	_, err = iso.Verify(t.Context(), &badSector{f, at, broken}, size(t, base), iso.VerifyOptions{})
	if !errors.Is(err, broken) {
		t.Errorf("Verify: %v", err)
	}
}

func TestChanges(t *testing.T) {
	base := isotest.Medium{}.Make(t)
	image, l := remaster(t, base, iso.Overlay{
		Files:  files(map[string]string{"casper/vmlinuz": "other", "nocloud/user-data": "#cloud-config\n"}),
		Remove: []string{"casper/initrd"},
	})
	im, _ := open(t, image)
	changes, err := im.Changes()
	if err != nil {
		t.Fatal(err)
	}
	planned, err := l.Changes()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(planned, changes); diff != "" {
		t.Errorf("the plan's changes and the image's differ (-plan +image):\n%s", diff)
	}
	before, _ := open(t, base)
	compared, err := iso.Compare(before, im)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(compared, changes); diff != "" {
		t.Errorf("what Compare finds and what the restore record says differ (-compare +record):\n%s", diff)
	}
	why := map[string]string{}
	for _, c := range changes {
		why[c.Meaning] = c.Why
	}
	for meaning, want := range map[string]string{
		"file /casper/vmlinuz":                        "replaces the base's file, whose content keeps its place",
		"file /nocloud/user-data":                     "added",
		"directory /nocloud (Joliet, partition 1)":    "added",
		"directory /casper (Rock Ridge, whole image)": "lists what was added, replaced, removed or moved",
		"EFI system partition":                        "moved by ",
		"restore record":                              "keeps what was overwritten",
		"master boot record":                          "the first partition is longer",
	} {
		if !strings.HasPrefix(why[meaning], want) {
			t.Errorf("%s: %q, want %q", meaning, why[meaning], want)
		}
	}
	if why["System Area"] != "" || why["file /boot/grub/grub.cfg"] != "" {
		t.Errorf("too much has changed: %v", changes)
	}
	// Every byte outside the changes is the base's.
	a, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		clear(b[c.Offset : c.Offset+c.Length])
		if c.Offset < int64(len(a)) {
			clear(a[c.Offset:min(c.Offset+c.Length, int64(len(a)))])
		}
	}
	if !bytes.Equal(a, b[:len(a)]) {
		t.Error("bytes differ that no change names")
	}
	if none, err := before.Changes(); err != nil || none != nil {
		t.Errorf("changes of a base: %v, %v", none, err)
	}
	if none, err := iso.Compare(before, before); err != nil || none != nil {
		t.Errorf("an image differs from itself: %v, %v", none, err)
	}
}

func TestDescription(t *testing.T) {
	for kind, medium := range map[string]isotest.Medium{"amd64": {}, "arm64": {Layout: isotest.ARM64, NoJoliet: true}} {
		t.Run(kind, func(t *testing.T) {
			base := medium.Make(t)
			image, _ := remaster(t, base, iso.Overlay{
				Files:  files(map[string]string{"casper/vmlinuz": "other", "nocloud/user-data": "#cloud-config\n", ".disk/cd_type": ""}),
				Remove: []string{"casper/initrd"},
			})
			im, _ := open(t, image)
			d := im.Description()
			if d.Architecture != kind || d.VolumeID != "Ubuntu-Server 24.04.2 LTS amd64" || d.Joliet == medium.NoJoliet ||
				d.Info != `Ubuntu-Server 24.04.2 LTS "Noble Numbat" - Release `+kind+" (20250216)" ||
				!d.Remastered || d.BaseSize != size(t, base) || d.Size != size(t, image) {
				t.Errorf("Description: %+v", d)
			}
			if diff := cmp.Diff([][]string{
				{"nocloud/user-data"}, {".disk/cd_type", "casper/vmlinuz", "md5sum.txt"}, {"casper/initrd"},
			}, [][]string{d.Added, d.Replaced, d.Removed}); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			want := []iso.BootEntry{{Platform: "BIOS", Image: patched}, {Platform: "UEFI", Image: "EFI system partition"}}
			table, partitions := "GPT", 3
			if kind == "arm64" {
				want, table, partitions = want[1:], "MBR", 2
			}
			if d.PartitionTable != table || len(d.Partitions) != partitions || len(d.BootEntries) != len(want) {
				t.Fatalf("Description: %+v", d)
			}
			for i, e := range d.BootEntries {
				if e.Platform != want[i].Platform || e.Image != want[i].Image {
					t.Errorf("boot entry %+v, want %+v", e, want[i])
				}
			}
			before, _ := open(t, base)
			if d := before.Description(); d.Remastered || d.Added != nil || d.Files != len(before.Files()) {
				t.Errorf("Description of the base: %+v", d)
			}
		})
	}
}
