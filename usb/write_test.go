package usb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

// memory is a device in memory that breaks as it is told.
type memory struct {
	mu      sync.Mutex
	data    []byte
	writes  int
	zeroes  func(m *memory, r Range) bool // nil: cannot
	failAt  int                           // the write that fails, counted from 1
	readBad int64                         // a byte that reads back wrong; -1 for none
	onWrite func(n int)
	away    bool
	t       testing.TB
}

func newMemory(t testing.TB, size int) *memory {
	m := &memory{t: t, data: make([]byte, size), readBad: -1}
	random := rand.NewPCG(3, 4)
	for i := 0; i+8 <= size; i += 8 { // what was on the device before
		*(*uint64)(unsafe.Pointer(&m.data[i])) = random.Uint64()
	}
	return m
}

var errBroken = errors.New("input/output error")

func (m *memory) direct(p []byte, off int64) {
	if off%mediumSector != 0 || len(p)%mediumSector != 0 || uintptr(unsafe.Pointer(unsafe.SliceData(p)))%mediumSector != 0 {
		m.t.Errorf("%d bytes at %d are not what direct input and output takes", len(p), off)
	}
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.direct(p, off)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	if m.onWrite != nil {
		m.onWrite(m.writes)
	}
	if m.away || m.failAt > 0 && m.writes >= m.failAt {
		return 0, errBroken
	}
	return copy(m.data[off:], p), nil
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	m.direct(p, off)
	m.mu.Lock()
	defer m.mu.Unlock()
	copy(p, m.data[off:])
	if at := m.readBad - off; m.readBad >= 0 && at >= 0 && at < int64(len(p)) {
		p[at] ^= 0x10
	}
	return len(p), nil
}

func (m *memory) Sync() error { return nil }
func (m *memory) gone() bool  { return m.away }
func (m *memory) zero(r Range) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.zeroes == nil {
		return false, nil
	}
	return m.zeroes(m, r), nil
}

const imageSize = 11<<20 + 2048

// image has an MBR signature, noise, and a chunk of zeros in the middle.
func image() []byte {
	b := make([]byte, imageSize)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	clear(b[446:510])
	clear(b[512:520])
	b[510], b[511] = 0x55, 0xAA
	clear(b[chunkSize : 2*chunkSize])
	return b
}

func planFor(t testing.TB, img []byte, size int) *Plan {
	t.Helper()
	p, err := NewPlan(bytes.NewReader(img), int64(len(img)), int64(size), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wanted is what the device must hold in the plan's ranges.
func holdsPlan(t testing.TB, m *memory, p *Plan) {
	t.Helper()
	for _, r := range p.Ranges() {
		want := make([]byte, r.Length)
		if _, err := p.ReadAt(want, r.Offset); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, m.data[r.Offset:r.End()]) {
			t.Errorf("the device does not hold the plan from %d to %d", r.Offset, r.End())
		}
	}
}

func TestWrite(t *testing.T) {
	img := image()
	for _, size := range []int{roundTo(imageSize), 20 << 20, 13<<20 + 512} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			m := newMemory(t, size)
			before := bytes.Clone(m.data)
			p := planFor(t, img, size)
			steps := map[Step]int64{}
			err := write(t.Context(), m, p, WriteOptions{Progress: func(s Step, done, total int64) { steps[s] = max(steps[s], done) }})
			if err != nil {
				t.Fatal(err)
			}
			holdsPlan(t, m, p)
			if !bytes.Equal(m.data[:imageSize], img) {
				t.Error("the image is not on the device")
			}
			at := int64(0)
			for _, r := range append(p.Ranges(), Range{int64(size), 0}) {
				if !bytes.Equal(m.data[at:r.Offset], before[at:r.Offset]) {
					t.Errorf("bytes %d to %d were not to be written", at, r.Offset)
				}
				at = r.End()
			}
			if steps[StepVerify] != p.Written() {
				t.Errorf("verified %d of %d bytes", steps[StepVerify], p.Written())
			}
		})
	}
}

func roundTo(n int) int { return int(roundUp(int64(n), mediumSector)) }

