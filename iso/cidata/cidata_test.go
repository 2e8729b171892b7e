package cidata_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kdomanski/iso9660"
	"pgregory.net/rapid"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/iso/cidata"
)

var date = time.Date(2025, 8, 5, 22, 49, 22, 0, time.UTC)

const userData = "#cloud-config\nhostname: node01\nusers:\n  - name: ops\n    shell: /bin/bash\nruncmd:\n  - [echo, 'ready; $HOME']\n"

// seed is what gpustrap renders, in form and size.
func seed() fstest.MapFS {
	return fstest.MapFS{
		"user-data":      {Data: []byte(userData + "# " + strings.Repeat("padding ", 5000) + "\n")},
		"meta-data":      {Data: []byte("instance-id: node01-0123456789abcdef\nlocal-hostname: node01\n")},
		"vendor-data":    {Data: []byte{}},
		"network-config": {Data: []byte("version: 2\nethernets: {}\n")},
	}
}

func write(t testing.TB, files fs.FS) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := cidata.Write(&b, files, date); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// imageFile writes the seed's image to a file.
func imageFile(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "seed.iso")
	if err := os.WriteFile(name, write(t, seed()), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func run(t testing.TB, tool string, args ...string) string {
	t.Helper()
	out, err := exec.Command(oracle.Need(t, tool), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", tool, args, err, out)
	}
	return string(out)
}

func TestSameBytes(t *testing.T) {
	first := write(t, seed())
	t.Setenv("TMPDIR", t.TempDir())
	time.Sleep(20 * time.Millisecond)
	if !bytes.Equal(first, write(t, seed())) {
		t.Error("two images of one seed differ")
	}
	var other bytes.Buffer
	if err := cidata.Write(&other, seed(), date.In(time.FixedZone("", 3600)).Add(500*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, other.Bytes()) {
		t.Error("the image depends on the time zone or on fractions of a second")
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	write(t, seed())
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the temporary folder holds %v, %v", left, err)
	}
}

func TestBlkid(t *testing.T) {
	got := run(t, "blkid", "-p", "-o", "export", imageFile(t))
	for _, want := range []string{"LABEL=cidata\n", "TYPE=iso9660\n", "UUID=2025-08-05-22-49-22-00\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("blkid has no %q in\n%s", want, got)
		}
	}
}

func TestXorrisoReadsIt(t *testing.T) {
	image, dir := imageFile(t), t.TempDir()
	out := run(t, "xorriso", "-report_about", "NOTE", "-abort_on", "WARNING", "-osirrox", "on:auto_chmod_off", "-indev", image,
		"-pvd_info", "-extract", "/", filepath.Join(dir, "x"))
	for _, bad := range []string{"WARNING", "SORRY", "FAILURE"} {
		if strings.Contains(out, bad) {
			t.Errorf("xorriso complains:\n%s", out)
		}
	}
	for _, want := range []string{"Volume Id    : cidata", "Creation Time: 2025080522492200"} {
		if !strings.Contains(out, want) {
			t.Errorf("xorriso has no %q in\n%s", want, out)
		}
	}
	for name, file := range seed() {
		got, err := os.ReadFile(filepath.Join(dir, "x", name))
		if err != nil || !bytes.Equal(got, file.Data) {
			t.Errorf("%s differs: %v", name, err)
		}
	}
}

func TestIsoinfoReadsIt(t *testing.T) {
	image := imageFile(t)
	for name, file := range seed() {
		if got := run(t, "isoinfo", "-i", image, "-x", "/"+name+";1"); got != string(file.Data) {
			t.Errorf("isoinfo has %d bytes of %s, want %d", len(got), name, len(file.Data))
		}
	}
	// isoinfo -p prints the path table, which the library alone would not write.
	if got := run(t, "isoinfo", "-i", image, "-p"); !strings.Contains(got, "1:") {
		t.Errorf("isoinfo finds no path table:\n%s", got)
	}
	if got := run(t, "isoinfo", "-i", image, "-l"); !strings.Contains(got, "Aug  5 2025") {
		t.Errorf("isoinfo does not show the date:\n%s", got)
	}
}

// cloudInitScript runs cloud-init's own NoCloud data source on an image. The data
// source asks blkid for a device with the label and mounts it; this machine need
// have neither a device nor the file system, so a blkid and a mount of ours stand
// first on the PATH: the one asks the real blkid about the file, the other
// extracts it with xorriso.
const cloudInitScript = `
import json, sys
from cloudinit import helpers, temp_utils, util
from cloudinit.sources import DataSourceNoCloud
temp_utils.get_tmp_ancestor = lambda *a, **k: sys.argv[1] + "/tmp"
util.get_cmdline = lambda: ""
DataSourceNoCloud.dmi.read_dmi_data = lambda key: None
paths = helpers.Paths({"cloud_dir": sys.argv[1] + "/cloud", "run_dir": sys.argv[1] + "/run"})
ds = DataSourceNoCloud.DataSourceNoCloud({}, None, paths)
found = ds._get_data()
text = lambda b: b.decode() if isinstance(b, bytes) else b
if found:
    ds.metadata.pop("dsmode", None)
json.dump({"found": found, "seed": ds.seed if found else "", "user-data": text(ds.userdata_raw), "meta-data": ds.metadata if found else None,
    "vendor-data": text(ds.vendordata_raw), "network-config": ds.network_config if found else None}, sys.stdout)
`

const blkidShim = `#!/bin/sh
for a; do case $a in -t*) want=${a#-t} ;; esac; done
got=$("$REAL_BLKID" -p -s "${want%%=*}" -o value "$IMAGE")
[ "$got" = "${want#*=}" ] && echo "$IMAGE"
exit 0
`

const mountShim = `#!/bin/sh
for a; do device=$target target=$a; done
exec xorriso -osirrox on:auto_chmod_off -indev "$device" -extract / "$target" >/dev/null 2>&1
`

const umountShim = "#!/bin/sh\nfor a; do target=$a; done\nfind \"$target\" -mindepth 1 -delete\n"

// cloudInit returns what cloud-init's NoCloud data source makes of the image.
func cloudInit(t *testing.T, image string) map[string]any {
	t.Helper()
	program := oracle.Need(t, "cloud-init")
	blkid := oracle.Need(t, "blkid")
	oracle.Need(t, "xorriso")
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	shebang, _, _ := strings.Cut(string(text), "\n")
	python := strings.Fields(strings.TrimPrefix(shebang, "#!"))[0]

	dir := t.TempDir()
	for name, shim := range map[string]string{"blkid": blkidShim, "mount": mountShim, "umount": umountShim} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(shim), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, sub := range []string{"tmp", "cloud", "run"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(python, "-c", cloudInitScript, dir)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "IMAGE="+image, "REAL_BLKID="+blkid)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cloud-init: %v\n%s", err, stderr.String())
	}
	var got map[string]any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("cloud-init printed %q: %v", out, err)
	}
	return got
}

