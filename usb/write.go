package usb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sync/errgroup"
)

const (
	// chunkSize is how much is written and read at once: large enough for the
	// erase blocks of flash memory.
	chunkSize = 4 << 20
	// queueDepth is how many writes or reads are under way at once.
	queueDepth = 4
	// readAhead is how many chunks are read while those are.
	readAhead = 2
	// bufferAlign is what direct input and output asks of a buffer's address, at
	// most: a page.
	bufferAlign = 4096
	// bootSize is what is written at the very end: the master boot record and the
	// header of the partition table, in one write.
	bootSize = 4096
)

// target is an opened device. Offsets, lengths and the addresses of buffers are
// multiples of what direct input and output asks for.
type target interface {
	io.ReaderAt
	io.WriterAt
	// Sync brings to the medium what the device holds in its own cache.
	Sync() error
	// zero makes a range read as zeros without sending them, and reports whether
	// the device can do that.
	zero(r Range) (bool, error)
	// gone reports whether the device is no longer there.
	gone() bool
}

// Step is what Write is doing.
type Step string

// The steps that take long.
const (
	StepWrite  Step = "write"
	StepVerify Step = "verify"
)

// WriteOptions are options of Write and Verify.
type WriteOptions struct {
	// Progress is called from time to time with the bytes done and in all.
	Progress func(step Step, done, total int64)
	// Describe names what an offset of the image belongs to, for the message about
	// a difference; nil says only "the image".
	Describe func(offset int64) string
}

// StoppedError says how far writing or verifying a device came.
type StoppedError struct {
	Step        Step
	Done, Total int64 // bytes
	// State says what the device is like now.
	State string
	// Gone says that the device is no longer there.
	Gone bool
	Err  error
}

// Error says what happened, how far it came and what is left.
func (e *StoppedError) Error() string {
	verb := map[Step]string{StepWrite: "writing", StepVerify: "verifying"}[e.Step]
	what := e.Err.Error()
	switch {
	case e.Gone:
		what = "the device is no longer there (" + what + ")"
	case errors.Is(e.Err, context.Canceled):
		what = "interrupted"
	}
	return fmt.Sprintf("%s stopped after %d of %d MiB: %s", verb, e.Done>>20, e.Total>>20, what)
}

// Unwrap returns the cause.
func (e *StoppedError) Unwrap() error { return e.Err }

// Hint says in which state the device is.
func (e *StoppedError) Hint() string {
	var different *DifferenceError
	if errors.As(e.Err, &different) {
		return different.Hint() + "\n" + e.State
	}
	return e.State
}

// write puts the plan on a device and verifies it by reading it back.
//
// The plan's head (the first MiB of a device) is zeroed first, and the device's last
// MiB. Then all but the head is written, synced and verified; the head comes last,
// and at the very end its first sectors, so that a device on which any step failed
// does not boot.
func write(ctx context.Context, t target, p *Plan, o WriteOptions) error {
	w := &writer{target: t, plan: p, options: o}
	var body []Range
	for _, r := range p.ranges {
		if from := max(r.Offset, p.head.End()); from < r.End() {
			body = append(body, Range{from, r.End() - from})
		}
	}
	w.begin(StepWrite, p.Written()-p.head.Length)
	if err := w.blank(); err != nil {
		return w.stopped(err)
	}
	w.isBlank = true
	if err := w.copy(ctx, body); err != nil {
		return w.stopped(err)
	}
	if err := t.Sync(); err != nil {
		return w.stopped(err)
	}
	w.begin(StepVerify, p.Written())
	if err := w.compare(ctx, body); err != nil {
		return w.stopped(err)
	}
	if err := w.head(ctx, p.head); err != nil {
		w.isBlank = w.blank() == nil // whatever was written of it
		return w.stopped(err)
	}
	return nil
}

// verify compares a device with the plan.
func verify(ctx context.Context, t target, p *Plan, o WriteOptions) error {
	w := &writer{target: t, plan: p, options: o}
	w.begin(StepVerify, p.Written())
	if err := w.compare(ctx, p.ranges); err != nil {
		return w.stopped(err)
	}
	return nil
}

// writer is one run of write or verify.
type writer struct {
	target  target
	plan    *Plan
	options WriteOptions
	isBlank bool
	buffers [][]byte // of chunkSize, made once

	step  Step
	total int64
	done  atomic.Int64
}