// TestWriteOrder stops after each write in turn: as long as the device does not
// hold all of the plan, its first sectors are zero.
func TestWriteOrder(t *testing.T) {
	img := image()
	const size = 20 << 20
	p := planFor(t, img, size)
	whole := newMemory(t, size)
	if err := write(t.Context(), whole, p, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= whole.writes; n++ {
		m := newMemory(t, size)
		before := bytes.Clone(m.data)
		m.failAt = n
		err := write(t.Context(), m, p, WriteOptions{})
		var stopped *StoppedError
		if !errors.As(err, &stopped) || !errors.Is(err, errBroken) {
			t.Fatalf("write %d fails: %v", n, err)
		}
		switch {
		case n == 1:
			if !bytes.Equal(m.data, before) {
				t.Error("the first write failed and the device changed")
			}
		case n < whole.writes-1 && !isZero(m.data[:headSize]):
			t.Errorf("write %d fails and the first MiB is not zero", n)
		case !isZero(m.data[:bootSize]):
			t.Errorf("write %d fails and the first sectors are not zero", n)
		}
		if n > 2 && n < whole.writes && !strings.Contains(stopped.Hint(), "first MiB is zero") && n < whole.writes-1 {
			t.Errorf("write %d fails: %s", n, stopped.Hint())
		}
		// A second run succeeds.
		m.failAt = 0
		if err := write(t.Context(), m, p, WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		holdsPlan(t, m, p)
	}
}

// cached is a device with a cache of its own, which loses power with one write.
type cached struct {
	*memory
	medium  []byte
	pending []pendingWrite // not stored yet, and stored in any order
	cutAt   int
}

type pendingWrite struct {
	data   []byte
	offset int64
}

func (c *cached) WriteAt(p []byte, off int64) (int, error) {
	n, err := c.memory.WriteAt(p, off)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.writes <= c.cutAt {
		for _, w := range c.pending {
			if off < headSize && w.offset >= headSize && !isZero(p) {
				c.t.Errorf("the first MiB is written before what is at %d is stored", w.offset)
			}
		}
		c.pending = append(c.pending, pendingWrite{bytes.Clone(p), off})
	}
	return n, err
}

func (c *cached) Sync() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writes < c.cutAt {
		for _, w := range c.pending {
			copy(c.medium[w.offset:], w.data)
		}
		c.pending = nil
	}
	return nil
}

// TestWritePowerCut cuts the power of a device at each write in turn, and lets it
// lose any of what it has not been told to store. As long as what was there before
// could boot it is whole, and so is what is written.
func TestWritePowerCut(t *testing.T) {
	img := image()
	const size = 20 << 20
	p := planFor(t, img, size)
	whole := newMemory(t, size)
	before := bytes.Clone(whole.data)
	if err := write(t.Context(), whole, p, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(7, 8))
	for i := range 4 * whole.writes {
		c := &cached{memory: newMemory(t, size), medium: bytes.Clone(before), cutAt: 1 + i%whole.writes}
		c.failAt = c.cutAt + 1
		_ = write(t.Context(), c, p, WriteOptions{}) // all but the last cut ends with an error
		for _, w := range c.pending {
			if random.IntN(2) == 0 {
				copy(c.medium[w.offset:], w.data)
			}
		}
		switch boot := c.medium[:bootSize]; {
		case isZero(boot):
		case bytes.Equal(boot, before[:bootSize]):
			if !bytes.Equal(c.medium[headSize:], before[headSize:]) {
				t.Errorf("power lost at write %d: what was there would boot, and is not whole", c.cutAt)
			}
		default:
			holdsPlan(t, &memory{data: c.medium}, p)
		}
	}
}

func TestWriteInterrupted(t *testing.T) {
	img := image()
	m := newMemory(t, 20<<20)
	ctx, cancel := context.WithCancel(t.Context())
	m.onWrite = func(n int) {
		if n == 3 {
			cancel()
		}
	}
	err := write(ctx, m, planFor(t, img, 20<<20), WriteOptions{})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "interrupted") || !isZero(m.data[:headSize]) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestWriteDevicePulled(t *testing.T) {
	m := newMemory(t, 20<<20)
	m.onWrite = func(n int) { m.away = n >= 4 }
	err := write(t.Context(), m, planFor(t, image(), 20<<20), WriteOptions{})
	var stopped *StoppedError
	if !errors.As(err, &stopped) || !stopped.Gone || !strings.Contains(err.Error(), "no longer there") {
		t.Errorf("pulled: %v", err)
	}
}

// TestVerifyFindsAFlippedByte flips one byte anywhere, in reading back, and finds
// it and what it belongs to.
func TestVerifyFindsAFlippedByte(t *testing.T) {
	img := image()
	const size = 20 << 20
	p := planFor(t, img, size)
	m := newMemory(t, size)
	if err := write(t.Context(), m, p, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	describe := func(off int64) string { return fmt.Sprintf("file %d", off/1000) }
	random := rand.New(rand.NewPCG(5, 6))
	for i := range 60 {
		r := p.ranges[i%len(p.ranges)]
		at := r.Offset + random.Int64N(r.Length)
		m.data[at] ^= 1
		var different *DifferenceError
		err := verify(t.Context(), m, p, WriteOptions{Describe: describe})
		if !errors.As(err, &different) || different.Offset != at {
			t.Fatalf("byte %d flipped: %v", at, err)
		}
		want := "the cleared space behind the image"
		if at < imageSize {
			want = describe(at)
		}
		if different.Meaning != want {
			t.Errorf("byte %d is said to be in %s and not in %s", at, different.Meaning, want)
		}
		m.data[at] ^= 1
	}
	if err := verify(t.Context(), m, p, WriteOptions{}); err != nil {
		t.Error(err)
	}
}

// TestWriteVerifies holds that a device that does not keep what it is sent does
// not boot.
func TestWriteVerifies(t *testing.T) {
	for _, bad := range []int64{100, 5000, headSize + 77, imageSize - 1} {
		m := newMemory(t, 20<<20)
		m.readBad = bad
		err := write(t.Context(), m, planFor(t, image(), 20<<20), WriteOptions{})
		var different *DifferenceError
		if !errors.As(err, &different) || different.Offset != bad {
			t.Errorf("byte %d reads back wrong: %v", bad, err)
		}
		if !isZero(m.data[:headSize]) {
			t.Errorf("byte %d reads back wrong, and the device would boot", bad)
		}
	}
}

// TestWriteSmallerThanItSays is a device that wraps around: the classic fake.
func TestWriteSmallerThanItSays(t *testing.T) {
	const size, real = 20 << 20, 8 << 20
	m := newMemory(t, size)
	fake := &wrapping{m, real}
	err := write(t.Context(), fake, planFor(t, image(), size), WriteOptions{})
	var different *DifferenceError
	if !errors.As(err, &different) || !strings.Contains(different.Hint(), "smaller than it says") {
		t.Errorf("a fake device passed: %v", err)
	}
}

type wrapping struct {
	*memory
	real int64
}

func (w *wrapping) WriteAt(p []byte, off int64) (int, error) {
	for i := 0; i < len(p); i += mediumSector {
		if _, err := w.memory.WriteAt(p[i:i+mediumSector], (off+int64(i))%w.real); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func (w *wrapping) ReadAt(p []byte, off int64) (int, error) {
	for i := 0; i < len(p); i += mediumSector {
		if _, err := w.memory.ReadAt(p[i:i+mediumSector], (off+int64(i))%w.real); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// TestZeroRuns holds that zeros are left out only on a device that proves it.
func TestZeroRuns(t *testing.T) {
	img := image()
	zeroing := func(m *memory, r Range) bool { clear(m.data[r.Offset:r.End()]); return true }
	lying := func(*memory, Range) bool { return true } // says yes and keeps what was there
	sent := map[string]int{}
	for name, zeroes := range map[string]func(*memory, Range) bool{"none": nil, "zeroing": zeroing, "lying": lying} {
		m := newMemory(t, 20<<20)
		m.zeroes = zeroes
		p := planFor(t, img, 20<<20)
		if err := write(t.Context(), m, p, WriteOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		holdsPlan(t, m, p)
		sent[name] = m.writes
	}
	if sent["zeroing"] > sent["none"] || sent["lying"] != sent["none"]+1 {
		t.Errorf("writes: %v", sent)
	}
}