func TestCloudInitReadsIt(t *testing.T) {
	image := imageFile(t)
	got := cloudInit(t, image)
	files := seed()
	want := map[string]any{
		"found": true, "seed": image,
		"user-data":   string(files["user-data"].Data),
		"vendor-data": "",
		"meta-data": map[string]any{
			"instance-id": "node01-0123456789abcdef", "local-hostname": "node01",
		},
		"network-config": map[string]any{"version": 2.0, "ethernets": map[string]any{}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cloud-init's NoCloud data source (-want +got):\n%s", diff)
	}
}

// TestCloudInitIgnoresOthers shows that the test above can fail: with another
// label, cloud-init finds no seed.
func TestCloudInitIgnoresOthers(t *testing.T) {
	image := imageFile(t)
	text, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	copy(text[16*2048+40:], "nodata")
	if err := os.WriteFile(image, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := cloudInit(t, image); got["found"] != false {
		t.Errorf("cloud-init took a volume without the label: %v", got)
	}
}

func TestCloudInitSchema(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "user-data")
	image, err := iso9660.OpenImage(bytes.NewReader(write(t, seed())))
	if err != nil {
		t.Fatal(err)
	}
	text, ok := filesOf(t, image)["user-data"]
	if !ok {
		t.Fatal("no user-data")
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "cloud-init", "schema", "--config-file", name); !strings.Contains(out, "Valid cloud-config") {
		t.Errorf("cloud-init schema: %s", out)
	}
}

func filesOf(t testing.TB, image *iso9660.Image) map[string][]byte {
	t.Helper()
	root, err := image.RootDir()
	if err != nil {
		t.Fatal(err)
	}
	children, err := root.GetChildren()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, c := range children {
		var b bytes.Buffer
		if _, err := b.ReadFrom(c.Reader()); err != nil {
			t.Fatal(err)
		}
		files[c.Name()] = b.Bytes()
		if !c.ModTime().Equal(date) {
			t.Errorf("%s has the date %v, want %v", c.Name(), c.ModTime(), date)
		}
	}
	return files
}

// TestAnySeed writes random seeds and reads them with the library's reader.
func TestAnySeed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		contents := rapid.MapOfN(
			rapid.StringMatching(`[a-z0-9_-]{1,19}(\.[a-z0-9_-]{1,8})?`),
			rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 100), rapid.SliceOfN(rapid.Byte(), 2000, 4200)),
			0, 26).Draw(rt, "files")
		contents["user-data"] = rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(rt, "user-data")
		contents["meta-data"] = nil
		files := fstest.MapFS{}
		for name, text := range contents {
			files[name] = &fstest.MapFile{Data: text}
		}
		raw := write(t, files)
		image, err := iso9660.OpenImage(bytes.NewReader(raw))
		if err != nil {
			rt.Fatal(err)
		}
		got := filesOf(t, image)
		if !maps.EqualFunc(got, contents, bytes.Equal) {
			rt.Fatalf("files %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(contents)))
		}
	})
}