func (w *writer) begin(step Step, total int64) {
	w.step, w.total = step, total
	w.done.Store(0)
}

func (w *writer) advance(n int64) {
	done := w.done.Add(n)
	if w.options.Progress != nil {
		w.options.Progress(w.step, done, w.total)
	}
}

func (w *writer) stopped(err error) error {
	var different *DifferenceError
	gone := !errors.As(err, &different) && !errors.Is(err, context.Canceled) && w.target.gone()
	state := "look at what is on the device before it is used"
	if w.isBlank {
		state = w.plan.blankState
	}
	return &StoppedError{Step: w.step, Done: w.done.Load(), Total: w.total, State: state, Gone: gone, Err: err}
}

// blank zeroes the plan's head and then what could bring back what was there.
func (w *writer) blank() error {
	zeros := alignedBuffer(headSize)
	// Touched, so that its pages are there: the kernel would make them while it
	// writes, and a SIGKILL meanwhile leaves half of the range written.
	clear(zeros)
	for _, r := range append([]Range{w.plan.head}, w.plan.clear...) {
		if _, err := w.target.WriteAt(zeros[:r.Length], r.Offset); err != nil {
			return err
		}
		if err := w.target.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// head writes and verifies the plan's head: first all but what makes a device boot.
func (w *writer) head(ctx context.Context, head Range) error {
	b := alignedBuffer(int(head.Length))
	if _, err := w.plan.ReadAt(b, head.Offset); err != nil {
		return err
	}
	boot := min(bootSize, head.Length)
	for _, part := range []Range{{boot, head.Length - boot}, {0, boot}} {
		if part.Length == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := w.target.WriteAt(b[part.Offset:part.End()], head.Offset+part.Offset); err != nil {
			return err
		}
		if err := w.target.Sync(); err != nil {
			return err
		}
	}
	return w.compare(ctx, []Range{head})
}

// chunkBuffers returns the buffers that all steps share.
func (w *writer) chunkBuffers() [][]byte {
	for len(w.buffers) < queueDepth+readAhead {
		w.buffers = append(w.buffers, alignedBuffer(chunkSize))
	}
	return w.buffers
}

// filled is a chunk read from the plan.
type filled struct {
	Range
	buffer []byte // of chunkSize
}

// copy writes ranges of the plan. One goroutine reads the plan in order, and
// several write what it has read, so that the device never waits for the source.
func (w *writer) copy(ctx context.Context, ranges []Range) error {
	group, ctx := errgroup.WithContext(ctx)
	free := make(chan []byte, queueDepth+readAhead)
	for _, b := range w.chunkBuffers() {
		free <- b
	}
	ready := make(chan filled)
	group.Go(func() error {
		defer close(ready)
		for r := range chunks(ranges) {
			var buffer []byte
			select {
			case buffer = <-free:
			case <-ctx.Done():
				return ctx.Err()
			}
			if _, err := w.plan.ReadAt(buffer[:r.Length], r.Offset); err != nil {
				return err
			}
			select {
			case ready <- filled{r, buffer}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	z := &zeroer{target: w.target}
	for range queueDepth {
		group.Go(func() error {
			for c := range ready {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := w.put(z, c); err != nil {
					return err
				}
				w.advance(c.Length)
				free <- c.buffer
			}
			return nil
		})
	}
	return group.Wait()
}

// put writes one chunk.
func (w *writer) put(z *zeroer, c filled) error {
	data := c.buffer[:c.Length]
	if isZero(data) {
		if skipped, err := z.zero(c.Range); skipped || err != nil {
			return err
		}
	}
	_, err := w.target.WriteAt(data, c.Offset)
	return err
}

// chunks cuts ranges into pieces that begin at multiples of chunkSize.
func chunks(ranges []Range) func(yield func(Range) bool) {
	return func(yield func(Range) bool) {
		for _, r := range ranges {
			for at := r.Offset; at < r.End(); {
				next := min(r.End(), at/chunkSize*chunkSize+chunkSize)
				if !yield(Range{at, next - at}) {
					return
				}
				at = next
			}
		}
	}
}

// alignedBuffer returns a buffer that direct input and output takes.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+bufferAlign)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (bufferAlign - 1)
	return b[skip : skip+n : skip+n]
}

// isZero reports whether all bytes are zero.
func isZero(b []byte) bool {
	for len(b) >= 8 {
		if *(*uint64)(unsafe.Pointer(unsafe.SliceData(b))) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
