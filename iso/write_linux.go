package iso

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// cloneFile lets a file share all blocks of another (ioctl_ficlone(2)).
func cloneFile(to, from *os.File) error {
	return unix.IoctlFileClone(int(to.Fd()), int(from.Fd()))
}

// cloneRange lets a range of a file share blocks of another (ioctl_ficlonerange(2)).
func cloneRange(to *os.File, toOff int64, from *os.File, fromOff, n int64) error {
	return unix.IoctlFileCloneRange(int(to.Fd()), &unix.FileCloneRange{
		Src_fd: int64(from.Fd()), Src_offset: uint64(fromOff), Src_length: uint64(n), Dest_offset: uint64(toOff),
	})
}

// copyRange copies between files inside the kernel (copy_file_range(2)).
func copyRange(to *os.File, toOff int64, from *os.File, fromOff, n int64) (int64, error) {
	done, err := unix.CopyFileRange(int(from.Fd()), &fromOff, int(to.Fd()), &toOff, int(n), 0)
	return int64(done), err
}

// startWriteback lets the kernel begin to write a range to the disk, so that the
// sync at the end finds little left. It is a hint: errors do not matter.
func startWriteback(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

// createUnnamed creates a file without a name in the path's directory (O_TMPFILE of
// open(2)): if the program is killed, nothing is left. File systems that cannot
// get a temporary name instead.
func createUnnamed(path string, perm fs.FileMode) (*newFile, error) {
	dir := filepath.Dir(path)
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, uint32(perm))
	if err != nil {
		return createTemporary(path, perm)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := f.Chmod(perm); err != nil { // whatever the umask
		_ = f.Close() // nothing was written
		return nil, err
	}
	return &newFile{File: f}, nil
}

// publish gives the file its name.
func (n *newFile) publish(path string) error {
	if n.temporary != "" {
		return n.rename(path)
	}
	// A link cannot replace a file, so it first gets a name beside the other's.
	self := fmt.Sprintf("/proc/self/fd/%d", n.Fd())
	for i := range 1000 {
		name := filepath.Join(filepath.Dir(path), fmt.Sprintf("%s%d%s", temporaryPrefix, i, temporarySuffix))
		err := unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot name the file: %w", err)
		}
		n.temporary = name
		return n.rename(path)
	}
	return fmt.Errorf("cannot name the file: %w", fs.ErrExist)
}
