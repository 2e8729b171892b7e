package apt_test

import (
	"testing"

	"golang.org/x/sys/unix"
)

// mountSmall mounts a file system of 64 KiB in memory.
func mountSmall(t *testing.T, folder string) {
	t.Helper()
	if err := unix.Mount("none", folder, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
}
