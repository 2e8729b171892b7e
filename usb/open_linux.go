package usb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Handle is a device opened for this process alone.
type Handle struct {
	file   *os.File
	system System
	device Device
}

var _ target = (*Handle)(nil)

// How long to wait for programs that look at every new device, such as udev.
const (
	openAttempts = 20
	openPause    = 100 * time.Millisecond
)

// Open opens a device for writing, for this process alone, judges it again now
// that nobody else can take it, and drops its partitions from the kernel. The
// error is a *Refusal where the device must not be written. Close it in the end.
func Open(ctx context.Context, s System, d Device, r Request) (*Handle, error) {
	identity := d.Identity()
	r.Expected = &identity
	fd, err := openExclusive(ctx, d.Path)
	if err != nil {
		return nil, openRefusal(&d, err)
	}
	h := &Handle{file: os.NewFile(uintptr(fd), d.Path), system: s, device: d}
	if err := h.check(ctx, r); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// openExclusive opens a device past the page cache. O_EXCL without O_CREAT fails
// when anything in the kernel has claimed the device or one of its partitions
// (open(2)); the lock keeps udev away from it (systemd.io/BLOCK_DEVICE_LOCKING).
func openExclusive(ctx context.Context, path string) (int, error) {
	var fd int
	err := retry(ctx, unix.EBUSY, func() (err error) {
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_EXCL|unix.O_DIRECT|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, err
	}
	err = retry(ctx, unix.EWOULDBLOCK, func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if err != nil {
		_ = unix.Close(fd) // nothing was written
		return -1, err
	}
	return fd, nil
}

// retry repeats what fails with an error that may pass.
func retry(ctx context.Context, passing error, f func() error) error {
	for i := 0; ; i++ {
		err := f()
		if !errors.Is(err, passing) || i == openAttempts {
			return err
		}
		select {
		case <-time.After(openPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// openRefusal puts into words why a device cannot be opened.
func openRefusal(d *Device, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return &Refusal{ReasonHeld, fmt.Sprintf("%s is in use by something that this machine does not show, such as a ZFS pool or another program", d.Path),
			"name another device, or take this one out of use first"}
	case errors.Is(err, unix.EWOULDBLOCK):
		return &Refusal{ReasonHeld, fmt.Sprintf("another program has locked %s", d.Path), "wait until it is done, and try again"}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		sentence, advice := checkRights(d, &Request{Access: func(string) error { return err }})
		return &Refusal{ReasonRights, sentence, advice}
	case errors.Is(err, unix.EROFS):
		d.ReadOnly = true
		sentence, advice := checkReadOnly(d, nil)
		return &Refusal{ReasonReadOnly, sentence, advice}
	case errors.Is(err, unix.ENOMEDIUM), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		return &Refusal{ReasonNoMedium, fmt.Sprintf("there is nothing to write to at %s any more", d.Path), "look at gpustrap devices"}
	}
	return fmt.Errorf("cannot open %s: %w", d.Path, err)
}

// check makes sure that what was opened is what was asked about, judges it again,
// and drops its partitions.
func (h *Handle) check(ctx context.Context, r Request) error {
	var st unix.Stat_t
	if err := unix.Fstat(h.fd(), &st); err != nil {
		return fmt.Errorf("cannot examine %s: %w", h.device.Path, err)
	}
	changed := &Refusal{ReasonChanged, fmt.Sprintf("%s is not the device it was a moment ago", h.device.Path),
		"look at gpustrap devices and name the device again"}
	number := deviceNumber(uint64(st.Rdev))
	if st.Mode&unix.S_IFMT != unix.S_IFBLK || number != h.device.Number {
		return changed
	}
	// What the descriptor itself says cannot be of another device.
	if size, err := h.size(); err != nil || size != h.device.Size {
		return changed
	}
	if seq, err := h.sequence(); err == nil && seq != h.device.Sequence {
		return changed
	}
	now, partition, err := h.system.Find(number)
	if err != nil {
		return fmt.Errorf("cannot judge %s: %w", h.device.Path, err)
	}
	if partition != "" {
		return RefusePartition(&now, partition)
	}
	if refusal := Refuse(&now, r); refusal != nil {
		return refusal
	}
	h.device = now
	return h.dropPartitions(ctx)
}

// dropPartitions makes the kernel forget the device's partitions, so that nothing
// can be mounted from it while it is written. It fails when one is open, and then the
// kernel has them all again.
func (h *Handle) dropPartitions(ctx context.Context) error {
	var dropped []extent
	for _, p := range h.device.Partitions {
		part, err := h.system.extent(h.device.Name, p.Name)
		if err == nil {
			err = retry(ctx, unix.EBUSY, func() error { return h.partition(unix.BLKPG_DEL_PARTITION, part) })
		}
		switch {
		case err == nil:
			dropped = append(dropped, part)
			continue
		case errors.Is(err, unix.ENXIO):
			continue // it has gone by itself
		case errors.Is(err, unix.EBUSY):
			err = &Refusal{ReasonHeld, fmt.Sprintf("/dev/%s is open in another program", nodeName(p.Name)),
				"close what looks at it, and try again"}
		default:
			err = fmt.Errorf("cannot drop the partition %s from the kernel: %w", p.Name, err)
		}
		for _, d := range dropped {
			if addErr := h.partition(unix.BLKPG_ADD_PARTITION, d); addErr != nil {
				err = errors.Join(err, fmt.Errorf("cannot give the partition %s back to the kernel: %w", d.name, addErr))
			}
		}
		return err
	}
	return nil
}

// partition is the ioctl BLKPG, which adds and deletes partitions (linux/blkpg.h).
func (h *Handle) partition(operation int32, p extent) error {
	partition := unix.BlkpgPartition{Start: p.Offset, Length: p.Length, Pno: int32(p.number)}
	arg := unix.BlkpgIoctlArg{Op: operation, Datalen: int32(unsafe.Sizeof(partition)), Data: (*byte)(unsafe.Pointer(&partition))}
	return ioctl(h.fd(), unix.BLKPG, unsafe.Pointer(&arg))
}

// reread lets the kernel read the partition table again. Devices that have no
// partitions at all say EINVAL.
func (h *Handle) reread() error {
	err := retry(context.Background(), unix.EBUSY, func() error { return ioctl(h.fd(), unix.BLKRRPART, nil) })
	if err == nil || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return fmt.Errorf("the device is written, but the kernel does not reread its partitions: %w; pull the device and put it in again", err)
}

// Close gives the device back to the system.
func (h *Handle) Close() error { return h.file.Close() }

// ReadAt reads from the medium, not from the page cache.
func (h *Handle) ReadAt(p []byte, off int64) (int, error) {
	n, err := h.file.ReadAt(p, off)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, plainError(err)
}

// WriteAt writes to the medium, not to the page cache.
func (h *Handle) WriteAt(p []byte, off int64) (int, error) {
	n, err := h.file.WriteAt(p, off)
	if err != nil {
		err = fmt.Errorf("cannot write %d bytes at %d: %w", len(p), off, plainError(err))
	}
	return n, err
}

// Sync brings to the medium what the device holds in its own cache, and drops what
// the system has cached of it.
func (h *Handle) Sync() error {
	if err := h.file.Sync(); err != nil {
		return fmt.Errorf("the device did not store what it was sent: %w", plainError(err))
	}
	if err := ioctl(h.fd(), unix.BLKFLSBUF, nil); err != nil && !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("cannot drop the cache: %w", err)
	}
	return nil
}

// zero punches a hole, which a block device does with an operation that leaves
// zeros, or not at all (fallocate(2), block/fops.c in Linux).
func (h *Handle) zero(r Range) (bool, error) {
	err := unix.Fallocate(h.fd(), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r.Offset, r.Length)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOSYS):
		return false, nil
	}
	return false, err
}

// gone reports whether the device has left the machine.
func (h *Handle) gone() bool {
	now, _, err := h.system.Find(h.device.Number)
	return err != nil || now.Sequence != h.device.Sequence || now.Size != h.device.Size
}

func (h *Handle) fd() int { return int(h.file.Fd()) }

func (h *Handle) size() (int64, error) {
	var size uint64
	err := ioctl(h.fd(), unix.BLKGETSIZE64, unsafe.Pointer(&size))
	return int64(size), err
}

func (h *Handle) sequence() (uint64, error) {
	var seq uint64
	err := ioctl(h.fd(), unix.BLKGETDISKSEQ, unsafe.Pointer(&seq))
	return seq, err
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// plainError takes the path off an error: the message names the device already.
func plainError(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Number returns the number (major:minor) of the block device that a path leads to.
func Number(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", fmt.Errorf("cannot find %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", fmt.Errorf("%s is no device", path)
	}
	return deviceNumber(uint64(st.Rdev)), nil
}

// SourceNumbers returns the numbers of the devices that hold a file: that of its
// file system, and its own if it is a device.
func SourceNumbers(f *os.File) ([]string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("cannot find out where %s lies: %w", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		return []string{deviceNumber(uint64(st.Rdev))}, nil
	}
	return []string{deviceNumber(uint64(st.Dev))}, nil
}

// Access reports whether this process may write to a path.
func Access(path string) error { return unix.Access(path, unix.R_OK|unix.W_OK) }

// nodeNumber returns the number of the device that a node stands for; empty when the
// file system does not tell.
func nodeNumber(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return deviceNumber(uint64(st.Rdev))
}

func deviceNumber(dev uint64) string {
	return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
}
