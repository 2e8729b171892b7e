//go:build unix

package download

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock takes a file's lock and reports whether it could. The lock is flock(2),
// which the kernel drops with the process.
func tryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

func syncFolder(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