// TestPaddingIsZero: the library's writer fills a last sector with what the one
// before held.
func TestPaddingIsZero(t *testing.T) {
	files := seed()
	files["user-data"].Data = bytes.Repeat([]byte{'s'}, 2049)
	if n := bytes.Count(write(t, files), []byte{'s'}); n > 2049+200 {
		t.Errorf("the image has %d of the 2049 bytes of user-data: the padding holds a copy", n)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestRefuses(t *testing.T) {
	with := func(name string, file *fstest.MapFile) fs.FS {
		files := seed()
		files[name] = file
		return files
	}
	without := func(name string) fs.FS {
		files := seed()
		delete(files, name)
		return files
	}
	many := seed()
	for i := range 30 {
		many[fmt.Sprintf("f%d", i)] = &fstest.MapFile{}
	}
	tests := []struct {
		name  string
		files fs.FS
		date  time.Time
		want  string
	}{
		{"no user-data", without("user-data"), date, "user-data is missing"},
		{"no meta-data", without("meta-data"), date, "meta-data is missing"},
		{"a folder", with("scripts/a", &fstest.MapFile{}), date, "scripts is a folder"},
		{"upper case", with("README", &fstest.MapFile{}), date, "README has a name that plain ISO 9660 cannot hold"},
		{"two dots", with("a.b.c", &fstest.MapFile{}), date, "a.b.c has a name"},
		{"a long name", with(strings.Repeat("a", 20), &fstest.MapFile{}), date, "has a name"},
		{"too many", many, date, "has 34 files"},
		{"an impossible date", seed(), time.Date(1899, 1, 1, 0, 0, 0, 0, time.UTC), "the year 1899"},
		{"no folder", os.DirFS("testdata/none"), date, "cannot read the seed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			err := cidata.Write(&b, tt.files, tt.date)
			if err == nil || !strings.Contains(err.Error(), tt.want) || b.Len() > 0 {
				t.Errorf("Write wrote %d bytes and returned %v, want nothing and an error with %q", b.Len(), err, tt.want)
			}
		})
	}
	if err := cidata.Write(failingWriter{}, seed(), date); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("Write to a full device returned %v", err)
	}
}
