package usb

import (
	"bytes"
	"sync"
)

// zeroer makes runs of zeros without sending them, on a device that has proved
// that it can. Many devices say they can discard and then read back what was there
// before, or nothing in particular.
type zeroer struct {
	target target

	once  sync.Once
	works bool
	err   error
}

// zero makes a range read as zeros and reports whether it did.
func (z *zeroer) zero(r Range) (bool, error) {
	z.once.Do(func() { z.works, z.err = z.prove(r) })
	if z.err != nil || !z.works {
		return false, z.err
	}
	return z.target.zero(r)
}

// prove fills a range with ones, asks the device to zero it, and looks.
func (z *zeroer) prove(r Range) (bool, error) {
	if done, err := z.target.zero(r); !done || err != nil {
		return false, err
	}
	b := alignedBuffer(int(r.Length))
	for i := range b {
		b[i] = 0xFF
	}
	if _, err := z.target.WriteAt(b, r.Offset); err != nil {
		return false, err
	}
	if done, err := z.target.zero(r); !done || err != nil {
		return false, err
	}
	if _, err := z.target.ReadAt(b, r.Offset); err != nil {
		return false, err
	}
	return bytes.Count(b, []byte{0}) == len(b), nil
}
