package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// EmptyDisk makes a sparse disk image of size bytes.
func EmptyDisk(t *testing.T, size int64) string {
	t.Helper()
	f, err := os.CreateTemp(Scratch(), "disk*.img")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(f.Name()) })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// IsEmpty tells whether nothing was written to a disk that EmptyDisk made: then
// the file has no blocks.
func IsEmpty(t *testing.T, path string) bool {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks == 0
}

// The second partition of a disk of data, in bytes.
const (
	dataStart = 33 << 20
	dataSize  = 64 << 20
)

// DataDisk makes a disk that somebody's file is on, as an earlier installation
// left it: kept, with the line late.
func DataDisk(t *testing.T) string {
	t.Helper()
	disk := EmptyDisk(t, 128<<20)
	sfdisk := exec.Command(oracle.Need(t, "sfdisk"), "--quiet", disk)
	sfdisk.Stdin = strings.NewReader("label: gpt\nstart=1MiB,size=32MiB\nstart=33MiB,size=64MiB\n")
	if out, err := sfdisk.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "kept"), []byte("late\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	Run(t, oracle.Need(t, "mke2fs"), "-q", "-t", "ext4", "-d", folder, "-E", fmt.Sprintf("offset=%d", dataStart), disk, fmt.Sprintf("%dk", dataSize>>10))
	return disk
}

// CheckKept holds that the file is still on a disk that DataDisk made, that the file
// system is the same one, and that the installed system mounted it at /srv.
func CheckKept(t *testing.T, disk string) {
	t.Helper()
	volume := fmt.Sprintf("%s?offset=%d", disk, dataStart)
	if got := Run(t, oracle.Need(t, "debugfs"), "-R", "cat /kept", volume); !strings.HasSuffix(got, "late\n") {
		t.Errorf("the file is gone: %s", got)
	}
	if got := Run(t, oracle.Need(t, "dumpe2fs"), "-h", volume); !regexp.MustCompile(`Last mounted on: +/srv\n`).MatchString(got) {
		t.Errorf("the installed system did not mount the disk of data:\n%s", got)
	}
}
