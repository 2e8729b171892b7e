package usb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// DifferenceError says where a device does not hold what was written to it.
type DifferenceError struct {
	// Offset is the first byte that differs, in bytes from the device's beginning.
	Offset int64
	// Meaning names what that byte belongs to.
	Meaning    string
	Want, Have byte
}

// Error names the place.
func (e *DifferenceError) Error() string {
	return fmt.Sprintf("byte %d, in %s, reads back as 0x%02x and was written as 0x%02x", e.Offset, e.Meaning, e.Have, e.Want)
}

// Hint says what such a difference means.
func (e *DifferenceError) Hint() string {
	return "the device does not keep what is written to it: it is worn out, smaller than it says, or badly connected; use another one"
}

// compare reads ranges of the device and compares them with the plan. It reports
// the first difference.
func (w *writer) compare(ctx context.Context, ranges []Range) error {
	group, stop := errgroup.WithContext(ctx)
	work := make(chan Range)
	first := &firstDifference{}
	group.Go(func() error {
		defer close(work)
		for r := range chunks(ranges) {
			select {
			case work <- r:
			case <-stop.Done():
				return stop.Err()
			}
			if first.found.Load() {
				return nil // what comes later cannot be the first
			}
		}
		return nil
	})
	for _, buffer := range w.chunkBuffers()[:queueDepth] {
		group.Go(func() error {
			want, have := buffer[:chunkSize/2], buffer[chunkSize/2:]
			for r := range work {
				for at := r.Offset; at < r.End(); {
					if err := stop.Err(); err != nil {
						return err
					}
					n := min(int64(len(want)), r.End()-at)
					if err := w.compareChunk(want[:n], have[:n], at, first); err != nil {
						return err
					}
					at += n
					w.advance(n)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return first.error(w)
}

// compareChunk compares one chunk. A device that cannot be read is an error that
// names the place.
func (w *writer) compareChunk(want, have []byte, at int64, first *firstDifference) error {
	if _, err := w.target.ReadAt(have, at); err != nil {
		if errors.Is(err, context.Canceled) {
			return err
		}
		return fmt.Errorf("cannot read back %d bytes at %d, in %s: %w", len(have), at, w.plan.meaning(at, w.options.Describe), err)
	}
	if _, err := w.plan.ReadAt(want, at); err != nil {
		return err
	}
	if bytes.Equal(want, have) {
		return nil
	}
	for i := range want {
		if want[i] != have[i] {
			first.report(at+int64(i), want[i], have[i])
			return nil
		}
	}
	return nil
}

// firstDifference collects the lowest difference of several readers.
type firstDifference struct {
	found      atomic.Bool
	mu         sync.Mutex
	offset     int64
	want, have byte
}

func (f *firstDifference) report(offset int64, want, have byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.found.Load() || offset < f.offset {
		f.offset, f.want, f.have = offset, want, have
	}
	f.found.Store(true)
}

func (f *firstDifference) error(w *writer) error {
	if !f.found.Load() {
		return nil
	}
	return &DifferenceError{Offset: f.offset, Meaning: w.plan.meaning(f.offset, w.options.Describe), Want: f.want, Have: f.have}
}
