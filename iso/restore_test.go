package iso_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

func TestRestoreOfBase(t *testing.T) {
	im, _ := open(t, isotest.Medium{}.Make(t))
	_, err := iso.Restore(im)
	var refused *iso.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "no restore record") {
		t.Errorf("Restore: %v", err)
	}
	if im.Remastered() {
		t.Error("an untouched medium counts as remastered")
	}
}

// TestDevice follows a medium on a USB device: the device is longer, and casper
// adds a partition behind the medium, with sfdisk, when it boots.
func TestDevice(t *testing.T) {
	sfdisk := oracle.Need(t, "sfdisk")
	for kind, medium := range map[string]isotest.Medium{"amd64": {}, "arm64": {Layout: isotest.ARM64}} {
		t.Run(kind, func(t *testing.T) {
			base := medium.Make(t)
			image, _ := remaster(t, base, iso.Overlay{Files: files(seed())})
			length := size(t, image)
			grow(t, image, 200<<20)
			im, _ := open(t, image)
			if im.Size() != length {
				t.Errorf("the medium on a longer device has %d bytes, want %d", im.Size(), length)
			}
			if sum(t, restore(t, image)) != sum(t, base) {
				t.Error("restored from a longer device, the image is not the original")
			}
			cmd := exec.Command(sfdisk, "--no-reread", "--append", image)
			cmd.Stdin = strings.NewReader("size=100MiB\n")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("sfdisk: %v\n%s", err, out)
			}
			im, _ = open(t, image)
			if im.Size() != length {
				t.Errorf("with a partition added the medium has %d bytes, want %d", im.Size(), length)
			}
			if sum(t, restore(t, image)) != sum(t, base) {
				t.Error("restored with a partition added, the image is not the original")
			}
			again, _ := remaster(t, image, iso.Overlay{Files: files(seed())})
			direct, _ := remaster(t, base, iso.Overlay{Files: files(seed())})
			if sum(t, again) != sum(t, direct) {
				t.Error("remastered with a partition added, the image differs")
			}
			faults := verify(t, image)
			if len(faults) == 0 || faults[0].Check != iso.CheckPartitions || !strings.Contains(faults[0].Message, "was added behind the medium") {
				t.Errorf("Verify does not name the added partition: %v", faults)
			}
		})
	}
}

