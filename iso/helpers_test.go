package iso_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

// media are the kinds of medium that most tests run on; two of them in a short run.
func media() map[string]isotest.Medium {
	all := map[string]isotest.Medium{
		"amd64": {},
		"arm64": {Layout: isotest.ARM64},
	}
	if !testing.Short() {
		all["no Joliet"] = isotest.Medium{NoJoliet: true}
		all["tags"] = isotest.Medium{Tags: true}
		all["RRIP 1.12"] = isotest.Medium{NewRockRidge: true}
	}
	return all
}

// open opens an image file that stays open as long as the test.
func open(t testing.TB, name string) (*iso.Image, *os.File) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := iso.Open(f, info.Size())
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return im, f
}

// remaster writes the image with an overlay on it and returns its name.
func remaster(t testing.TB, base string, o iso.Overlay) (string, *iso.Layout) {
	t.Helper()
	im, _ := open(t, base)
	l, err := iso.Remaster(im, o)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, l), l
}

// restore writes the original of a remastered image and returns its name.
func restore(t testing.TB, image string) string {
	t.Helper()
	im, _ := open(t, image)
	l, err := iso.Restore(im)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, l)
}

// write writes an image without waiting for the disk, as WriteFile does.
func write(t testing.TB, l *iso.Layout) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out.iso"))
	if err != nil {
		t.Fatal(err)
	}
	if err := iso.WriteTo(context.Background(), l, f, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// files makes an overlay of texts by path.
func files(texts map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range texts {
		m[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o600}
	}
	return m
}

// seed is a small overlay, as remastering for one machine makes it.
func seed() map[string]string {
	return map[string]string{
		"nocloud/user-data": "#cloud-config\nautoinstall: {version: 1}\n",
		"nocloud/meta-data": "instance-id: node01\n",
	}
}

func sum(t testing.TB, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// run runs a foreign tool and returns what it wrote.
func run(t testing.TB, tool string, args ...string) string {
	t.Helper()
	cmd := exec.Command(oracle.Need(t, tool), args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", tool, args, err, out)
	}
	return string(out)
}

var complaint = regexp.MustCompile(`SORRY|WARNING|FAILURE|MISHAP|FATAL|HINT`)

// extract lets xorriso unpack an image and returns the directory. Any complaint of
// xorriso's fails the test.
func extract(t testing.TB, image string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "x")
	out := run(t, "xorriso", "-osirrox", "on", "-indev", image, "-extract", "/", dir)
	if complaint.MatchString(out) {
		t.Errorf("xorriso complains about %s:\n%s", image, out)
	}
	return dir
}

// partition1 cuts the first partition out of an image and returns its name.
func partition1(t testing.TB, image string) string {
	t.Helper()
	im, f := open(t, image)
	p := im.Description().Partitions
	i := slices.IndexFunc(p, func(p iso.PartitionInfo) bool { return strings.HasPrefix(p.Meaning, "ISO 9660") })
	name := filepath.Join(t.TempDir(), "partition1.iso")
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, io.NewSectionReader(f, p[i].Offset, p[i].Length)); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// entry is a file in a listing: its kind, and its content's hash or its target.
type entry string

// listing describes all of a file system.
func listing(t testing.TB, fsys fs.FS) map[string]entry {
	t.Helper()
	all := map[string]entry{}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		switch {
		case d.IsDir():
			all[p] = "directory"
		case d.Type()&fs.ModeSymlink != 0:
			target, err := fs.ReadLink(fsys, p)
			if err != nil {
				return err
			}
			all[p] = entry("-> " + target)
		default:
			b, err := fs.ReadFile(fsys, p)
			if err != nil {
				return err
			}
			all[p] = contentEntry(b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func contentEntry(b []byte) entry {
	return entry(fmt.Sprintf("%d bytes %x", len(b), sha256.Sum256(b)))
}

// apply is the model of what remastering does to a listing.
func apply(t testing.TB, base map[string]entry, o iso.Overlay) map[string]entry {
	t.Helper()
	want := without(base, o.Remove)
	if o.Files != nil {
		for p, e := range listing(t, o.Files) {
			want[p] = e
			for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
				want[dir] = "directory"
			}
		}
	}
	return want
}

// without is a listing less some paths and all below them.
func without(base map[string]entry, removed []string) map[string]entry {
	left := maps.Clone(base)
	for _, r := range removed {
		for p := range base {
			if p == r || strings.HasPrefix(p, r+"/") {
				delete(left, p)
			}
		}
	}
	return left
}

// checkMedium asks foreign tools about a remastered image: the files of all views
// must be those wanted, md5sum.txt must be true, and the partitions sound.
func checkMedium(t testing.TB, base, image string, o iso.Overlay) {
	t.Helper()
	want := apply(t, listing(t, os.DirFS(extract(t, base))), o)
	for name, view := range map[string]string{"whole image": image, "partition 1": partition1(t, image)} {
		dir := extract(t, view)
		got := listing(t, os.DirFS(dir))
		want[md5sum] = got[md5sum] // checked by content
		for _, c := range bootCatalogues {
			if _, ok := got[c]; ok {
				want[c] = got[c] // xorriso and Verify check where it leads
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: files differ (-want +got):\n%s", name, diff)
		}
		if _, err := os.Stat(filepath.Join(dir, md5sum)); err == nil {
			checkSums(t, dir)
		}
		checkJoliet(t, view, got)
	}
	checkPartitions(t, image)
	im, _ := open(t, image)
	if diff := cmp.Diff(listing(t, im.FS()), listing(t, im.PartitionFS())); diff != "" {
		t.Errorf("our own two views differ:\n%s", diff)
	}
	checkVerify(t, image, iso.CheckMenu, iso.CheckSeed)
}

const md5sum = "md5sum.txt"

// bootCatalogues are the paths of the boot catalogue on the kinds of medium.
var bootCatalogues = []string{"boot.catalog", "boot/boot.cat"}

// checkVerify fails for every fault that Verify finds, but for those of the base and
// those of some checks.
func checkVerify(t testing.TB, image string, but ...string) {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	faults, err := iso.Verify(context.Background(), f, info.Size(), iso.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		if !fault.Base && !slices.Contains(but, fault.Check) {
			t.Errorf("Verify: %v", fault)
		}
	}
}

// patched are files that the medium's maker changes after md5sum.txt is made.
const patched = "boot/grub/i386-pc/eltorito.img"

// checkSums runs md5sum -c over an unpacked medium and makes sure that the list is
// complete.
func checkSums(t testing.TB, dir string) {
	t.Helper()
	cmd := exec.Command(oracle.Need(t, "md5sum"), "--check", "--quiet", md5sum)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, _ := cmd.CombinedOutput() // fails for the patched file
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "./"+patched+":") && !strings.Contains(line, "1 computed checksum did NOT match") {
			t.Errorf("md5sum --check: %s", line)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, md5sum))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		name := path.Clean(strings.TrimSuffix(line[34:], "\n"))
		if listed[name] {
			t.Errorf("md5sum.txt lists %s twice", name)
		}
		listed[name] = true
	}
	for name, e := range listing(t, os.DirFS(dir)) {
		special := name == md5sum || slices.Contains(bootCatalogues, name)
		if isFile := e != "directory" && !strings.HasPrefix(string(e), "->"); isFile && !special && !listed[name] {
			t.Errorf("md5sum.txt does not list %s", name)
		}
	}
}

// checkJoliet compares the names that isoinfo finds in the Joliet tree with those
// of the Rock Ridge tree.
func checkJoliet(t testing.TB, image string, files map[string]entry) {
	t.Helper()
	if out := run(t, "isoinfo", "-d", "-i", image); !strings.Contains(out, "Joliet with UCS level 3 found") {
		return
	}
	// isoinfo takes names as Latin-1 here and cuts long ones, so only plain ones
	// are compared by name, the others by number.
	var want, got []string
	others := 0
	plain := regexp.MustCompile(`^[ -~]{1,60}$`)
	for name, e := range files {
		if strings.HasPrefix(string(e), "->") {
			continue
		}
		if plainPath(plain, name) && !strings.ContainsAny(name, `*:;?\`) {
			want = append(want, name)
		} else {
			others++
		}
	}
	cmd := exec.Command(oracle.Need(t, "isoinfo"), "-J", "-f", "-i", image)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("isoinfo: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		name := strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "/")
		name = strings.TrimSuffix(name, ";1")
		if _, ok := files[name]; ok && plainPath(plain, name) {
			got = append(got, name)
		} else {
			others--
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" || others != 0 {
		t.Errorf("isoinfo -J lists other files (-Rock Ridge +Joliet), %d more or fewer with other names:\n%s", others, diff)
	}
}

func plainPath(plain *regexp.Regexp, p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		if !plain.MatchString(part) {
			return false
		}
	}
	return true
}

// checkPartitions asks sgdisk and fsck.fat.
func checkPartitions(t testing.TB, image string) {
	t.Helper()
	im, f := open(t, image)
	d := im.Description()
	if d.PartitionTable == "GPT" {
		if out := run(t, "sgdisk", "--verify", image); !strings.Contains(out, "No problems found") {
			t.Errorf("sgdisk --verify:\n%s", out)
		}
	}
	for _, p := range d.Partitions {
		if p.Meaning != "EFI system partition" {
			continue
		}
		b := make([]byte, p.Length)
		if _, err := f.ReadAt(b, p.Offset); err != nil {
			t.Fatal(err)
		}
		esp := filepath.Join(t.TempDir(), "esp.img")
		if err := os.WriteFile(esp, b, 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "fsck.fat", "-n", esp)
	}
}

// report is what xorriso says of an image's boot structures, without the numbers
// that differ between an image and its remaster.
func report(t testing.TB, image string) string {
	t.Helper()
	out, err := exec.Command(oracle.Need(t, "xorriso"), "-indev", image,
		"-report_system_area", "plain", "-report_el_torito", "plain").Output()
	if err != nil {
		t.Fatalf("xorriso: %v", err)
	}
	var b bytes.Buffer
	number := regexp.MustCompile(` +\d+$|(lba range|start and size|image size/512|MBR partition {6}).*`)
	for line := range strings.Lines(string(out)) {
		fmt.Fprintln(&b, number.ReplaceAllString(strings.TrimSpace(line), ""))
	}
	return b.String()
}
