//go:build !linux

package iso

import (
	"errors"
	"io/fs"
	"os"
)

// Sharing blocks and copying inside the kernel are Linux's; elsewhere files are
// copied through memory.

func cloneFile(_, _ *os.File) error { return errors.ErrUnsupported }

func cloneRange(_ *os.File, _ int64, _ *os.File, _, _ int64) error { return errors.ErrUnsupported }

func copyRange(_ *os.File, _ int64, _ *os.File, _, _ int64) (int64, error) {
	return 0, errors.ErrUnsupported
}

func startWriteback(_ *os.File, _, _ int64) {}

func createUnnamed(path string, perm fs.FileMode) (*newFile, error) {
	return createTemporary(path, perm)
}

func (n *newFile) publish(path string) error { return n.rename(path) }
