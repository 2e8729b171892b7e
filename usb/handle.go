package usb

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// ErrPlatform says that devices can only be listed and written on Linux.
var ErrPlatform = errors.New("devices can only be listed and written on Linux")

// Write puts the plan on the device and verifies it by reading it back from the
// medium. On any failure the device's first MiB is zero, and the error is a
// *StoppedError. At the end the kernel rereads the partition table.
func (h *Handle) Write(ctx context.Context, p *Plan, o WriteOptions) error {
	if p.size != h.device.Size {
		return fmt.Errorf("cannot write %s: the plan is for a device of %d bytes, and it has %d", h.device.Path, p.size, h.device.Size)
	}
	if err := write(ctx, h, p, o); err != nil {
		_ = h.reread() // the failure is what matters, and the device may be gone
		return err
	}
	return h.reread()
}

// Verify compares the device with the plan by reading it from the medium. A
// difference is a *DifferenceError inside a *StoppedError.
func (h *Handle) Verify(ctx context.Context, p *Plan, o WriteOptions) error {
	return verify(ctx, h, p, o)
}

// Device returns the device as it was when it was opened.
func (h *Handle) Device() Device { return h.device }

// Reader reads the device at any offset and length, from the medium.
func (h *Handle) Reader() io.ReaderAt { return bounce{h, h.device.Size} }

// bounce reads whole blocks through a buffer that direct input takes.
type bounce struct {
	r    io.ReaderAt
	size int64
}

func (b bounce) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= b.size {
		return 0, io.EOF
	}
	from, to := off/bufferAlign*bufferAlign, min(b.size, roundUp(off+int64(len(p)), bufferAlign))
	block := alignedBuffer(int(to - from))
	if _, err := b.r.ReadAt(block, from); err != nil {
		return 0, err
	}
	n := copy(p, block[off-from:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
