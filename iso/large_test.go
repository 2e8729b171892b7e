package iso_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

// largeSize is more than one extent holds, and not whole sectors.
const largeSize = 4<<30 + 300<<20 + 77

// marks are places of a large file that hold a text, the rest being zeros: at its
// ends and around the border of its first extent.
var marks = map[int64]string{
	0:                      "begin",
	0xFFFFF800 - 3:         "border",
	0xFFFFF800 + 5_000:     "behind",
	largeSize - len64(end): end,
}

const end = "the end"

func len64(s string) int64 { return int64(len(s)) }

func makeLarge(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(largeSize); err != nil {
		t.Fatal(err)
	}
	for at, text := range marks {
		if _, err := f.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// writeSparse writes an image without its zeros.
func writeSparse(t *testing.T, l *iso.Layout) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "large.iso"))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1<<20)
	zeros := make([]byte, len(p))
	for off := int64(0); off < l.Size(); off += int64(len(p)) {
		n, err := l.ReadAt(p, off)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if bytes.Equal(p[:n], zeros[:n]) {
			continue
		}
		if _, err := f.WriteAt(p[:n], off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(l.Size()); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// TestLargeFile puts a file of several extents on a medium, and then the seed on a
// medium that has one, so that its metadata lies beyond 4 GiB.
func TestLargeFile(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 4 GiB several times")
	}
	dir := t.TempDir()
	if free(t, dir) < 12<<30 {
		t.Skip("needs 12 GB of disk")
	}
	makeLarge(t, filepath.Join(dir, "large.bin"))
	base := isotest.Medium{}.Make(t)
	im, _ := open(t, base)
	l, err := iso.Remaster(im, iso.Overlay{Files: os.DirFS(dir)})
	if err != nil {
		t.Fatal(err)
	}
	image := writeSparse(t, l)
	checkLarge(t, image)
	checkLarge(t, partition1Sparse(t, image))
	checkPartitions(t, image)
	checkVerify(t, image)
	if sum(t, restore(t, image)) != sum(t, base) {
		t.Error("the restored image is not the original")
	}

	// A genuine medium of that size, made by xorriso of what we made.
	made := filepath.Join(t.TempDir(), "made.iso")
	run(t, "xorriso", "-indev", image, "-outdev", made, "-joliet", "on", "-boot_image", "any", "replay",
		"-volid", "LARGE", "-commit")
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	im, _ = open(t, made)
	l, err = iso.Remaster(im, iso.Overlay{Files: files(seed()), Menu: menu})
	if err != nil {
		t.Fatal(err)
	}
	second := writeSparse(t, l)
	checkLarge(t, second)
	checkVerify(t, second)
	dirs := extractOnly(t, second, "/nocloud")
	if b, err := os.ReadFile(filepath.Join(dirs, "user-data")); err != nil || string(b) != seed()["nocloud/user-data"] {
		t.Errorf("user-data is %q (%v)", b, err)
	}
	out, _ := open(t, second)
	back, err := iso.Restore(out)
	if err != nil {
		t.Fatal(err)
	}
	original, err := os.Open(made)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = original.Close() }()
	if !sameBytes(t, io.NewSectionReader(back, 0, back.Size()), original) {
		t.Error("the restored image is not the original")
	}
}

// checkLarge lets xorriso read the large file around its marks.
func checkLarge(t *testing.T, image string) {
	t.Helper()
	for at, text := range marks {
		from := max(at-100, 0)
		n := min(int64(200), largeSize-from)
		name := filepath.Join(t.TempDir(), "cut")
		out := run(t, "xorriso", "-osirrox", "on", "-indev", image, "-extract_cut", "/large.bin", strconv.FormatInt(from, 10), strconv.FormatInt(n, 10), name)
		if complaint.MatchString(out) {
			t.Errorf("xorriso complains:\n%s", out)
		}
		want := make([]byte, n)
		copy(want[at-from:], text)
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("at byte %d xorriso reads %q (%v), want %q", from, bytes.Trim(got, "\x00"), err, text)
		}
	}
}

// extractOnly lets xorriso unpack one directory.
func extractOnly(t *testing.T, image, path string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "x")
	run(t, "xorriso", "-osirrox", "on", "-indev", image, "-extract", path, dir)
	return dir
}

// partition1Sparse cuts the first partition out without its zeros.
func partition1Sparse(t *testing.T, image string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "partition1.iso")
	run(t, "dd", "if="+image, "of="+name, "bs=32768", "skip=1", "conv=sparse", "status=none")
	return name
}

func sameBytes(t *testing.T, a, b io.Reader) bool {
	t.Helper()
	p, q := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, errA := io.ReadFull(a, p)
		m, errB := io.ReadFull(b, q)
		if !bytes.Equal(p[:n], q[:m]) {
			return false
		}
		if errA != nil || errB != nil {
			return errA == errB
		}
	}
}