// TestDeviceOfBase: without a restore record an added partition is refused.
func TestDeviceOfBase(t *testing.T) {
	sfdisk := oracle.Need(t, "sfdisk")
	base := isotest.Medium{}.Make(t)
	grow(t, base, 200<<20)
	cmd := exec.Command(sfdisk, "--no-reread", "--append", base)
	cmd.Stdin = strings.NewReader("size=100MiB\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	wantRefused(t, base, "was added behind the medium")
}

func TestDamagedRecord(t *testing.T) {
	base := isotest.Medium{}.Make(t)
	image, l := remaster(t, base, iso.Overlay{Files: files(seed())})
	good, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	footer := bytes.Index(good, []byte("gpustrap restore"))
	if got := l.Describe(int64(footer)); got != "restore record" {
		t.Fatalf("the footer is described as %q", got)
	}
	for _, at := range []int{16, 20, 24, 30, 32, 40, 48, 56, 64, 95} {
		b := bytes.Clone(good)
		b[footer+at] ^= 0x41
		if _, err := iso.Open(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("byte %d of the footer damaged, and the image opens", at)
		}
	}
	// Not a footer any more: the image is a medium of its own then.
	b := bytes.Clone(good)
	b[footer] = 'X'
	if im, err := iso.Open(bytes.NewReader(b), int64(len(b))); err != nil || im.Remastered() {
		t.Errorf("without its footer: %v", err)
	}
	b = bytes.Clone(good)
	b[footer-2000] ^= 1
	_, err = iso.Open(bytes.NewReader(b), int64(len(b)))
	var format *iso.FormatError
	if !errors.As(err, &format) || !strings.Contains(format.Message, "SHA-256 is wrong") {
		t.Errorf("with a damaged body: %v", err)
	}
}

func size(t testing.TB, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// grow lets an image lie on a device of n bytes.
func grow(t testing.TB, name string, n int64) {
	t.Helper()
	if err := os.Truncate(name, n); err != nil {
		t.Fatal(err)
	}
}

func verify(t testing.TB, name string) []iso.Fault {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	faults, err := iso.Verify(t.Context(), f, size(t, name), iso.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return faults
}

func wantRefused(t testing.TB, name, reason string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	_, err = iso.Open(f, size(t, name))
	var refused *iso.RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("Open: %v, want it refused", err)
	}
	if err := iso.Check(f, size(t, name)); !errors.As(err, new(*iso.RefusedError)) {
		t.Errorf("the check of what Remaster makes takes it: %v", err)
	}
	if !strings.Contains(refused.Reason, reason) || refused.Hint == "" {
		t.Errorf("Open: %q (%q), want …%s…", refused.Reason, refused.Hint, reason)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		medium isotest.Medium
		reason string
	}{
		{"20.04", isotest.Medium{Layout: isotest.Isohybrid}, "isohybrid image as Ubuntu made them up to 20.04"},
		{"no partitions", isotest.Medium{Layout: isotest.NoPartition}, "no partition"},
	} {
		t.Run(c.name, func(t *testing.T) { wantRefused(t, c.medium.Make(t), c.reason) })
	}
	base := isotest.Medium{}.Make(t)
	t.Run("multi-session", func(t *testing.T) {
		multi := t.TempDir() + "/multi.iso"
		run(t, "cp", base, multi)
		note := t.TempDir() + "/note"
		if err := os.WriteFile(note, []byte("hello"), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "xorriso", "-dev", multi, "-joliet", "on", "-boot_image", "any", "keep", "-map", note, "/note")
		wantRefused(t, multi, "multi-session")
	})
	t.Run("replayed by xorriso", func(t *testing.T) {
		// The common way to change a medium keeps the layout, without Joliet.
		out := t.TempDir() + "/replayed.iso"
		run(t, "xorriso", "-indev", base, "-outdev", out, "-boot_image", "any", "replay", "-rm", "/casper/initrd", "--", "-commit")
		im, _ := open(t, out)
		if im.Description().Joliet {
			t.Error("xorriso kept Joliet: this test proves nothing")
		}
		image, _ := remaster(t, out, iso.Overlay{Files: files(map[string]string{"new": "new"})})
		if sum(t, restore(t, image)) != sum(t, out) {
			t.Error("the restored image is not the original")
		}
		// xorriso took a listed file away and wrote a boot information table that is
		// about another descriptor: faults of the base's own.
		wantBase := map[string]bool{"casper/initrd": true, "boot/grub/i386-pc/eltorito.img": true}
		for _, f := range verify(t, image) {
			if !f.Base || f.Check == iso.CheckFiles && !wantBase[f.Where] {
				t.Errorf("Verify: %v", f)
			}
		}
	})
	b, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		image  []byte
		reason string
	}{
		{"empty", nil, "not an ISO 9660 image"},
		{"text", []byte("<html>404 not found</html>"), "not an ISO 9660 image"},
		{"zeros", make([]byte, 1<<20), "not an ISO 9660 image"},
		{"truncated by a sector", b[:len(b)-2048], "truncated"},
		{"truncated by half", b[:len(b)/2], "truncated"},
		{"truncated behind the descriptors", b[:40<<10], "truncated"},
		{"no partition table", append(make([]byte, 32<<10), b[32<<10:]...), "no partition table"},
		{"the volume alone", b[64*512:], "no partition table"},
		{"no boot record", edit(b, 17*2048, 0xFE), "no El Torito boot record"},
		// As on Ubuntu's riscv64 media, where U-Boot's partitions come first.
		{"partitions in front", withPartition(b, 50, 51), "partitions lie in front"},
		{"foreign descriptor", edit(b, 33*2048, 0xFE), "a volume descriptor of type 254"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := iso.Open(bytes.NewReader(c.image), int64(len(c.image)))
			var refused *iso.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(refused.Reason, c.reason) {
				t.Errorf("Open: %v, want …%s…", err, c.reason)
			}
		})
	}
}

// withPartition returns a copy of an image with one more partition in its primary
// GUID partition table.
func withPartition(image []byte, first, last uint64) []byte {
	b := bytes.Clone(image)
	const header, entries, entrySize, count = 512, 1024, 128, 248
	table := b[entries : entries+count*entrySize]
	copy(table[5*entrySize:], table[:32]) // the first one's type and identifier
	binary.LittleEndian.PutUint64(table[5*entrySize+32:], first)
	binary.LittleEndian.PutUint64(table[5*entrySize+40:], last)
	h := b[header : header+92]
	binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(table))
	binary.LittleEndian.PutUint32(h[16:], 0)
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	return b
}

// edit returns a copy of b with one byte changed.
func edit(b []byte, at int, v byte) []byte {
	c := bytes.Clone(b)
	c[at] = v
	return c
}

func TestUnreadable(t *testing.T) {
	base := isotest.Medium{}.Make(t)
	_, f := open(t, base)
	broken := errors.New("bad sector")
	for _, at := range []int64{0, 512, 33 << 10, 70 << 10, 80 << 10} {
		r := &badSector{f, at, broken}
		if _, err := iso.Open(r, size(t, base)); !errors.Is(err, broken) {
			t.Errorf("byte %d unreadable: Open: %v", at, err)
		}
	}
}

// badSector is a disk one byte of which cannot be read.
type badSector struct {
	r   io.ReaderAt
	at  int64
	err error
}

func (b *badSector) ReadAt(p []byte, off int64) (int, error) {
	if off <= b.at && b.at < off+int64(len(p)) {
		return 0, b.err
	}
	return b.r.ReadAt(p, off)
}
