package usb

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// readTree reads a machine's records from a fixture: "path = content", with \n and
// \t in it, "path -> target of a link", or "path/" for an empty folder.
func readTree(t testing.TB, name string) System {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	unescape := strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\\`, `\`)
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if path, target, ok := strings.Cut(line, " -> "); ok {
			files[path] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
		} else if path, content, ok := strings.Cut(line, " ="); ok {
			files[path] = &fstest.MapFile{Data: []byte(unescape.Replace(strings.TrimPrefix(content, " ")) + "\n")}
		} else if path, ok := strings.CutSuffix(line, "/"); ok {
			files[path] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
		} else {
			t.Fatalf("%s: cannot read the line %q", name, line)
		}
	}
	return System{FS: files}
}

// TestMachines lists the devices of real kinds of machine, and holds which are
// refused and why.
func TestMachines(t *testing.T) {
	trees, err := filepath.Glob("testdata/machines/*.tree")
	if err != nil || len(trees) == 0 {
		t.Fatal("no fixtures", err)
	}
	for _, tree := range trees {
		t.Run(strings.TrimSuffix(filepath.Base(tree), ".tree"), func(t *testing.T) {
			devices, err := readTree(t, tree).List()
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			for _, d := range devices {
				fmt.Fprintf(&out, "%s, %d bytes, %s, removable %v, number %s\n", &d, d.Size, d.Bus, d.Removable, d.Number)
				for _, c := range d.Contents() {
					fmt.Fprintf(&out, "  on it: %s\n", c)
				}
				for _, u := range d.Uses {
					fmt.Fprintf(&out, "  use: %s\n", u)
				}
				if r := Refuse(&d, Request{Size: 3 << 30}); r != nil {
					fmt.Fprintf(&out, "  refused (%s): %s\n", r.Reason, r)
				} else {
					fmt.Fprintf(&out, "  may be written\n")
				}
				if r := Refuse(&d, Request{Size: 3 << 30, AllowFixed: true}); r == nil && !d.Removable && d.Bus != BusUSB {
					fmt.Fprintf(&out, "  may be written with --allow-fixed\n")
				}
			}
			golden := strings.TrimSuffix(tree, ".tree") + ".devices"
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), out.String()); diff != "" {
				t.Error(diff)
			}
			if _, err := json.Marshal(devices); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFind(t *testing.T) {
	s := readTree(t, "testdata/machines/laptop-usb-stick.tree")
	for number, want := range map[string]string{"8:16": "sdb ", "8:17": "sdb sdb1", "259:3": "nvme0n1 nvme0n1p3"} {
		d, partition, err := s.Find(number)
		if got := d.Name + " " + partition; err != nil || got != want {
			t.Errorf("%s is %q, %v", number, got, err)
		}
	}
	if _, _, err := s.Find("99:1"); err == nil {
		t.Error("found a device that is not there")
	}
}

// TestUnreadableRecords takes single records away: what cannot be judged is
// refused.
func TestUnreadableRecords(t *testing.T) {
	const sdb = "sys/devices/pci0000:00/0000:00:14.0/usb2/2-2/2-2:1.0/host7/target7:0:0/7:0:0:0/block/sdb"
	whole := readTree(t, "testdata/machines/laptop-usb-stick.tree")
	find := func(s System) Device {
		t.Helper()
		devices, err := s.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range devices {
			if d.Name == "sdb" {
				return d
			}
		}
		t.Fatal("no sdb")
		return Device{}
	}
	if d := find(whole); Refuse(&d, Request{}) != nil {
		t.Fatalf("the whole record: %v", Refuse(&d, Request{}))
	}
	for _, path := range []string{
		"proc/self/mountinfo", sdb + "/dev", sdb + "/size", sdb + "/ro", sdb + "/removable",
		sdb + "/queue/logical_block_size", sdb + "/holders", sdb + "/sdb1/holders", sdb + "/sdb1/dev",
		"sys/devices/virtual/block/dm-1/holders",
	} {
		files := fstest.MapFS{}
		for name, file := range whole.FS.(fstest.MapFS) {
			if name != path && !strings.HasPrefix(name, path+"/") {
				files[name] = file
			}
		}
		d := find(System{FS: files})
		if r := Refuse(&d, Request{AllowFixed: true}); r == nil || r.Reason != ReasonUnknown {
			t.Errorf("without %s: %v", path, r)
		}
	}
}

// unreadable makes a folder of a machine's records fail to be read.
type unreadable struct {
	fs.FS
	folder string
}

func (u unreadable) Open(name string) (fs.File, error) {
	if name == u.folder {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return u.FS.Open(name)
}
func (u unreadable) ReadLink(name string) (string, error)   { return fs.ReadLink(u.FS, name) }
func (u unreadable) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(u.FS, name) }

// TestUnreadableBtrfs holds that a btrfs that may not be looked at is not taken for
// one that is not there.
func TestUnreadableBtrfs(t *testing.T) {
	whole := readTree(t, "testdata/machines/storage-raid.tree")
	for _, folder := range []string{"sys/fs/btrfs", "sys/fs/btrfs/3b1f2a52-0c9b-4e0e-8f0e-1f6f5f3b2a10/devices"} {
		if _, err := fs.ReadDir(whole.FS, folder); err != nil {
			t.Fatal(err)
		}
		devices, err := System{FS: unreadable{whole.FS, folder}}.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range devices {
			if Refuse(&d, Request{AllowFixed: true}) == nil {
				t.Errorf("without %s, %s passes", folder, d.Name)
			}
		}
	}
}

// TestMountPoints holds that the name of a mount point hides nothing, not the mount
// itself nor what comes behind it.
func TestMountPoints(t *testing.T) {
	whole := readTree(t, "testdata/machines/laptop-usb-stick.tree")
	for _, where := range []string{"/a\u00a0-\u00a0b", "/a\u2003-\u2003ext4", "/-", "/\\040-\\040", "/\x85-\x0b- btrfs"} {
		files := fstest.MapFS{}
		for name, file := range whole.FS.(fstest.MapFS) {
			files[name] = file
		}
		where = strings.ReplaceAll(where, " ", `\040`)
		table := "9 1 8:17 / " + where + " rw,relatime shared:3 - ext4 /dev/sdb1 rw\n" + string(files["proc/self/mountinfo"].Data)
		files["proc/self/mountinfo"] = &fstest.MapFile{Data: []byte(table)}
		for number, want := range map[string]Reason{"8:16": ReasonMounted, "259:0": ReasonSystem} {
			d, _, err := System{FS: files}.Find(number)
			if err != nil {
				t.Fatal(err)
			}
			if r := Refuse(&d, Request{AllowFixed: true}); r == nil || r.Reason != want {
				t.Errorf("mounted at %q: %s is refused: %v", where, d.Name, r)
			}
		}
	}
}

// TestOtherPath holds that a disk that is reached by two paths, and in use by one of
// them, passes by neither.
func TestOtherPath(t *testing.T) {
	whole := readTree(t, "testdata/machines/laptop-usb-stick.tree")
	const nvme = "sys/devices/pci0000:00/0000:00:1d.0/0000:04:00.0/nvme/nvme0/nvme0n1"
	const sdb = "sys/devices/pci0000:00/0000:00:14.0/usb2/2-2/2-2:1.0/host7/target7:0:0/7:0:0:0/block/sdb"
	size := string(whole.FS.(fstest.MapFS)[nvme+"/size"].Data)
	for _, test := range []struct {
		name, wwid, size string
		want             Reason
	}{
		{"same", "eui.0025385b11b2c3d4", size, ReasonHeld},
		{"another", "eui.0025385b11b2c3d5", size, ""},
		{"none", "", size, ""},
		{"same name, another length", "eui.0025385b11b2c3d4", "2048", ""},
	} {
		files := fstest.MapFS{}
		for name, file := range whole.FS.(fstest.MapFS) {
			files[name] = file
		}
		wwid := "eui.0025385b11b2c3d4"
		if test.wwid == "" {
			wwid = ""
		}
		files[nvme+"/wwid"] = &fstest.MapFile{Data: []byte(wwid + "\n")}
		files[sdb+"/device/wwid"] = &fstest.MapFile{Data: []byte(test.wwid + "\n")}
		files[sdb+"/size"] = &fstest.MapFile{Data: []byte(test.size)}
		d, _, err := System{FS: files}.Find("8:16")
		if err != nil {
			t.Fatal(err)
		}
		got := Reason("")
		if r := Refuse(&d, Request{AllowFixed: true}); r != nil {
			got = r.Reason
			if want := "/dev/sdb is in use: sdb is another path to the disk nvme0n1, and nvme0n1p1 is mounted at /boot/efi"; r.Sentence != want {
				t.Errorf("%s: %s", test.name, r.Sentence)
			}
		}
		if got != test.want {
			t.Errorf("%s: %q", test.name, got)
		}
	}
}

func TestRefuseRequests(t *testing.T) {
	s := readTree(t, "testdata/machines/laptop-usb-stick.tree")
	sdb, _, err := s.Find("8:16")
	if err != nil {
		t.Fatal(err)
	}
	same, other := sdb.Identity(), sdb.Identity()
	other.Sequence++
	denied := func(string) error { return os.ErrPermission }
	for _, test := range []struct {
		name    string
		request Request
		want    Reason
	}{
		{"nothing asked", Request{}, ""},
		{"fits exactly", Request{Size: sdb.Size}, ""},
		{"one byte too many", Request{Size: sdb.Size + 1}, ReasonSmall},
		{"the same device", Request{Expected: &same}, ""},
		{"another stick under its name", Request{Expected: &other}, ReasonChanged},
		{"the image on its partition", Request{Sources: []string{"0:99", "8:17"}}, ReasonSource},
		{"the image is the device", Request{Sources: []string{"8:16"}}, ReasonSource},
		{"the image elsewhere", Request{Sources: []string{"8:1"}}, ""},
		{"no rights", Request{Access: denied}, ReasonRights},
	} {
		got := Reason("")
		if r := Refuse(&sdb, test.request); r != nil {
			got = r.Reason
		}
		if got != test.want {
			t.Errorf("%s: %q", test.name, got)
		}
	}
	loop := Device{Name: "loop3", Path: "/dev/loop3", Number: "7:3", Backing: "/srv/gpu.iso", Size: 1 << 30, SectorSize: 512, kind: kindDisk, Bus: BusLoop}
	if r := Refuse(&loop, Request{SourceFile: "/srv/gpu.iso", AllowFixed: true}); r == nil || r.Reason != ReasonSource {
		t.Errorf("a loop device over the image: %v", r)
	}
	if r := RefusePartition(&sdb, "sdb1"); r.Hint() != "name /dev/sdb" {
		t.Error(r.Hint())
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"  Ultra \t Fit ": "Ultra Fit", "a\u202Egnp.\u202Cb": "agnp.b", "x\x1b[31m\x00y": "x[31my", "\xff\xfeok": "ok", "Größe": "Größe",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q becomes %q", in, got)
		}
	}
}

func TestUnescape(t *testing.T) {
	if got := unescape(`Ubuntu\x20Server \x2`); got != `Ubuntu Server \x2` {
		t.Errorf("%q", got)
	}
	if got := unescapeOctal(`/media/a\040b\134c\04`); got != `/media/a b\c\04` {
		t.Errorf("%q", got)
	}
}
